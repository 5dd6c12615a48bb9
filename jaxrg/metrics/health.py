"""Whether a set of reports is alive: what a high BLEU does not tell.

A model that writes one sentence for everybody, repeats itself or recites its training
reports can have a good score; these numbers show it, beside those of the references.
"""

from collections.abc import Collection, Sequence

import numpy as np

from data_pipelines.records import LABELS, PRESENT
from jaxrg.metrics.clinical import Reader, read_labels

REPEATED = 4  # Words of an n-gram that a report is said to repeat.
NORMAL = "No Finding"


def measure(
  texts: Sequence[str],
  reader: Reader,
  *,
  references: Sequence[str] | None = None,
  training: Collection[str] | None = None,
) -> dict[str, float | int]:
  """Numbers of `texts`, each a share but for counts and lengths.

  n, n_unique, n_empty, n_one_word; words (a report); distinct_1, distinct_2 (different
  n-grams among all); repeated (reports that say four words in a row twice); normal (in
  which `reader` finds nothing). With `references` length_ratio, of the corpora; with
  the reports of `training` copied, those that are one of them.
  """
  words = [text.lower().split() for text in texts]
  normal = read_labels(texts, reader)[:, LABELS.index(NORMAL)]
  lengths = np.array([len(report) for report in words])
  told = {
    "n": len(texts),
    "n_unique": len(set(texts)),
    "n_empty": int((lengths == 0).sum()),
    "n_one_word": int((lengths == 1).sum()),
    "words": float(lengths.mean()),
    "distinct_1": _distinct(words, 1),
    "distinct_2": _distinct(words, 2),
    "repeated": float(np.mean([_repeats(report) for report in words])),
    "normal": float((normal == PRESENT).mean()),
  }
  if references is not None:
    asked = sum(len(text.split()) for text in references)
    told["length_ratio"] = float(lengths.sum() / max(asked, 1))
  if training is not None:
    known = {_plain(text) for text in training}
    told["copied"] = float(np.mean([_plain(text) in known for text in texts]))
  return told


def _grams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
  return list(zip(*(words[i:] for i in range(size))))


def _distinct(reports: Sequence[Sequence[str]], size: int) -> float:
  grams = [gram for words in reports for gram in _grams(words, size)]
  return len(set(grams)) / max(len(grams), 1)


def _repeats(words: Sequence[str]) -> bool:
  grams = _grams(words, REPEATED)
  return len(set(grams)) < len(grams)


def _plain(text: str) -> str:
  return " ".join(text.lower().split())
