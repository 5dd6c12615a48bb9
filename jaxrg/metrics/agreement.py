"""Where a generated report and its reference agree: words, sentences, claims.

A claim is right (in both), wrong (only generated) or missed (only true).
"""

import difflib
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np

from data_pipelines.findings import CHANGED
from data_pipelines.records import ABSENT, LABELS
from jaxrg.metrics.clinical import UNCERTAIN_AS, Change, Reader

RIGHT, WRONG, MISSED = "right", "wrong", "missed"


class Verdicts(NamedTuple):
  """What is said of every label and change that is claimed or true."""

  labels: Mapping[str, str]
  changes: Mapping[Change, str]

  @property
  def all_right(self) -> bool:
    return {*self.labels.values(), *self.changes.values()} <= {RIGHT}

  @property
  def f1(self) -> float:
    """Of labels and changes together; 1 where there are none at all."""
    all_of_them = [*self.labels.values(), *self.changes.values()]
    if not all_of_them:
      return 1.0
    right = all_of_them.count(RIGHT)
    return 2 * right / (len(all_of_them) + right)


class Sentence(NamedTuple):
  """A sentence as runs of words that differ from the other report, or do not."""

  runs: Sequence[tuple[str, bool]]
  mark: str  # RIGHT, WRONG, MISSED or nothing.
  note: str  # Why.


def judge(
  claimed_labels: np.ndarray,
  true_labels: np.ndarray,
  claimed_changes: Set[Change],
  true_changes: Set[Change],
  uncertain: str = "positive",
) -> Verdicts:
  """Verdicts on the labels (14 each) and changes of one study.

  Findings unchanged are left aside, and changes count without a prior, too: there
  all are wrong.
  """
  return Verdicts(
    _verdicts(_names(claimed_labels, uncertain), _names(true_labels, uncertain)),
    _verdicts(_changed(claimed_changes), _changed(true_changes)),
  )


def compare(
  prediction: str, reference: str, verdicts: Verdicts, reader: Reader
) -> tuple[list[Sentence], list[Sentence]]:
  """Both reports, sentence by sentence, marked by what the verdicts say of them."""
  generated, written = _sentences(prediction), _sentences(reference)
  differs = _differing([*_flat(generated)], [*_flat(written)])
  return tuple(
    [
      Sentence(_runs(words, flags), *_mark(" ".join(words), verdicts, own, reader))
      for words, flags in _with_flags(sentences, marks)
    ]
    for sentences, marks, own in zip(
      (generated, written), differs, (WRONG, MISSED), strict=True
    )
  )


def _verdicts(claimed: Set[Hashable], real: Set[Hashable]) -> dict[Hashable, str]:
  order = {label: i for i, label in enumerate(LABELS)}
  return {
    item: RIGHT if item in claimed & real else WRONG if item in claimed else MISSED
    for item in sorted(claimed | real, key=lambda item: (order.get(item, 0), item))
  }


def _names(labels: np.ndarray, uncertain: str) -> set[str]:
  positive = np.isin(labels, UNCERTAIN_AS[uncertain])
  return {name for name, is_so in zip(LABELS, positive) if is_so}


def _changed(changes: Set[Change]) -> set[Change]:
  return {change for change in changes if change[2] in CHANGED}


def _sentences(text: str) -> list[list[str]]:
  parts = re.split(r"(?<=[.!?])\s+", text.strip())
  return [part.split() for part in parts if part]


def _flat(sentences: Iterable[Sequence[str]]) -> list[str]:
  return [word for sentence in sentences for word in sentence]


def _differing(first: list[str], second: list[str]) -> tuple[list[bool], list[bool]]:
  """Whether each word is outside the blocks that both share, case aside."""
  same = [[word.lower().strip(".,;:") for word in words] for words in (first, second)]
  flags = [True] * len(first), [True] * len(second)
  matcher = difflib.SequenceMatcher(None, *same, autojunk=False)
  for i, j, size in matcher.get_matching_blocks():
    flags[0][i : i + size] = flags[1][j : j + size] = [False] * size
  return flags


def _with_flags(sentences: list[list[str]], flags: list[bool]):
  start = 0
  for words in sentences:
    yield words, flags[start : start + len(words)]
    start += len(words)


def _runs(words: list[str], flags: list[bool]) -> list[tuple[str, bool]]:
  runs: list[tuple[str, bool]] = []
  for word, differs in zip(words, flags):
    if runs and runs[-1][1] == differs:
      runs[-1] = (f"{runs[-1][0]} {word}", differs)
    else:
      runs.append((word, differs))
  # The blank between two runs belongs to the one that is not marked.
  return [
    (
      " " * (i > 0 and not differs) + text + " " * (i + 1 < len(runs) and not differs),
      differs,
    )
    for i, (text, differs) in enumerate(runs)
  ]


def _mark(
  sentence: str, verdicts: Verdicts, own: str, reader: Reader
) -> tuple[str, str]:
  """A sentence's mark and why; `own` is what this report's lone claims are."""
  labels = np.asarray(reader.labels(sentence))
  # One sentence without a finding is not a report without one.
  stated = _names(labels, "positive") - {"No Finding"}
  denied = {name for name, state in zip(LABELS, labels) if state == ABSENT}
  changes = _changed(reader.changes(sentence))
  other = MISSED if own == WRONG else WRONG

  off = [f"{name} stated" for name in stated if verdicts.labels.get(name) == own]
  off += [f"{name} denied" for name in denied if verdicts.labels.get(name) == other]
  off += [phrase(change) for change in changes if verdicts.changes.get(change) == own]
  if off:
    against = "against the truth" if own == WRONG else "not in the generated report"
    return own, f"{', '.join(sorted(off))}: {against}"
  agreed = [name for name in stated if verdicts.labels.get(name) == RIGHT]
  agreed += [phrase(c) for c in changes if verdicts.changes.get(c) == RIGHT]
  return (RIGHT, f"{', '.join(sorted(agreed))}: agreed") if agreed else ("", "")


def phrase(change: Change) -> str:
  """A change in words: "Pleural Effusion left larger"."""
  return " ".join(part for part in change if part)
