# shellcheck shell=bash
# Sourced by the others: run COMMAND..., or only tell it where --dry_run was given.

dry_run=false

run() {
  printf '+'
  printf ' %q' "$@"
  printf '\n'
  if [[ $dry_run == false ]]; then
    "$@"
  fi
}

fail() {
  echo "error: $*" >&2
  exit 1
}
