r"""Runs an experiment: trains what it needs, and prints a table of its outcome.

  python -m jaxrg.experiment inputs --seeds=3
  python -m jaxrg.experiment all --config=configs/priorrg.py:tiny

Every run is a folder of --workdir; what is finished there is not done again, and what
was killed resumes. NAME's own folder there gets table.txt, picture.png, summary.json.
"""

from absl import app, flags
from etils import epath
from ml_collections import config_flags

from jaxrg import cli
from jaxrg.experiments.priorrg import EXPERIMENTS

_CONFIG = config_flags.DEFINE_config_file(
  "config", "configs/priorrg.py", "The base of all arms.", lock_config=True
)
_SEEDS = flags.DEFINE_integer("seeds", 1, "Runs of every arm.", lower_bound=1)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder of all runs; by default runs/experiments-<variant>."
)


def main(argv):
  known = f"{', '.join(EXPERIMENTS)}, all"
  if len(argv) != 2:
    raise app.UsageError(f"One name is needed: {known}.")
  if argv[1] not in (*EXPERIMENTS, "all"):
    raise app.UsageError(f"Unknown experiment {argv[1]!r}; known: {known}.")
  names = EXPERIMENTS if argv[1] == "all" else argv[1:]
  base = _CONFIG.value
  variant = base.variant.replace(",", "-")
  root = epath.Path(_WORKDIR.value or f"runs/experiments-{variant}").resolve()
  for name in names:
    text = EXPERIMENTS[name].run(base, _SEEDS.value, root).write(root / name)
    print(f"\n{text}\n\noutcome: {root / name}", flush=True)


if __name__ == "__main__":
  cli.run(main)
