"""Linear probes: what of some labels can be read off frozen features.

Logistic regressions, one a label, that share the strength of their penalty; nothing is
drawn, so the same features give the same probe.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import optimize, special

from jaxrg.metrics import auc

STRENGTHS = (10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)  # Of the penalty.
_STEPS = 1000

Labelled = tuple[np.ndarray, np.ndarray]  # Features (n c), and who has what (n l).


@dataclasses.dataclass(frozen=True)
class Linear:
  """A probe of c features on l labels."""

  mean: np.ndarray  # (c,)
  scale: np.ndarray  # (c,)
  kernel: np.ndarray  # (c l)
  bias: np.ndarray  # (l,)
  strength: float  # Of its penalty.

  def standardise(self, features: np.ndarray) -> np.ndarray:
    """Features (n c) as the probe reads them: with the training's mean 0, variance 1.

    One that never varied in training is 0.
    """
    return (np.asarray(features, np.float64) - self.mean) / self.scale

  def __call__(self, features: np.ndarray) -> np.ndarray:
    """The logits (n l) of features (n c)."""
    return self.standardise(features) @ self.kernel + self.bias


def fit(
  features: np.ndarray,
  positive: np.ndarray,
  strength: float,
  start: Linear | None = None,
) -> Linear:
  """The probe of least cross-entropy and strength / 2 times its squared kernel.

  Cross-entropies of features (n c) on `positive` (n l) are means over the films, sums
  over the labels; `start`, of the same films, only shortens the way.
  """
  x = np.asarray(features, np.float64)
  mean, scale = x.mean(axis=0), x.std(axis=0)
  # What varies by rounding alone is taken for constant.
  constant = scale <= 1e-7 * np.maximum(1.0, np.abs(mean))
  scale = np.where(constant, np.inf, scale)
  loss = _Loss((x - mean) / scale, np.asarray(positive, np.float64), strength)
  first = np.zeros(loss.shape)
  if start is not None:
    first = np.vstack([start.kernel, start.bias])
  # Not L-BFGS: between busy cores scipy's own waits for threads that it has no need of.
  found = optimize.minimize(
    loss,
    first.ravel(),
    jac=True,
    hessp=loss.curve,
    method="trust-ncg",
    options={"maxiter": _STEPS, "gtol": 1e-5},
  )
  *kernel, bias = found.x.reshape(loss.shape)
  return Linear(mean, scale, np.array(kernel), bias, strength)


class _Loss:
  """What a probe minimises, of standardised features, with its derivatives."""

  def __init__(self, x: np.ndarray, y: np.ndarray, strength: float):
    self._x, self._y, self._strength = x, y, strength
    self.shape = (x.shape[1] + 1, y.shape[1])  # The bias is the last row.
    self._at, self._logits = None, None

  def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
    """The loss and its gradient."""
    logits, kernel = self._logits_of(flat), flat.reshape(self.shape)[:-1]
    entropy = (np.logaddexp(0, logits) - self._y * logits).sum() / len(self._x)
    penalty = self._strength / 2 * (kernel**2).sum()
    return entropy + penalty, self._back(special.expit(logits) - self._y, kernel)

  def curve(self, flat: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The second derivative along a direction."""
    has = special.expit(self._logits_of(flat))
    along = along.reshape(self.shape)
    change = has * (1 - has) * (self._x @ along[:-1] + along[-1])
    return self._back(change, along[:-1])

  def _logits_of(self, flat: np.ndarray) -> np.ndarray:
    # A point is left after many looks along directions.
    if not np.array_equal(flat, self._at):
      weights = flat.reshape(self.shape)
      self._at, self._logits = flat.copy(), self._x @ weights[:-1] + weights[-1]
    return self._logits

  def _back(self, slope: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    slope = slope / len(self._x)
    down = self._x.T @ slope + self._strength * kernel
    return np.vstack([down, slope.sum(axis=0)]).ravel()


def choose(
  train: Labelled, validation: Labelled, strengths: Sequence[float] = STRENGTHS
) -> Linear:
  """The probe fitted to `train` whose strength has the best macro-AUC on `validation`.

  Of equal ones, and where no label can be judged there, the strongest.
  """
  features, positive = validation
  best, best_score, probe = None, None, None
  for strength in sorted(strengths, reverse=True):
    probe = fit(*train, strength, start=probe)
    score = auc.macro(probe(features), positive)
    if best is None or score > best_score:
      best, best_score = probe, score
  return best
