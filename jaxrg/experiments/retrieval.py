"""Retrieval: how well an arm's first stage tells whose report an image has.

Categories are those of MIMIC-5x200, on a split made for it: studies that show one of
five findings and nothing else. Instances are the studies of the test split.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from etils import epath

from data_pipelines import interventions
from jaxrg.experiments import arms
from jaxrg.experiments.arms import Arm
from jaxrg.experiments.outcome import Outcome, facts
from jaxrg.experiments.picture import Panel, Point
from jaxrg.metrics import retrieval
from jaxrg.metrics.rendering import Table, number, words
from jaxrg.writer import Writer

# Of the embedded data; the published 1,000 studies of MIMIC-CXR are nowhere listed.
CATEGORIES = {"data_name": "thorax/retrieval", "split": "retrieval"}
INSTANCES = {"split": "test"}
SHOWN = {"categories": "precision_at_10", "instances": "recall_at_5"}
# What is taken from the studies -> what that adds to a trial's name.
DENIED = {(): "", ("context",): ", no context"}

Pair = tuple[np.ndarray, np.ndarray]  # Images and reports (n d).


@dataclasses.dataclass(frozen=True)
class Retrieval:
  """A question, and the arms (by name) that answer it, with and without context."""

  name: str
  question: str
  arms: Mapping[str, Arm]

  def run(
    self, base: ml_collections.ConfigDict, seeds: int, root: epath.Path
  ) -> Outcome:
    """Trains what is not there yet, embeds both sets and scores them; of one seed."""
    if seeds > 1:
      print(f"{self.name}: of the first seed alone.")
    trials = {f"{name}{suffix}": {} for name in self.arms for suffix in DENIED.values()}
    for name, arm in self.arms.items():
      export = arms.pretrain(arm, base, 0, root)
      for kind, score, split in (
        ("categories", _categories, CATEGORIES),
        ("instances", _instances, INSTANCES),
      ):
        options = {"data_dir": base.data.data_dir, "method": "contrast"}
        writer = Writer(export, **split, **options)
        for parts, suffix in DENIED.items():
          pair = writer.embed(interventions.without(parts))
          trials[f"{name}{suffix}"][kind] = score(pair, writer.meta)
    summary = facts(self, base) | {"trials": trials}
    return Outcome(summary, tables(summary), panels(summary))


def _categories(pair: Pair, meta: Sequence[Mapping[str, Any]]) -> dict:
  classes = [retrieval.exclusive_class(record["labels"]) for record in meta]
  return retrieval.score_categories(*pair, classes, patients=_patients(meta))


def _instances(pair: Pair, meta: Sequence[Mapping[str, Any]]) -> dict:
  texts = [record["findings"] for record in meta]
  return retrieval.score_instances(*pair, texts, patients=_patients(meta))


def _patients(meta: Sequence[Mapping[str, Any]]) -> list[str]:
  return [record["patient_id"] for record in meta]


def tables(summary: Mapping[str, Any]) -> list[Table]:
  """Precision of categories and recall of instances, both directions."""
  trials = summary["trials"]
  result = []
  for kind in SHOWN:
    first = next(iter(trials.values()))[kind]
    protocol = first["protocol"]
    names = [
      (way, key) for way, scores in first.items() if way != "protocol" for key in scores
    ]
    rows = [
      [name, *(number(trial[kind][way][key], interval=True) for way, key in names)]
      for name, trial in trials.items()
    ]
    rows.append(["by chance", *(number(_chance(protocol, key)) for _, key in names)])
    columns = [f"{words(way)}: {words(key)}" for way, key in names]
    note = f"{protocol['n']} pairs; {protocol['name']}."
    result.append(Table(f"{summary['question']} ({kind})", note, columns, rows))
  return result


def _chance(protocol: Mapping[str, Any], key: str) -> float:
  """What guessing scores: of categories the same at every depth."""
  chance = protocol["chance"]
  return chance[key] if isinstance(chance, Mapping) else chance


def panels(summary: Mapping[str, Any]) -> list[Panel]:
  """One score a kind and direction, beside what guessing scores."""
  return [
    Panel(
      f"{words(way)}, {words(key)}",
      [
        Point(
          name, **trial[kind][way][key], beside=_chance(trial[kind]["protocol"], key)
        )
        for name, trial in summary["trials"].items()
      ],
      "by chance",
    )
    for kind, key in SHOWN.items()
    for way in (retrieval.IMAGE_TO_REPORT, retrieval.REPORT_TO_IMAGE)
  ]
