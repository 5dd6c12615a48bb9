"""Error analysis: what an arm gets wrong of what it finds."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections
from etils import epath

from jaxrg.experiments import arms
from jaxrg.experiments.arms import Arm
from jaxrg.experiments.outcome import Outcome, facts
from jaxrg.experiments.picture import Panel, Point
from jaxrg.metrics import causes, errors, predictions, tables
from jaxrg.metrics.rendering import words


@dataclasses.dataclass(frozen=True)
class ErrorAnalysis:
  """A question, and the arm whose reports answer it."""

  name: str
  question: str
  arm: Arm

  def run(
    self, base: ml_collections.ConfigDict, seeds: int, root: epath.Path
  ) -> Outcome:
    """Trains the arm if need be, and counts the errors of its test reports."""
    if seeds > 1:
      print(f"{self.name}: of the first seed alone.")
    folder = arms.train(self.arm, base, 0, root)
    rows = predictions.read(folder / "eval" / "predictions.jsonl")
    found, named = errors.score(rows), causes.score(rows)
    summary = facts(self, base) | {"errors": found, "causes": named}
    return Outcome(summary, [tables.errors(found), tables.causes(named)], panels(found))


def panels(found: Mapping[str, Any]) -> list[Panel]:
  """A panel a group: the share of each of its outcomes."""
  return [
    Panel(
      f"{words(group)}, n = {found[group]['n']}",
      [
        Point(
          words(name),
          *(found[group][name][k] for k in ("value", "low", "high")),
        )
        for name in names
      ],
    )
    for group, (_, names) in errors.GROUPS.items()
    if found[group]
  ]
