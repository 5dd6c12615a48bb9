import numpy as np
import pytest
from scipy import optimize

from jaxrg import probes
from jaxrg.metrics import auc, intervals


def films(count, width, seed=0):
  return np.random.default_rng(seed).normal(size=(count, width))


def test_what_is_separable_is_told_apart():
  """Two labels along two directions; on other films than it was fitted to."""
  train, test = films(400, 6), films(200, 6, seed=1)
  has = lambda x: np.stack([x[:, 0] > 0.5, x[:, 1] + x[:, 2] < 0], axis=1)
  probe = probes.fit(train, has(train), 1e-4)
  assert auc.macro(probe(test), has(test)) > 0.999
  assert auc.macro(probe(train), has(train)) == 1


def test_noise_is_a_coin():
  """Intervals are of 95 %: of twenty, hardly more than one may miss a half."""
  within, values = 0, []
  for seed in range(20):
    rng = np.random.default_rng(seed)
    x, has = rng.normal(size=(400, 10)), rng.random((400, 2)) < 0.3
    probe = probes.choose((x[:150], has[:150]), (x[150:200], has[150:200]), (1.0, 0.1))
    scores, truth = probe(x[200:]), has[200:]
    values.append(float(auc.macro(scores, truth)))
    resampled = auc.resampled_macro(scores, truth, np.arange(200), resamples=200)
    found = intervals.interval(values[-1], resampled)
    within += found.low < 0.5 < found.high
  assert within >= 17
  assert np.mean(values) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("strength", [1.0, 0.01])
def test_in_one_dimension_the_slope_is_the_root_of_its_derivative(strength):
  """Of as many at -1 as at 1: a share of 1/4 of the ones have it, of the others 3/4.

  The bias is 0, and w solves sigmoid(w) - 3/4 + strength * w = 0.
  """
  x = np.repeat([-1.0, 1.0], 8)[:, None]
  has = np.tile([1, 1, 1, 1, 1, 1, 0, 0], 2) == np.repeat([0, 1], 8)
  probe = probes.fit(x, has[:, None], strength)
  slope = lambda w: 1 / (1 + np.exp(-w)) - 0.75 + strength * w
  expected = optimize.brentq(slope, 0, 5, xtol=1e-12)
  np.testing.assert_allclose(probe.kernel, [[expected]], rtol=1e-5)
  np.testing.assert_allclose(probe.bias, [0], atol=1e-6)


def test_labels_share_nothing_but_the_penalty():
  x, has = films(100, 4), np.random.default_rng(1).random((100, 3)) < 0.4
  together = probes.fit(x, has, 0.1)
  for k in range(3):
    alone = probes.fit(x, has[:, [k]], 0.1)
    np.testing.assert_allclose(together.kernel[:, [k]], alone.kernel, atol=1e-4)
    np.testing.assert_allclose(together.bias[[k]], alone.bias, atol=1e-4)


def test_units_do_not_matter():
  x, has = films(100, 4), np.random.default_rng(1).random((100, 2)) < 0.4
  scaled = x * [1, 1e3, 1e-3, 7] + [0, 5, 0.1, -3]
  first, second = (probes.fit(of, has, 0.01)(of) for of in (x, scaled))
  np.testing.assert_allclose(first, second, atol=1e-4)


def test_what_never_varied_says_nothing():
  """Nor does it when it varies later, or in the last bit."""
  x, has = films(100, 3).astype(np.float32), films(100, 1, seed=1) > 0
  x[:, 1], x[:, 2] = 0.1, 0
  probe = probes.fit(x, has, 0.01)
  changed = x.copy()
  changed[:, 1:] += 100
  assert np.isfinite(probe(x)).all()
  np.testing.assert_array_equal(probe(changed), probe(x))


def test_a_start_only_shortens_the_way():
  x, has = films(200, 5), np.random.default_rng(1).random((200, 2)) < 0.4
  strong = probes.fit(x, has, 1.0)
  warm, cold = probes.fit(x, has, 0.001, start=strong), probes.fit(x, has, 0.001)
  np.testing.assert_allclose(warm.kernel, cold.kernel, atol=1e-3)
  assert np.array_equal(cold.kernel, probes.fit(x, has, 0.001).kernel)


def test_validation_chooses_the_strength():
  """Many features of few films: the weak penalty learns by heart."""
  x, y = films(60, 200), films(500, 200, seed=1)
  has = lambda x, seed: (x[:, :1] + films(len(x), 1, seed)) > 0
  train, validation = (x, has(x, 2)), (y, has(y, 3))
  scores = {
    strength: auc.macro(probes.fit(*train, strength)(y), validation[1])
    for strength in (10.0, 0.1, 0.001)
  }
  assert len(set(map(float, scores.values()))) == 3
  chosen = probes.choose(train, validation, tuple(scores))
  assert chosen.strength == max(scores, key=scores.get)


def test_where_nothing_can_be_judged_the_strongest_is_chosen():
  x, has = films(60, 4), films(60, 2, seed=1) > 0
  nobody = np.zeros((60, 2), bool)
  assert probes.choose((x, has), (x, nobody), (0.1, 1.0)).strength == 1.0
