"""What reports are compared by: sums over reports, so that anything can be paired.

Seeds pool, subsets and resamples are sums, and the difference between two trials is
that of the same reports.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines import findings
from jaxrg.metrics import causes, clinical, intervals, nlg
from jaxrg.metrics.predictions import with_prior
from jaxrg.metrics.protocols import PROTOCOLS

Rows = Sequence[clinical.Record]

# How words are counted of what a paper's models write: EIR's have no capitals.
WORDS = {"priorrg": "priorrg_full", "eir": "lower"}
PROTOCOL = (
  "labels, changes and causes are read from the text by rules, never to be taken for "
  "CheXbert, and compared with the ground truth; BLEU-4 by protocol {words}, "
  "references in full; 95 % intervals by bootstrap over patients, seeds averaged"
)


TITLES: Mapping[str, str] = {
  "label_micro_f1": "label micro-F1",
  "label_macro_f1": "label macro-F1",
  "change_f1": "change F1",
  "cause_accuracy": "cause of opacities",
  "bleu_4": "BLEU-4",
}


class Score(NamedTuple):
  """A measure of sums of `statistics`, which are (n, ...) for n reports."""

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


def _bleu(words: str, rows: Rows) -> np.ndarray:
  protocol = PROTOCOLS[words]
  texts = [
    protocol.apply([row[key] for row in rows]) for key in ("prediction", "reference")
  ]
  return nlg.bleu_statistics(nlg.count(*texts))


def scores(words: str) -> Mapping[str, Score]:
  """What reports are compared by, as `TITLES` name it; BLEU-4 by protocol `words`."""
  bleu = functools.partial(_bleu, words)
  return {
    "label_micro_f1": Score(_labels, clinical.micro_f1),
    "label_macro_f1": Score(_labels, clinical.macro_f1),
    "change_f1": Score(_changes, clinical.f1),
    "cause_accuracy": Score(_causes, causes.accuracy),
    "bleu_4": Score(bleu, nlg.bleu_of_order(4)),
  }
