"""Findings and changes: what a text claims, against what is so.

Everything is counted per report first, as true positives, false positives and
false negatives, so that any subset, average or resample is a sum.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Protocol

import numpy as np

from data_pipelines.findings import CHANGED
from data_pipelines.records import LABELS, PRESENT, UNCERTAIN, UNMENTIONED, Fact

# How an uncertain label is read. CheXbert's "rrg" mode, and so PriorRG: positive.
UNCERTAIN_AS = {"positive": (PRESENT, UNCERTAIN), "negative": (PRESENT,)}
LABELER = "rules"  # Of `data_pipelines.findings`; never to be taken for CheXbert.
GROUND_TRUTH = "ground truth"  # As against what is read from the references.
UNCHANGED = ("unchanged",)
KINDS = (*CHANGED, *UNCHANGED)  # Of a change.

Change = tuple[str, str, str]  # Label, side, one of records.CHANGES.
Record = Mapping  # A line of predictions.jsonl; see `predictions`.


class Reader(Protocol):
  """What reads a report: the module `data_pipelines.findings`, or a stand-in."""

  def read(self, text: str) -> Sequence[Fact]: ...

  def labels(self, text: str) -> np.ndarray: ...

  def changes(self, text: str, among: Sequence[str] = CHANGED) -> Set[Change]: ...


def read_labels(texts: Sequence[str], reader: Reader) -> np.ndarray:
  """The labels (n 14) that the texts state; a text that recurs is read once.

  An empty text states nothing, not even that there is no finding: silence must not
  score on normal studies.
  """
  silent = np.full(len(LABELS), UNMENTIONED, np.int8)
  known = {text: reader.labels(text) if text.strip() else silent for text in set(texts)}
  return np.array([known[text] for text in texts], np.int8).reshape(-1, len(LABELS))


def read_changes(texts: Sequence[str], reader: Reader) -> list[Set[Change]]:
  """All that the texts say is changed or unchanged; one that recurs is read once."""
  known = {text: frozenset(reader.changes(text, KINDS)) for text in set(texts)}
  return [known[text] for text in texts]


def read_facts(texts: Sequence[str], reader: Reader) -> list[Sequence[Fact]]:
  """All that the texts state; one that recurs is read once."""
  known = {text: tuple(reader.read(text)) for text in set(texts)}
  return [known[text] for text in texts]


def true_labels(records: Sequence[Record], reader: Reader) -> tuple[np.ndarray, str]:
  """The labels (n 14) that are so, and where they are from.

  A record's own `labels`, else what the reader finds in its reference.
  """
  own = lambda labels: np.asarray(labels, np.int8)
  labels, source = _own_or_read(records, "labels", own, read_labels, reader)
  return np.stack(labels), source


def true_changes(
  records: Sequence[Record], reader: Reader
) -> tuple[list[Set[Change]], str]:
  """The changes that are so, and where they are from.

  Those of a record's own `truth`, else what the reader finds in its reference.
  """
  return _own_or_read(records, "truth", changes_of, read_changes, reader)


def true_facts(
  records: Sequence[Record], reader: Reader
) -> tuple[list[Sequence[Fact]], str]:
  """The facts that are so, and where they are from.

  Those of a record's own `truth`, else what the reader finds in its reference.
  """
  names = [field.name for field in dataclasses.fields(Fact)]
  typed = lambda fact: Fact(**{name: fact[name] for name in names if name in fact})
  own = lambda facts: tuple(map(typed, facts))
  return _own_or_read(records, "truth", own, read_facts, reader)


def changes_of(facts: Sequence[Mapping]) -> Set[Change]:
  """The changes among facts (dicts of `records.Fact`)."""
  return frozenset(
    (fact["label"], fact.get("side", ""), fact["change"])
    for fact in facts
    if fact.get("change")
  )


def _own_or_read(
  records: Sequence[Record], key: str, own: Callable, read: Callable, reader: Reader
) -> tuple[list, str]:
  """What `own` makes of each record's `key`, else what its reference says; and whence.

  Only references of records without that key are read.
  """
  given = [record.get(key) for record in records]
  silent = [r["reference"] for r, a in zip(records, given) if a is None]
  rest = iter(read(silent, reader))
  known = [next(rest) if a is None else own(a) for a in given]
  return known, _source([a is not None for a in given])


def _source(own: Sequence[bool]) -> str:
  if all(own):
    return GROUND_TRUTH
  if not any(own):
    return "read from the references"
  return (
    f"{GROUND_TRUTH} ({sum(own)}), read from the references ({len(own) - sum(own)})"
  )


def label_statistics(
  predicted: np.ndarray, truth: np.ndarray, uncertain: str = "positive"
) -> np.ndarray:
  """True positives, false positives, false negatives of every report: n 14 3."""
  positive = UNCERTAIN_AS[uncertain]
  return _outcomes(np.isin(predicted, positive), np.isin(truth, positive))


def change_statistics(
  predicted: Sequence[Set[Change]],
  truth: Sequence[Set[Change]],
  kinds: Sequence[str] = CHANGED,
) -> np.ndarray:
  """True positives, false positives, false negatives of every report: n 3.

  A change counts where label, side and kind agree; other kinds are left aside.
  """
  counts = np.zeros((len(truth), 3))
  for row, claimed, real in zip(counts, predicted, truth):
    claimed = {change for change in claimed if change[2] in kinds}
    real = {change for change in real if change[2] in kinds}
    row[:] = len(claimed & real), len(claimed - real), len(real - claimed)
  return counts


def change_confusion(
  predicted: Sequence[Set[Change]], truth: Sequence[Set[Change]]
) -> np.ndarray:
  """How often what is so of a finding (rows) is said to be so (columns).

  Both are in the order of KINDS, and last that nothing is said. A finding is a label
  on a side; of one that neither mentions nothing is counted. Where several things are
  said of one, those that agree are paired first.
  """
  counts = np.zeros((len(KINDS) + 1, len(KINDS) + 1), np.int64)
  place = {kind: i for i, kind in enumerate((*KINDS, ""))}
  for claimed, real in zip(predicted, truth, strict=True):
    for finding in {change[:2] for change in claimed | real}:
      said, true = (
        {c[2] for c in side if c[:2] == finding} for side in (claimed, real)
      )
      for kind in said & true:
        counts[place[kind], place[kind]] += 1
      rest = itertools.zip_longest(
        sorted(true - said), sorted(said - true), fillvalue=""
      )
      for kind, other in rest:
        counts[place[kind], place[other]] += 1
  return counts


def _outcomes(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
  return np.stack([predicted & truth, predicted & ~truth, ~predicted & truth], axis=-1)


def precision(outcomes: np.ndarray) -> np.ndarray:
  """Of outcomes (... 3); 0 where nothing was claimed."""
  true, wrong, _ = np.moveaxis(outcomes, -1, 0)
  return ratio(true, true + wrong)


def recall(outcomes: np.ndarray) -> np.ndarray:
  """Of outcomes (... 3); 0 where nothing was there to be found."""
  true, _, missed = np.moveaxis(outcomes, -1, 0)
  return ratio(true, true + missed)


def f1(outcomes: np.ndarray) -> np.ndarray:
  """Of outcomes (... 3); 0 where nothing was claimed and nothing was there."""
  true, wrong, missed = np.moveaxis(outcomes, -1, 0)
  return ratio(2 * true, 2 * true + wrong + missed)


def micro_f1(outcomes: np.ndarray) -> np.ndarray:
  """F1 of all labels' outcomes (... 14 3) together."""
  return f1(outcomes.sum(-2))


def macro(measure, outcomes: np.ndarray) -> np.ndarray:
  """Mean of a measure over the labels (... 14 3) that occur in the truth."""
  occurs = support(outcomes) > 0
  return ratio((measure(outcomes) * occurs).sum(-1), occurs.sum(-1))


def macro_f1(outcomes: np.ndarray) -> np.ndarray:
  """Mean F1 over the labels (... 14 3) that occur in the truth."""
  return macro(f1, outcomes)


def support(outcomes: np.ndarray) -> np.ndarray:
  """How many reports truly have each label."""
  return outcomes[..., 0] + outcomes[..., 2]


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
  """Their quotient; 0 where there is nothing to divide by."""
  part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
  return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
