#!/usr/bin/env bash
# A run on GPU nodes under Slurm, one process a GPU:
#
#   launch/slurm.sh [--dry_run] -- FLAGS OF jaxrg.main
#
# It reads NAME, NODES (2), GPUS (of a node: 8), HOURS (24), PARTITION, PYTHON. The job is told
# five minutes before its end: it saves, and goes back into the queue to go on.
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

gpus=${GPUS:-8}
place=()
[[ -z ${PARTITION:-} ]] || place=(--partition="$PARTITION")
printf -v line ' %q' "${flags[@]}"
script="#!/usr/bin/env bash
# The notice comes to this shell alone: pass it on, and once all have saved, queue again.
trap 'scancel --signal=TERM \$SLURM_JOB_ID; wait; scontrol requeue \$SLURM_JOB_ID' USR1
srun ${PYTHON:-python} -m jaxrg.main --multihost$line &
wait \$!"
echo "$script"
submit=(sbatch --job-name="${NAME:-jaxrg}" --nodes="${NODES:-2}" --ntasks-per-node="$gpus"
  --gpus-per-node="$gpus" --time="${HOURS:-24}:00:00" --signal=B:USR1@300 --requeue
  --open-mode=append "${place[@]}")
if [[ $dry_run == true ]]; then
  run "${submit[@]}"
else
  run "${submit[@]}" <<<"$script"
fi
