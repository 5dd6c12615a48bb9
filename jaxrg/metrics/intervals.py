"""Bootstrap intervals: how far a score would move with other patients.

A measure is a function of *sums over reports* (counts, or a value and a 1 whose
quotient is a mean). Resampling then is one matrix product: weights of patients
times their sums. Studies of one patient are alike, so patients are drawn, not
studies. What is no function of sums is computed under the weights of `draws`, and
`interval` and `difference` take it from there.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
_BLOCK = 1 << 22  # Weights held at once: 32 MB.

# Sums (... k) -> the measure (...); k may be several axes.
Measure = Callable[[np.ndarray], np.ndarray]


class Interval(NamedTuple):
  """A measure with its percentile interval."""

  value: float
  low: float
  high: float


class Difference(NamedTuple):
  """First minus second of a pair, its interval, and a two-sided p of no difference."""

  value: float
  low: float
  high: float
  p: float


def mean(sums: np.ndarray) -> np.ndarray:
  """The measure of statistics (value, 1): their mean."""
  return sums[..., 0] / sums[..., 1]


def bootstrap(
  statistics: np.ndarray,
  measure: Measure,
  *,
  clusters: Sequence | None = None,
  resamples: int = 1000,
  seed: int = 0,
) -> Interval:
  """The measure of n reports' summed statistics (n, ...), with a 95 % interval.

  `clusters` names each report's patient; without it the reports are drawn. The
  same seed, clusters and number of resamples draw the same patients.
  """
  sums = _cluster_sums(statistics, clusters)
  values = _resampled(sums, measure, resamples, seed)
  return interval(float(measure(sums.sum(0))), values)


def paired(
  first: np.ndarray,
  second: np.ndarray,
  measure: Measure,
  *,
  clusters: Sequence | None = None,
  resamples: int = 1000,
  seed: int = 0,
) -> Difference:
  """The measure's difference between two sets of predictions for the same reports."""
  if len(first) != len(second):
    raise ValueError(
      f"A paired difference needs the same reports twice: {len(first)}, {len(second)}."
    )

  axis = -first.ndim  # Of the pair, counted from the end: sums may be resampled.

  def gap(sums):
    return measure(np.take(sums, 0, axis)) - measure(np.take(sums, 1, axis))

  sums = _cluster_sums(np.stack([first, second], axis=1), clusters)
  values = _resampled(sums, gap, resamples, seed)
  return difference(float(gap(sums.sum(0))), values)


def interval(value: float, resampled: np.ndarray) -> Interval:
  """A measure's value with the interval of its resampled values (resamples,)."""
  return Interval(value, *_percentiles(resampled))


def difference(value: float, resampled: np.ndarray) -> Difference:
  """A difference with the interval of its resampled values (resamples,), and its p."""
  # The sample itself counts as one resample, so that p is never 0.
  other_side = min(np.sum(resampled <= 0), np.sum(resampled >= 0))
  p = min(1.0, 2 * (1 + int(other_side)) / (1 + len(resampled)))
  return Difference(value, *_percentiles(resampled), p)


def draws(n: int, resamples: int, seed: int = 0) -> Iterator[np.ndarray]:
  """How often each of n clusters is drawn: (resamples n), in blocks of rows."""
  rng = np.random.default_rng(seed)
  block = max(1, _BLOCK // n)
  for start in range(0, resamples, block):
    size = min(block, resamples - start)
    drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
    yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)


def _cluster_sums(statistics: np.ndarray, clusters: Sequence | None) -> np.ndarray:
  """Statistics summed within each cluster, clusters in order of their names."""
  if len(statistics) == 0:
    raise ValueError("An interval needs at least one report.")
  if clusters is None:
    return np.asarray(statistics, np.float64)
  names, row = np.unique(np.asarray(clusters), return_inverse=True)
  sums = np.zeros((len(names), *statistics.shape[1:]))
  np.add.at(sums, row, statistics)
  return sums


def _resampled(
  sums: np.ndarray, measure: Measure, resamples: int, seed: int
) -> np.ndarray:
  """The measure under every resample of the rows of sums."""
  flat = sums.reshape(len(sums), -1)
  return np.concatenate(
    [
      measure((weights @ flat).reshape(-1, *sums.shape[1:]))
      for weights in draws(len(sums), resamples, seed)
    ]
  )


def _percentiles(values: np.ndarray) -> tuple[float, float]:
  """Of the resamples that have a value: one may have drawn nothing to measure."""
  tail = (1 - LEVEL) / 2
  low, high = np.nanquantile(values, [tail, 1 - tail])
  return float(low), float(high)
