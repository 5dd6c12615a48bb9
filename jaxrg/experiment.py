r"""Runs an experiment: trains what it needs, and prints a table of its outcome.

  python -m jaxrg.experiment inputs --seeds=3
  python -m jaxrg.experiment all --config=configs/priorrg.py:tiny
  python -m jaxrg.experiment probe --config=configs/eir.py

Every run is a folder of --workdir; what is finished there is not done again, and what
was killed resumes. NAME's own folder there gets table.txt, picture.png, summary.json.
"""

from absl import app, flags
from etils import epath
from ml_collections import config_flags

from data_pipelines import cli
from jaxrg.experiments import eir, eir_reports, priorrg

_CONFIG = config_flags.DEFINE_config_file(
  "config",
  "configs/priorrg.py",
  "The base of all arms; its paper's experiments are those that can be asked for.",
  lock_config=True,
)
_SEEDS = flags.DEFINE_integer("seeds", 1, "Runs of every arm.", lower_bound=1)
_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder of all runs; by default runs/experiments-<variant> for PriorRG, "
  "runs/experiments-<paper>-<variant> for others.",
)

# By paper, as a config names it.
EXPERIMENTS = {
  "priorrg": priorrg.EXPERIMENTS,
  "eir": eir.EXPERIMENTS | eir_reports.EXPERIMENTS,
}


def main(argv):
  base = _CONFIG.value
  experiments = _experiments(base.paper)
  known = f"{', '.join(experiments)}, all"
  if len(argv) != 2:
    raise app.UsageError(f"One name is needed: {known}.")
  if argv[1] not in (*experiments, "all"):
    raise app.UsageError(
      f"Unknown experiment {argv[1]!r}; known: {known}.{_elsewhere(argv[1])}"
    )
  names = experiments if argv[1] == "all" else argv[1:]
  root = epath.Path(_WORKDIR.value or _default_workdir(base)).resolve()
  for name in names:
    text = experiments[name].run(base, _SEEDS.value, root).write(root / name)
    print(f"\n{text}\n\noutcome: {root / name}", flush=True)


def _experiments(paper: str):
  if paper not in EXPERIMENTS:
    raise app.UsageError(
      f"config.paper={paper!r} has no experiments; {', '.join(EXPERIMENTS)} have."
    )
  return EXPERIMENTS[paper]


def _elsewhere(name: str) -> str:
  """Of which other paper there is such an experiment, if any."""
  papers = [paper for paper, experiments in EXPERIMENTS.items() if name in experiments]
  return f" It is one of --config=configs/{papers[0]}.py." if papers else ""


def _default_workdir(base) -> str:
  variant = base.variant.replace(",", "-")
  # PriorRG's folders were there before there were others.
  paper = "" if base.paper == "priorrg" else f"{base.paper}-"
  return f"runs/experiments-{paper}{variant}"


if __name__ == "__main__":
  cli.run(main)
