"""Area under the ROC curve: how often the one who has it is ranked above who has not.

It is no function of sums over films, so resamples are weights: a film counts as often
as its patient was drawn.
"""

from collections.abc import Sequence

import numpy as np

from jaxrg.metrics import intervals

_BLOCK = 1 << 22  # Weights of films held at once: 32 MB.


def auc(
  scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
  """The share of pairs (a positive, a negative) that scores (n,) rank right: (...).

  A tie is half a pair. `positive` (n,) is bool; `weights` (... n) say how often each
  film is there. nan where there is no pair.
  """
  positive = np.asarray(positive, bool)
  weights = np.ones(len(positive)) if weights is None else weights
  _, rank = np.unique(scores, return_inverse=True)  # Equal scores share one.
  order = np.argsort(rank, kind="stable")
  starts = np.searchsorted(rank[order], np.arange(rank.max(initial=-1) + 1))
  at_rank = lambda of: np.add.reduceat((weights * of)[..., order], starts, axis=-1)
  has, has_not = at_rank(positive), at_rank(~positive)
  below = np.cumsum(has_not, axis=-1) - has_not / 2
  pairs = has.sum(-1) * has_not.sum(-1)
  right = (has * below).sum(-1)
  return np.divide(right, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)


def macro(
  scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
  """The mean AUC of the labels of scores (n l): (...).

  `positive` (n l) and `weights` (... n) as for `auc`. A label without a pair is left
  out; nan where all are.
  """
  columns = zip(np.transpose(scores), np.transpose(positive), strict=True)
  of_label = np.stack([auc(*column, weights) for column in columns], axis=-1)
  known = ~np.isnan(of_label)
  count = known.sum(-1)
  total = np.where(known, of_label, 0).sum(-1)
  return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def resampled_macro(
  scores: np.ndarray,
  positive: np.ndarray,
  patients: Sequence[str],
  *,
  resamples: int = 1000,
  seed: int = 0,
) -> np.ndarray:
  """`macro` with other patients (resamples,), for `intervals.interval`.

  Scores (n l) of the same films under the same seed are resampled alike, so that their
  values can be subtracted, for `intervals.difference`.
  """
  names, row = np.unique(np.asarray(patients), return_inverse=True)
  block = max(1, _BLOCK // len(row))
  values = []
  for drawn in intervals.draws(len(names), resamples, seed):
    for start in range(0, len(drawn), block):
      values.append(macro(scores, positive, drawn[start : start + block, row]))
  return np.concatenate(values)
