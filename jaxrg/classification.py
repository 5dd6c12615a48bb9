"""How well the states of topics are told: scores, and the threshold to decide by."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines.topics import LABELS
from jaxrg.metrics import auc, intervals
from jaxrg.metrics.rendering import number

THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)  # Of spec eir 6.2.


def best_threshold(present: np.ndarray, truth: np.ndarray) -> float:
  """The one of THRESHOLDS with the highest micro-F1, of probabilities (n topics).

  Of equal ones the lowest.
  """

  def f1(threshold):
    said = present > threshold
    return 2 * (said & truth).sum() / max(1, said.sum() + truth.sum())

  return max(THRESHOLDS, key=f1)


def is_present(states: np.ndarray) -> np.ndarray:
  """Whether a topic is present or uncertain, of two states or four."""
  return (states == 1) | (states == 2)


def score(
  present: np.ndarray,
  truth: np.ndarray,
  patients: Sequence[str],
  names: Sequence[str],
) -> dict[str, Any]:
  """AUC of each topic and their means, of probabilities and truth (n topics).

  Intervals are bootstraps over patients. A topic that all studies have, or none, is
  left out, and so is the mean of phrases where there are none.
  """
  of_topic = {
    name: {"auc": float(auc.auc(p, t)), "present": int(t.sum())}
    for name, p, t in zip(names, present.T, truth.T, strict=True)
  }
  is_label = np.array([name in LABELS for name in names])
  macro = {
    kind: _macro(present[:, rows], truth[:, rows], patients)
    for kind, rows in (("labels", is_label), ("phrases", ~is_label))
    if rows.any()
  }
  return {
    "studies": len(truth),
    "patients": len(set(patients)),
    "macro_auc": macro,
    "topics": {k: row for k, row in of_topic.items() if not np.isnan(row["auc"])},
  }


def _macro(
  present: np.ndarray, truth: np.ndarray, patients: Sequence[str]
) -> dict[str, float]:
  resampled = auc.resampled_macro(present, truth, patients)
  return intervals.interval(float(auc.macro(present, truth)), resampled)._asdict()


def table(scores: Mapping[str, Any]) -> str:
  """The table of what `metrics.json` holds: labels one by one, phrases as one."""
  lines = [f"{'label':<28}{'present':>8}{'AUC':>7}"]
  for name, row in scores["topics"].items():
    if name in LABELS:
      lines.append(f"{name:<28}{row['present']:>8}{row['auc']:>7.3f}")
  for kind, macro in scores["macro_auc"].items():
    lines.append(f"{f'macro-AUC of {kind} [95 %]':<36}{number(macro, interval=True)}")
  lines.append(f"{scores['studies']} studies of {scores['patients']} patients")
  return "\n".join(lines)
