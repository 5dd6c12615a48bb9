#!/usr/bin/env bash
# One Cloud TPU slice, from its creation to its end:
#
#   launch/tpu.sh COMMAND [--dry_run] [-- FLAGS OF jaxrg.main]
#
#   create     a slice at once, or with SPOT=true one that may be taken away
#   queue      the same, whenever there is one
#   copy       this repository to all workers
#   install    jaxrg on all workers
#   run        python -m jaxrg.main --multihost FLAGS on all workers, in the background
#   logs       what the workers say
#   resume     run; where the slice was taken away, first a new one, until the run ends
#   delete     the slice: until then it costs
#
# It reads NAME, ZONE, ACCELERATOR (v5litepod-256), VERSION (of the runtime), PROJECT, SPOT.
# The run's --workdir must be a bucket that the workers' service account may write to.
set -euo pipefail
# shellcheck source=launch/dry.sh
source "$(dirname "${BASH_SOURCE[0]}")/dry.sh"

command=${1:-}
shift || true
flags=()
while (($#)); do
  case $1 in
    --dry_run) dry_run=true ;;
    --) shift; flags=("$@"); break ;;
    *) fail "unknown argument $1; flags of jaxrg.main go after --" ;;
  esac
  shift
done

name=${NAME:-jaxrg}
zone=${ZONE:-us-west4-a}
accelerator=${ACCELERATOR:-v5litepod-256}
version=${VERSION:-v2-alpha-tpuv5-lite}
spot=${SPOT:-false}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
place=(--zone="$zone")
[[ -z ${PROJECT:-} ]] || place+=(--project="$PROJECT")
tpu=(gcloud compute tpus tpu-vm)
queued=(gcloud compute tpus queued-resources)

on_all() {
  run "${tpu[@]}" ssh "$name" "${place[@]}" --worker=all --command="$1"
}

create() {
  local kind=()
  [[ $spot == false ]] || kind=(--spot)
  run "${tpu[@]}" create "$name" "${place[@]}" --accelerator-type="$accelerator" \
    --version="$version" "${kind[@]}"
}

queue() {
  local kind=()
  [[ $spot == false ]] || kind=(--spot)
  run "${queued[@]}" create "$name" "${place[@]}" --node-id="$name" \
    --accelerator-type="$accelerator" --runtime-version="$version" "${kind[@]}"
}

copy() {
  run tar -C "$root" --exclude=.git --exclude=runs -czf "/tmp/$name.tar.gz" .
  run "${tpu[@]}" scp "/tmp/$name.tar.gz" "$name:jaxrg.tar.gz" "${place[@]}" --worker=all
  on_all "mkdir -p jaxrg && tar -C jaxrg -xzf jaxrg.tar.gz"
}

install() {
  on_all "python3.11 -m venv venv && venv/bin/pip install -q -e 'jaxrg[tpu]'"
}

# Its own status is the last line of the log: resume waits for it.
start() {
  ((${#flags[@]})) || fail "run needs the flags of jaxrg.main: -- --config=... --workdir=gs://..."
  local line quoted
  printf -v line ' %q' "${flags[@]}"
  printf -v quoted %q "../venv/bin/python -m jaxrg.main --multihost$line; echo status \$?"
  on_all "cd jaxrg && (nohup bash -c $quoted >../run.log 2>&1 </dev/null &)"
}

state() {
  "${tpu[@]}" describe "$name" "${place[@]}" --format='value(state)' 2>/dev/null || echo NONE
}

remove() {
  run "${tpu[@]}" delete "$name" "${place[@]}" --quiet
}

resume() {
  if [[ $dry_run == true ]]; then
    echo "# every minute, until the log ends in 'status 0':"
    run "${tpu[@]}" describe "$name" "${place[@]}" --format='value(state)'
    echo "# where that is not READY:"
    remove
  elif [[ $(state) != READY ]]; then
    remove || true
  fi
  if [[ $dry_run == true || $(state) != READY ]]; then
    create
    copy
    install
    start
  fi
  [[ $dry_run == false ]] || return 0
  while [[ $(state) == READY ]]; do
    local last
    last=$("${tpu[@]}" ssh "$name" "${place[@]}" --worker=0 --command='tail -n 1 run.log' || true)
    case $last in
      "status 0") return 0 ;;
      "status "*) fail "the run ended with $last; see: $0 logs" ;;
    esac
    sleep 60
  done
  resume
}

case $command in
  create | queue | copy | install) "$command" ;;
  run) start ;;
  logs) on_all "tail -n 40 run.log" ;;
  resume) resume ;;
  delete) remove ;;
  *) fail "COMMAND is create, queue, copy, install, run, logs, resume or delete" ;;
esac
