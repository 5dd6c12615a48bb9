"""What reports are compared by: sums over reports, so that anything can be paired.

Seeds pool, subsets and resamples are sums, and the difference between two trials is
that of the same reports.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines import findings
from jaxrg.metrics import causes, clinical, intervals, nlg
from jaxrg.metrics.predictions import with_prior
from jaxrg.metrics.protocols import PROTOCOLS

Rows = Sequence[clinical.Record]

PROTOCOL = (
  "labels, changes and causes are read from the text by rules, never to be taken for "
  "CheXbert, and compared with the ground truth; BLEU-4 by protocol priorrg, "
  "references in full; 95 % intervals by bootstrap over patients, seeds averaged"
)


class Score(NamedTuple):
  """A measure of sums of `statistics`, which are (n, ...) for n reports."""

  title: str
  statistics: Callable[[Rows], np.ndarray]
  measure: intervals.Measure


def _labels(rows: Rows) -> np.ndarray:
  truth, _ = clinical.true_labels(rows, findings)
  claimed = clinical.read_labels([row["prediction"] for row in rows], findings)
  return clinical.label_statistics(claimed, truth)


def _changes(rows: Rows) -> np.ndarray:
  """Of studies with a prior; a change claimed without one is an error of its own."""
  truth, _ = clinical.true_changes(rows, findings)
  claimed = clinical.read_changes([row["prediction"] for row in rows], findings)
  return clinical.change_statistics(claimed, truth) * with_prior(rows)[:, None]


def _causes(rows: Rows) -> np.ndarray:
  claimed = clinical.read_facts([row["prediction"] for row in rows], findings)
  return causes.statistics(claimed, clinical.true_facts(rows, findings)[0], "all")


def _bleu(rows: Rows) -> np.ndarray:
  protocol = PROTOCOLS["priorrg"]
  texts = [
    protocol.apply([row[key] for row in rows]) for key in ("prediction", "reference")
  ]
  return nlg.bleu_statistics(nlg.count(*texts))


SCORES: Mapping[str, Score] = {
  "label_micro_f1": Score("label micro-F1", _labels, clinical.micro_f1),
  "label_macro_f1": Score("label macro-F1", _labels, clinical.macro_f1),
  "change_f1": Score("change F1", _changes, clinical.f1),
  "cause_accuracy": Score("cause of opacities", _causes, causes.accuracy),
  "bleu_4": Score("BLEU-4", _bleu, lambda sums: nlg.bleu(sums)[..., 3]),
}
