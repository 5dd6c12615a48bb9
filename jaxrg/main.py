r"""Trains a system: every stage in order, resuming what the workdir holds.

  python -m jaxrg.main --config=configs/priorrg.py
  python -m jaxrg.main --config=configs/priorrg.py:tiny --config.seed=1 --workdir=/tmp/a

It ends with the score table of the test split and the paths of report.html and the
export.
"""

import jax
from absl import app, flags
from ml_collections import config_flags

from data_pipelines import cli
from jaxrg import joining, preemption, runs

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "The recipe, and after a colon its variant.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "The run's folder; by default runs/<config>-<variant>."
)
_STAGE = flags.DEFINE_string("stage", None, "Run this stage alone.")
_MULTIHOST = flags.DEFINE_bool(
  "multihost", False, "Join the other processes of a pod, Slurm job or Kubernetes set."
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "host:port of process 0, where the system does not tell."
)
_NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "Likewise: of how many.", 1
)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Likewise: which, from 0.", 0)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  if _MULTIHOST.value:
    joining.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
  config = _CONFIG.value
  joining.check(config)
  workdir = _WORKDIR.value or f"runs/{config.paper}-{config.variant.replace(',', '-')}"
  try:
    with preemption.heeded():
      runs.run(config, workdir, _STAGE.value)
  except preemption.Preempted as told:
    if jax.process_index() == 0:
      print(told, flush=True)


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  cli.run(main)
