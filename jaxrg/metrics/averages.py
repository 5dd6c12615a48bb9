"""The averages that the field calls "CE F1", all of them, so that none stands for all.

Labels are 14 columns, as records.LABELS, or the 5 of CheXbert's paper. Sums are as
scikit-learn's with zero_division=0: a label that nobody has or claims counts 0 in the
macro average, and a report without any in the average over reports.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from data_pipelines.records import LABELS, PRESENT, UNCERTAIN
from jaxrg.metrics.rendering import Table

FIVE = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
SETS = {"14": LABELS, "5": FIVE}
POSITIVE = {"positive": (PRESENT, UNCERTAIN), "negative": (PRESENT,)}
RULES = "rules (ce_rules_*), never CheXbert"
AVERAGES = ("micro", "macro", "example", "weighted")
# Who prints which (field.md 0.5 and 4.1): average, labels, uncertain as.
USED_BY: Mapping[tuple[str, str, str], str] = {
  ("micro", "14", "positive"): "PriorRG, MLRG, SEI",
  ("macro", "14", "positive"): "PriorRG, MLRG",
  ("micro", "5", "positive"): "PriorRG, MLRG, RGRG",
  ("macro", "5", "positive"): "PriorRG, MLRG",
  ("example", "14", "positive"): "RGRG, CvT2DistilGPT2",
  ("macro", "14", "negative"): "R2Gen",
}


class Scores(NamedTuple):
  """Precision, recall and F1."""

  precision: float
  recall: float
  f1: float


def all_averages(claimed: np.ndarray, truth: np.ndarray) -> dict:
  """Every average of labels (n 14): labels -> uncertain as -> average -> Scores."""
  told = {}
  for name, labels in SETS.items():
    columns = [LABELS.index(label) for label in labels]
    told[name] = {}
    for uncertain, positive in POSITIVE.items():
      pair = (np.isin(side[:, columns], positive) for side in (claimed, truth))
      told[name][uncertain] = {
        average: scores._asdict() for average, scores in _averages(*pair).items()
      }
  return told


def _averages(claimed: np.ndarray, truth: np.ndarray) -> dict[str, Scores]:
  both = claimed & truth
  outcomes = lambda axis: [x.sum(axis) for x in (both, claimed, truth)]
  by_label, by_report = _scores(*outcomes(0)), _scores(*outcomes(1))
  support = truth.sum(0)
  weights = support / max(support.sum(), 1)
  mean = lambda scores: Scores(*(float(x.mean()) for x in scores))
  return {
    "micro": Scores(*map(float, _scores(*outcomes(None)))),
    "macro": mean(by_label),
    "example": mean(by_report),
    "weighted": Scores(*(float(x @ weights) for x in by_label)),
  }


def _scores(both: np.ndarray, claimed: np.ndarray, true: np.ndarray) -> Scores:
  ratio = lambda a, b: np.divide(a, b, out=np.zeros(np.shape(b)), where=b > 0)
  return Scores(
    ratio(both, claimed), ratio(both, true), ratio(2 * both, claimed + true)
  )


def table(told: Mapping, labeler: str) -> Table:
  """The table of what `all_averages` gives; `labeler` names who read the labels."""
  rows = []
  for name, by_policy in told.items():
    for uncertain, averages in by_policy.items():
      for average in AVERAGES:
        scores = averages[average]
        rows.append(
          (
            f"{average}, {name} labels, uncertain as {uncertain}",
            *(f"{scores[key]:.3f}" for key in Scores._fields),
            USED_BY.get((average, name, uncertain), ""),
          )
        )
  note = "As scikit-learn's with zero_division=0. No two of these can be compared."
  columns = ["precision", "recall", "F1", "printed by"]
  return Table(f"What is called CE F1, labeler {labeler}", note, columns, rows)
