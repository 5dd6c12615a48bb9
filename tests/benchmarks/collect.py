"""Keeps the outcomes of experiments by the code: JSON, pictures and a page of tables.

python tests/benchmarks/collect.py runs/experiments-thorax

Replaces what results/ holds of the same experiments, and writes its README.md anew.
"""

import argparse
import json
import shutil
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def collect(runs: Path, results: Path) -> None:
  """Copies every finished experiment of `runs`, and lists all that `results` holds."""
  results.mkdir(exist_ok=True)
  for summary in sorted(runs.glob("*/summary.json")):
    outcome = summary.parent
    for file in ("summary.json", "table.txt", "picture.png"):
      kept = results / f"{outcome.name}{Path(file).suffix}"
      shutil.copyfile(outcome / file, kept)
  page = ["# Outcomes of the experiments", ""]
  for path in sorted(results.glob("*.json")):
    summary = json.loads(path.read_text())
    table = path.with_suffix(".txt").read_text().rstrip()
    page += [
      f"## {path.stem}: {summary['question']}",
      "",
      f"    python -m jaxrg.experiment {path.stem}{_seeds(summary)}",
      "",
      f"Config `{summary['config']}`, data `{summary['data']}`.",
      "",
      f"```\n{table}\n```",
      "",
      f"![{summary['question']}]({path.stem}.png)",
      "",
    ]
  (results / "README.md").write_text("\n".join(page).rstrip() + "\n")


def _seeds(summary: dict) -> str:
  trials = summary.get("trials", {}).values()
  seeds = max((trial.get("seeds", 1) for trial in trials), default=1)
  return f" --seeds={seeds}" if seeds > 1 else ""


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("runs", type=Path)
  collect(parser.parse_args().runs, RESULTS)
