import numpy as np
import pytest

from jaxrg.metrics import clinical, intervals


def values(x):
  return np.stack([x, np.ones_like(x)], axis=1)


def test_interval_of_a_mean_is_the_normal_one():
  x = np.random.default_rng(0).normal(3, 2, 400)
  found = intervals.bootstrap(values(x), intervals.mean, resamples=4000)
  error = 1.96 * x.std() / np.sqrt(400)
  assert found.value == pytest.approx(x.mean())
  assert found.low == pytest.approx(x.mean() - error, abs=0.02)
  assert found.high == pytest.approx(x.mean() + error, abs=0.02)


def test_it_is_the_bootstrap_that_it_says_it_is():
  """Against a plain loop that copies the drawn patients' reports."""
  rng = np.random.default_rng(1)
  outcomes = rng.integers(0, 2, (30, 14, 3))
  patients = np.array([f"p{i}" for i in rng.integers(0, 9, 30)])
  names = np.unique(patients)
  drawn = np.random.default_rng(5).integers(len(names), size=(50, len(names)))
  scores = []
  for draw in drawn:
    rows = np.concatenate([np.flatnonzero(patients == names[i]) for i in draw])
    scores.append(clinical.macro_f1(outcomes[rows].sum(0)))
  found = intervals.bootstrap(
    outcomes, clinical.macro_f1, clusters=patients, resamples=50, seed=5
  )
  assert found.value == pytest.approx(clinical.macro_f1(outcomes.sum(0)))
  np.testing.assert_allclose(found[1:], np.quantile(scores, [0.025, 0.975]))


def test_alike_reports_of_a_patient_widen_the_interval():
  x = np.random.default_rng(2).normal(size=100)
  ten = np.repeat(x, 10)
  patients = np.repeat(np.arange(100), 10)
  alone = intervals.bootstrap(values(x), intervals.mean)
  clustered = intervals.bootstrap(values(ten), intervals.mean, clusters=patients)
  naive = intervals.bootstrap(values(ten), intervals.mean)
  np.testing.assert_allclose(clustered, alone)
  assert naive.high - naive.low < 0.5 * (clustered.high - clustered.low)


def test_seed_decides_and_blocks_do_not(monkeypatch):
  x = values(np.random.default_rng(3).normal(size=50))
  first = intervals.bootstrap(x, intervals.mean, seed=1)
  monkeypatch.setattr(intervals, "_BLOCK", 7 * 50)
  assert intervals.bootstrap(x, intervals.mean, seed=1) == first
  assert intervals.bootstrap(x, intervals.mean, seed=2) != first


def test_paired_difference_knows_the_pairs():
  rng = np.random.default_rng(4)
  hard = rng.normal(0, 5, 200)  # How hard a study is, for both alike.
  better = hard + 0.3 + rng.normal(0, 0.5, 200)
  found = intervals.paired(values(better), values(hard), intervals.mean)
  assert found.value == pytest.approx((better - hard).mean())
  assert 0 < found.low < found.value < found.high
  assert found.p <= 0.01
  same = intervals.paired(values(hard), values(hard), intervals.mean)
  assert same == (0, 0, 0, 1)


def test_paired_difference_of_label_f1():
  rng = np.random.default_rng(6)
  first, second = rng.integers(0, 2, (2, 20, 14, 3))
  found = intervals.paired(first, second, clinical.micro_f1)
  expected = clinical.micro_f1(first.sum(0)) - clinical.micro_f1(second.sum(0))
  assert found.value == pytest.approx(expected)


def test_nothing_to_resample():
  with pytest.raises(ValueError, match="at least one report"):
    intervals.bootstrap(np.zeros((0, 2)), intervals.mean)
