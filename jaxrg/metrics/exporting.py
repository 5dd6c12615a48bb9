"""Reports as the files that other programs score."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence

from jaxrg.metrics import predictions
from jaxrg.metrics.layouts import SECTIONS


def _csv(rows: Sequence[Mapping]) -> str:
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(("id", "reference", "prediction"))
  writer.writerows((row["id"], row["reference"], row["prediction"]) for row in rows)
  return text.getvalue()


def _rexrank(rows: Sequence[Mapping]) -> str:
  """JSON by study; the reference is its findings, and there is no impression."""
  findings, impression = SECTIONS
  studies = {
    row["id"]: {
      findings: row["reference"],
      impression: None,
      "model_prediction": row["prediction"],
    }
    for row in rows
  }
  return json.dumps(studies, indent=1, ensure_ascii=False) + "\n"


def _radeval(rows: Sequence[Mapping]) -> str:
  """The two lists that `RadEval(...)(refs, hyps)` takes, and whose they are."""
  lists = {"ids": "id", "refs": "reference", "hyps": "prediction"}
  told = {name: [row[key] for row in rows] for name, key in lists.items()}
  return json.dumps(told, ensure_ascii=False) + "\n"


FORMATS: Mapping[str, Callable[[Sequence[Mapping]], str]] = {
  "csv": _csv,
  "rexrank": _rexrank,
  "radeval": _radeval,
}


def target(asked: str) -> str:
  """Where `FORMAT:PATH` writes; ValueError for a format that is none of FORMATS."""
  name, _, path = asked.partition(":")
  if name not in FORMATS or not path:
    raise ValueError(
      f"--export={asked}: FORMAT:PATH is needed, the format one of "
      f"{', '.join(FORMATS)}."
    )
  return path


def export(asked: str, rows: Sequence[Mapping]) -> str:
  """Writes `FORMAT:PATH`, whole and readable by its owner only; returns the path."""
  path = target(asked)
  predictions.write_private(path, FORMATS[asked.partition(":")[0]](rows))
  return path
