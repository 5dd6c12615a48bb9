#!/usr/bin/env bash
# A run on all GPUs of this machine, by one process; started again until it ends well:
#
#   launch/gpu.sh [--dry_run] -- FLAGS OF jaxrg.main
#
# It reads PYTHON, and TRIES (10), how often a run that failed may begin again.
set -euo pipefail
# shellcheck source=launch/dry.sh
source "$(dirname "${BASH_SOURCE[0]}")/dry.sh"

flags=()
while (($#)); do
  case $1 in
    --dry_run) dry_run=true ;;
    --) shift; flags=("$@"); break ;;
    *) fail "unknown argument $1; flags of jaxrg.main go after --" ;;
  esac
  shift
done
((${#flags[@]})) || fail "the flags of jaxrg.main are needed: -- --config=... --workdir=..."

for ((try = 1; try <= ${TRIES:-10}; try++)); do
  if run "${PYTHON:-python}" -m jaxrg.main "${flags[@]}"; then
    exit 0
  fi
  echo "Try $try of ${TRIES:-10} failed." >&2
done
exit 1
