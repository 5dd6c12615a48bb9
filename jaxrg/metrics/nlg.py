"""BLEU, ROUGE-L and CIDEr-D against one reference a report.

The numbers are those of pycocoevalcap 1.2 to 1e-9, for any two lists of strings;
how a text becomes such a string is the business of `protocols`. BLEU and CIDEr
take words between white space, ROUGE-L between single blanks, as there.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

ORDERS = 4  # BLEU-1 to BLEU-4; CIDEr is the mean over the same four.
ROUGE_BETA = 1.2
CIDER_SIGMA = 6.0
# pycocoevalcap's guards against division by zero: an empty corpus scores 0, not NaN.
TINY, SMALL = 1e-15, 1e-9


class NGrams(NamedTuple):
  """Counts of the n-grams of one order; a row is an n-gram of one report's pair."""

  report: np.ndarray  # Which pair.
  predicted: np.ndarray  # How often the prediction has it.
  reference: np.ndarray  # How often the reference has it.
  documents: np.ndarray  # How many of all references have it.


class Corpus(NamedTuple):
  """Predictions and references, counted once for every measure of n-grams."""

  lengths: np.ndarray  # n 2: words of prediction and reference.
  ngrams: tuple[NGrams, ...]  # Of order 1 to ORDERS.


def count(predictions: Sequence[str], references: Sequence[str]) -> Corpus:
  """The n-gram counts of n predictions, each with its reference."""
  if len(predictions) != len(references) or not predictions:
    raise ValueError(
      f"BLEU and CIDEr need as many predictions as references, and at least one: "
      f"got {len(predictions)} and {len(references)}."
    )
  vocabulary: dict[str, int] = {}
  words, lengths = [], []
  for text in (*predictions, *references):
    split = text.split()
    lengths.append(len(split))
    words.extend(vocabulary.setdefault(word, len(vocabulary)) for word in split)
  words = np.array(words, np.int64)
  text_of = np.repeat(np.arange(len(lengths)), lengths)

  ngrams, gram = [], words
  for order in range(1, ORDERS + 1):
    if order > 1:
      pairs = gram[:-1] * len(vocabulary) + words[order - 1 :]
      gram = np.unique(pairs, return_inverse=True)[1]
    inside = text_of[: len(gram)] == text_of[order - 1 :]
    ngrams.append(
      _count_order(gram[inside], text_of[: len(gram)][inside], len(predictions))
    )
  return Corpus(np.array(lengths).reshape(2, -1).T, tuple(ngrams))


def _count_order(gram: np.ndarray, text_of: np.ndarray, n: int) -> NGrams:
  size = int(gram.max(initial=-1)) + 1
  keys, row = np.unique((text_of % n) * size + gram, return_inverse=True)
  predicted = np.bincount(row[text_of < n], minlength=len(keys))
  reference = np.bincount(row[text_of >= n], minlength=len(keys))
  report, gram = np.divmod(keys, max(size, 1))
  documents = np.bincount(gram[reference > 0], minlength=size)[gram]
  return NGrams(report, predicted, reference, documents)


def bleu_statistics(corpus: Corpus) -> np.ndarray:
  """What BLEU is made of, n 10: matches and proposals of order 1-4, two lengths.

  The rows add up: `bleu` of their sum is the corpus BLEU.
  """
  lengths = corpus.lengths
  matches = [
    np.bincount(g.report, np.minimum(g.predicted, g.reference), len(lengths))
    for g in corpus.ngrams
  ]
  proposals = [np.maximum(lengths[:, 0] - order, 0) for order in range(ORDERS)]
  return np.stack([*matches, *proposals, *lengths.T], axis=1)


def bleu(statistics: np.ndarray) -> np.ndarray:
  """BLEU-1 to BLEU-4 (... 4) of sums of `bleu_statistics` (... 10)."""
  matches, proposals = statistics[..., :ORDERS], statistics[..., ORDERS : 2 * ORDERS]
  length, reference = statistics[..., -2, None], statistics[..., -1, None]
  precision = (matches + TINY) / (proposals + SMALL)
  geometric_mean = np.cumprod(precision, axis=-1) ** (1 / np.arange(1, ORDERS + 1))
  ratio = (length + TINY) / (reference + SMALL)
  return geometric_mean * np.exp(np.minimum(0.0, 1 - 1 / ratio))


def bleu_of_order(order: int) -> Callable[[np.ndarray], np.ndarray]:
  """The function from sums of `bleu_statistics` (... 10) to their BLEU of an order."""
  return lambda sums: bleu(sums)[..., order - 1]


def cider(corpus: Corpus) -> np.ndarray:
  """CIDEr-D of every report (n,); the corpus score is its mean.

  Document frequencies come from these references, so a report's value depends on
  the whole set, and a set of one scores 0.
  """
  n = len(corpus.lengths)
  # One table for both logarithms: what every reference has must weigh exactly 0,
  # for a weight of 1e-17 would still have a cosine of 1.
  logarithm = np.log(np.arange(1, n + 1, dtype=np.float64))
  score = np.zeros(n)
  for g in corpus.ngrams:
    weight = logarithm[-1] - logarithm[np.maximum(g.documents, 1) - 1]
    predicted, reference = g.predicted * weight, g.reference * weight
    overlap = np.bincount(g.report, np.minimum(predicted, reference) * reference, n)
    norm = np.sqrt(np.bincount(g.report, predicted**2, n))
    norm *= np.sqrt(np.bincount(g.report, reference**2, n))
    score += np.divide(overlap, norm, out=np.zeros(n), where=norm > 0)
  # The length of the penalty is counted in bigrams, as pycocoevalcap counts it.
  difference = np.diff(np.maximum(corpus.lengths - 1, 0), axis=1)[:, 0]
  penalty = np.exp(-(difference**2) / (2 * CIDER_SIGMA**2))
  return 10 * penalty * score / ORDERS


def rouge_l(predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
  """ROUGE-L of every report (n,), beta 1.2; the corpus score is its mean."""
  scores = np.zeros(len(predictions))
  for i, (prediction, reference) in enumerate(zip(predictions, references)):
    words, reference_words = prediction.split(" "), reference.split(" ")
    common = longest_common_subsequence(words, reference_words)
    if common:
      precision, recall = common / len(words), common / len(reference_words)
      beta_2 = ROUGE_BETA**2
      scores[i] = (1 + beta_2) * precision * recall / (recall + beta_2 * precision)
  return scores


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
  """Its length, a machine word at a time (Hyyrö 2004).

  Bit i of `row` is 0 where the row of the dynamic programme rises at first[i].
  """
  places: dict[str, int] = {}
  for i, word in enumerate(first):
    places[word] = places.get(word, 0) | 1 << i
  full = row = (1 << len(first)) - 1
  for word in second:
    matches = row & places.get(word, 0)
    row = (row + matches | row - matches) & full
  return len(first) - row.bit_count()
