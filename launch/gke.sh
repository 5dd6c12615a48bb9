#!/usr/bin/env bash
# A run on TPUs of a GKE cluster that has the JobSet controller:
#
#   launch/gke.sh apply|logs|delete [--dry_run] [-- FLAGS OF jaxrg.main]
#
# It reads NAME, IMAGE (with jaxrg[tpu] in it), ACCELERATOR (tpu-v5-lite-podslice),
# TOPOLOGY (16x16), HOSTS (64) and CHIPS (of a host: 4). Where nodes are taken away the set
# begins anew, and the run goes on from what its --workdir, a bucket, holds.
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

manifest() {
  [[ -n ${IMAGE:-} ]] || fail "IMAGE=REGISTRY/jaxrg:TAG is needed"
  ((${#flags[@]})) || fail "apply needs the flags of jaxrg.main: -- --config=... --workdir=gs://..."
  cat <<END
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $name
spec:
  failurePolicy:
    maxRestarts: 100
  replicatedJobs:
  - name: slice
    replicas: 1
    template:
      spec:
        parallelism: ${HOSTS:-64}
        completions: ${HOSTS:-64}
        backoffLimit: 0
        template:
          spec:
            restartPolicy: Never
            terminationGracePeriodSeconds: 300
            nodeSelector:
              cloud.google.com/gke-tpu-accelerator: ${ACCELERATOR:-tpu-v5-lite-podslice}
              cloud.google.com/gke-tpu-topology: ${TOPOLOGY:-16x16}
            containers:
            - name: jaxrg
              image: $IMAGE
              command: [python, -m, jaxrg.main, --multihost]
              args:
END
  printf "              - '%s'\n" "${flags[@]//\'/\'\'}"
  cat <<END
              resources:
                limits:
                  google.com/tpu: ${CHIPS:-4}
END
}

case $command in
  apply)
    text=$(manifest)
    echo "$text"
    if [[ $dry_run == true ]]; then
      run kubectl apply -f -
    else
      run kubectl apply -f - <<<"$text"
    fi
    ;;
  logs) run kubectl logs --selector="jobset.sigs.k8s.io/jobset-name=$name" --tail=40 ;;
  delete) run kubectl delete jobset "$name" ;;
  *) fail "COMMAND is apply, logs or delete" ;;
esac
