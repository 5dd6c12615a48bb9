"""Whether a report says what the classifier before it has decided (spec eir 6).

A report that names what was not decided is the sign of words that go their own way, one
that names nothing at all of a report that fits every film.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines import findings
from data_pipelines.records import LABELS, PRESENT, UNMENTIONED
from jaxrg.metrics import clinical, intervals
from jaxrg.metrics.clinical import Reader
from jaxrg.metrics.rendering import Table, number

NORMAL = LABELS.index("No Finding")
PROTOCOL = (
  f"decided by the classifier's threshold, against labels read from the generated "
  f"report ({clinical.LABELER}); uncertain as positive"
)


def score(
  decided: np.ndarray,
  texts: Sequence[str],
  patients: Sequence[str],
  reader: Reader = findings,
  *,
  resamples: int = 1000,
  seed: int = 0,
) -> dict[str, Any]:
  """How far texts say the labels `decided` (n 14) bool, in the order of LABELS.

  protocol, n; same: share of studies in which all 14 agree; micro and classes: F1 of
  the text's labels against the decided ones; normal, and decided_normal: share of
  studies of which no finding is said, or decided. Intervals are over patients.
  """
  said = clinical.read_labels(texts, reader)
  positive = np.isin(said, clinical.UNCERTAIN_AS["positive"])
  truth = np.where(decided, PRESENT, UNMENTIONED)
  outcomes = clinical.label_statistics(said, truth)
  options = {"clusters": patients, "resamples": resamples, "seed": seed}

  def share(which: np.ndarray) -> dict[str, float]:
    statistics = np.stack([which, np.ones(len(which))], axis=1)
    return intervals.bootstrap(statistics, intervals.mean, **options)._asdict()

  others = np.arange(len(LABELS)) != NORMAL
  normal = lambda labels: ~labels[:, others].any(axis=1)
  return {
    "protocol": PROTOCOL,
    "n": len(texts),
    "same": share((positive == decided).all(axis=1)),
    "micro": intervals.bootstrap(outcomes, clinical.micro_f1, **options)._asdict(),
    "classes": dict(zip(LABELS, clinical.f1(outcomes.sum(axis=0)).tolist())),
    "normal": share(normal(positive)),
    "decided_normal": share(normal(decided)),
  }


def table(scores: Mapping[str, Any]) -> Table:
  """The table of `score`."""
  names = {
    "same": "all 14 labels agree",
    "micro": "micro-F1 of the text against the decision",
    "normal": "reports without a finding",
    "decided_normal": "decisions without a finding",
  }
  rows = [[text, number(scores[key], interval=True)] for key, text in names.items()]
  note = f"{scores['protocol']}; {scores['n']} studies, intervals over patients."
  return Table("Report and decision", note, ["[95 %]"], rows)
