"""Keeps the outcomes of experiments by the code: JSON, pictures and a page of tables.

python tests/benchmarks/collect.py runs/experiments-thorax

Replaces what results/ holds of the same experiments on the same config, and writes its
README.md anew.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
DEFAULT = "priorrg:thorax"  # The config that the verb takes where none is given.


def collect(runs: Path, results: Path) -> None:
  """Copies every finished experiment of `runs`, and lists all that `results` holds."""
  results.mkdir(exist_ok=True)
  for summary in sorted(runs.glob("*/summary.json")):
    outcome, stem = summary.parent, _stem(json.loads(summary.read_text()))
    for file in ("summary.json", "table.txt", "picture.png"):
      shutil.copyfile(outcome / file, results / f"{stem}{Path(file).suffix}")
  page = ["# Outcomes of the experiments", ""]
  for path in sorted(results.glob("*.json")):
    summary = json.loads(path.read_text())
    table = path.with_suffix(".txt").read_text().rstrip()
    page += [
      f"## {path.stem}: {summary['question']}",
      "",
      f"    python -m jaxrg.experiment {summary['experiment']}{_flags(summary)}",
      "",
      f"Config `{summary['config']}`, data `{summary['data']}`.",
      "",
      f"```\n{table}\n```",
      "",
      f"![{summary['question']}]({path.stem}.png)",
      "",
    ]
  (results / "README.md").write_text("\n".join(page).rstrip() + "\n")


def _stem(summary: dict) -> str:
  """The name of an outcome's files; that of another config's experiment says so."""
  name, config = summary["experiment"], summary["config"]
  return name if config == DEFAULT else f"{name}-{re.sub('[:,]', '-', config)}"


def _flags(summary: dict) -> str:
  config, trials = "", summary.get("trials", {}).values()
  if summary["config"] != DEFAULT:
    paper, _, variant = summary["config"].partition(":")
    config = f" --config=configs/{paper}.py:{variant}"
  seeds = max((trial.get("seeds", 1) for trial in trials), default=1)
  return config + (f" --seeds={seeds}" if seeds > 1 else "")


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("runs", type=Path)
  collect(parser.parse_args().runs, RESULTS)
