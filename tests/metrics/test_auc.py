import time

import numpy as np
import pytest

from jaxrg.metrics import auc, intervals


def pairs(scores, positive):
  """By the definition: every pair is looked at."""
  has, has_not = scores[positive], scores[~positive]
  above = (has[:, None] > has_not).sum() + (has[:, None] == has_not).sum() / 2
  return above / (len(has) * len(has_not))


@pytest.mark.parametrize(
  ("scores", "positive", "expected"),
  [
    ([0, 1, 2, 3], [0, 0, 1, 1], 1),
    ([0, 1, 2, 3], [1, 1, 0, 0], 0),
    ([5, 5, 5, 5], [0, 1, 0, 1], 0.5),
    ([0, 1, 2, 3], [0, 1, 0, 1], 0.75),
    ([0, 1, 1, 2], [0, 0, 1, 1], 0.875),
    ([-np.inf, 0, np.inf], [0, 0, 1], 1),
  ],
)
def test_known_answers(scores, positive, expected):
  assert auc.auc(np.array(scores, float), np.array(positive, bool)) == expected


@pytest.mark.parametrize("decimals", [0, 1, 8])  # Of few scores, most are ties.
def test_it_counts_pairs(decimals):
  rng = np.random.default_rng(decimals)
  for _ in range(20):
    scores = np.round(rng.normal(size=60), decimals)
    positive = rng.random(60) < 0.3
    expected = pairs(scores, positive)
    assert auc.auc(scores, positive) == pytest.approx(expected, abs=1e-14)


def test_a_weight_is_so_many_copies():
  rng = np.random.default_rng(0)
  scores, positive = np.round(rng.normal(size=40), 1), rng.random(40) < 0.4
  weights = rng.integers(0, 4, (5, 40))
  copies = [
    auc.auc(np.repeat(scores, row), np.repeat(positive, row)) for row in weights
  ]
  np.testing.assert_allclose(auc.auc(scores, positive, weights), copies)


@pytest.mark.parametrize("positive", [True, False])
def test_without_a_pair_there_is_none(positive):
  assert np.isnan(auc.auc(np.arange(3.0), np.full(3, positive)))
  assert np.isnan(auc.auc(np.zeros(0), np.zeros(0, bool)))


def test_macro_is_the_mean_of_labels_that_have_pairs():
  scores = np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 3]], float)
  positive = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]], bool)
  assert auc.macro(scores, positive) == pytest.approx((1 + 0.75) / 2)
  # Without the last film, which is all that the second label is right about.
  weights = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]])
  expected = [(1 + 0.75) / 2, (1 + 0.5) / 2, np.nan]
  np.testing.assert_allclose(auc.macro(scores, positive, weights), expected)


def test_it_resamples_patients():
  """Against a plain loop that copies the drawn patients' films, in blocks or not."""
  rng = np.random.default_rng(1)
  scores, positive = rng.normal(size=(50, 3)), rng.random((50, 3)) < 0.4
  patients = np.array([f"p{i}" for i in rng.integers(0, 12, 50)])
  names = np.unique(patients)
  expected = []
  for drawn in np.random.default_rng(5).integers(len(names), size=(30, len(names))):
    rows = np.concatenate([np.flatnonzero(patients == names[i]) for i in drawn])
    of_label = [pairs(scores[rows, k], positive[rows, k]) for k in range(3)]
    expected.append(np.mean(of_label))
  found = auc.resampled_macro(scores, positive, patients, resamples=30, seed=5)
  np.testing.assert_allclose(found, expected)


def test_blocks_decide_nothing(monkeypatch):
  rng = np.random.default_rng(2)
  scores, positive = rng.normal(size=(40, 2)), rng.random((40, 2)) < 0.5
  resample = lambda: auc.resampled_macro(scores, positive, np.arange(40) // 4)
  whole = resample()
  monkeypatch.setattr(auc, "_BLOCK", 40 * 7)
  np.testing.assert_array_equal(resample(), whole)


def test_interval_is_that_of_hanley_and_mcneil():
  """Their standard error holds for scores of two normal distributions, one a film."""
  rng = np.random.default_rng(3)
  positive = np.arange(600) % 3 == 0
  scores = rng.normal(size=600) + positive
  value = float(auc.auc(scores, positive))
  resampled = auc.resampled_macro(
    scores[:, None], positive[:, None], np.arange(600), resamples=2000
  )
  q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
  terms = value * (1 - value) + 199 * (q1 - value**2) + 399 * (q2 - value**2)
  error = np.sqrt(terms / (200 * 400))
  found = intervals.interval(value, resampled)
  assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.1)


def test_paired_values_know_the_pairs():
  """A small gain on the same films is seen through what both get wrong."""
  rng = np.random.default_rng(4)
  positive = (rng.random(400) < 0.4)[:, None]
  first = rng.normal(size=(400, 1)) + positive
  second = first + 0.3 * positive
  values = [auc.resampled_macro(x, positive, np.arange(400)) for x in (first, second)]
  gain = float(auc.macro(second, positive) - auc.macro(first, positive))
  found = intervals.difference(gain, values[1] - values[0])
  assert 0 < found.low < gain < found.high
  assert found.p < 0.01
  alone = [intervals.interval(0.0, x) for x in values]
  assert alone[1].low < alone[0].high  # Side by side they overlap.


def test_it_is_quick_at_the_size_of_the_long_data():
  rng = np.random.default_rng(6)
  scores, positive = rng.normal(size=(1500, 14)), rng.random((1500, 14)) < 0.2
  began = time.perf_counter()
  auc.resampled_macro(scores, positive, np.arange(1500) // 4)
  assert time.perf_counter() - began < 30  # Seconds; one, where nothing else runs.
