"""Retrieval by hand-made embeddings, against guessing and a plain loop."""

import json

import numpy as np
import pytest

from data_pipelines.records import LABELS
from jaxrg.metrics import retrieval

ALIKE = np.ones((6, 3))


def texts(n):
  return [f"text {i}" for i in range(n)]


def labels(**states):
  row = dict.fromkeys(LABELS, -2) | {k.replace("_", " "): v for k, v in states.items()}
  return list(row.values())


def test_what_is_its_own_nearest_is_found_first():
  found = retrieval.score_instances(np.eye(12), 3 * np.eye(12), texts(12))
  for direction in (retrieval.IMAGE_TO_REPORT, retrieval.REPORT_TO_IMAGE):
    assert found[direction] == {
      f"recall_at_{k}": {"value": 1, "low": 1, "high": 1} for k in (1, 5, 10)
    }
  assert found["protocol"]["n_candidates"] == 12
  assert found["protocol"]["chance"]["recall_at_1"] == 1 / 12
  assert "equal text are one candidate" in found["protocol"]["name"]
  assert json.loads(json.dumps(found)) == found


def test_ranks_by_hand():
  """Reports on a circle at 0, 10, 20, 30 degrees; each image 14 degrees further on."""
  circle = lambda degrees: np.stack([np.cos(d := np.deg2rad(degrees)), np.sin(d)], 1)
  reports, images = np.array([0, 10, 20, 30]), np.array([14, 24, 34, 44])
  found = retrieval.recall(circle(images), circle(reports), texts(4), (1, 2, 3, 4))
  np.testing.assert_array_equal(
    found, [[0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]]
  )


def test_equal_reports_are_one_candidate():
  """Three copies of the nearest report would else push the own one to rank four."""
  report = np.array([[1, 0], [1, 0], [1, 0], [0.8, 0.6]])
  image = np.array([[1, 0.1], [1, 0.1], [1, 0.1], [1, 0.2]])
  said = ["a", "a", "a", "b"]
  found = retrieval.recall(image, report, said, (1, 2))
  np.testing.assert_array_equal(found, [[1, 1], [1, 1], [1, 1], [0, 1]])
  # The other way any film of the text will do: that of row 0 is far off.
  image[0] = (-1, 0)
  np.testing.assert_array_equal(retrieval.recall(report, image, said, (1,))[:3], 1)


def test_ties_are_broken_by_chance():
  found = retrieval.recall(ALIKE, ALIKE, texts(6), (1, 3, 10))
  np.testing.assert_allclose(found, [[1 / 6, 1 / 2, 1]] * 6)
  shares = retrieval.precision(ALIKE, ALIKE, list("aabbbb"), (1, 5))
  np.testing.assert_allclose(shares, [[1 / 3] * 2] * 2 + [[2 / 3] * 2] * 4)
  # One is ahead for certain, of the other two places three candidates of one class.
  candidates = np.array([[1, 0], [0, 1], [0, 1], [0, 1]])
  shares = retrieval.precision(candidates, candidates, list("axxa"), (3,))
  np.testing.assert_allclose(shares[0], (1 + 2 / 3) / 3)


def test_no_number_is_like_nothing():
  image = np.eye(8)
  image[2] = np.nan
  found = retrieval.recall(image, np.eye(8), texts(8), (1,))[:, 0]
  np.testing.assert_allclose(found, [1, 1, 1 / 8, 1, 1, 1, 1, 1])
  back = retrieval.recall(np.eye(8), image, texts(8), (1,))[:, 0]
  np.testing.assert_allclose(back, [1, 1, 0, 1, 1, 1, 1, 1])


def test_random_embeddings_guess():
  rng = np.random.default_rng(0)
  image, report = rng.normal(size=(2, 1000, 16))
  classes = [retrieval.CLASSES[i % 5] for i in range(1000)]
  instances = retrieval.score_instances(image, report, texts(1000), resamples=50)
  categories = retrieval.score_categories(image, report, classes, resamples=50)
  assert categories["protocol"]["chance"] == pytest.approx(0.2)
  assert set(categories["protocol"]["classes"].values()) == {200}
  for direction in (retrieval.IMAGE_TO_REPORT, retrieval.REPORT_TO_IMAGE):
    assert instances[direction]["recall_at_10"]["value"] == pytest.approx(
      0.01, abs=0.01
    )
    for k in retrieval.DEPTHS:
      value = categories[direction][f"precision_at_{k}"]["value"]
      assert value == pytest.approx(0.2, abs=0.02)


def test_categories_by_hand():
  """The other pair of a class comes second, and the classes are apart."""
  image = report = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
  shares = retrieval.precision(image, report, list("aabb"), (1, 2, 4))
  np.testing.assert_array_equal(shares, [[1, 1, 0.5]] * 4)
  with pytest.raises(ValueError, match="first 5 of 4 candidates"):
    retrieval.precision(image, report, list("aabb"), (5,))


def test_blocks_change_nothing(monkeypatch):
  rng = np.random.default_rng(1)
  image, report = rng.normal(size=(2, 1100, 16))
  said = [f"text {i}" for i in rng.integers(0, 1000, 1100)]
  classes = rng.integers(0, 5, 1100)
  first = retrieval.recall(image, report, said)
  second = retrieval.precision(image, report, classes)
  monkeypatch.setattr(retrieval, "_BLOCK", 333)
  np.testing.assert_array_equal(retrieval.recall(image, report, said), first)
  np.testing.assert_array_equal(retrieval.precision(image, report, classes), second)


def test_alike_films_of_a_patient_widen_the_interval():
  rng = np.random.default_rng(2)
  image, report = rng.normal(size=(2, 40, 4))
  image += report
  ten = lambda x: np.repeat(x, 10, axis=0)
  said, patients = ten(texts(40)), ten(np.arange(40))
  naive, clustered = (
    retrieval.score_instances(ten(image), ten(report), said.tolist(), patients=of)
    for of in (None, patients)
  )
  naive, clustered = (x["image_to_report"]["recall_at_5"] for x in (naive, clustered))
  assert naive["value"] == clustered["value"]
  spread = lambda x: x["high"] - x["low"]
  assert spread(naive) < 0.5 * spread(clustered)


@pytest.mark.parametrize(
  ("states", "expected"),
  [
    ({"Edema": 1}, "Edema"),
    ({"Edema": 1, "Cardiomegaly": 0}, "Edema"),
    ({"Edema": 1, "Cardiomegaly": -1}, ""),
    ({"Edema": 1, "Support_Devices": 1}, ""),
    ({"Edema": -1}, ""),
    ({"Fracture": 1}, ""),
    ({"No_Finding": 1}, ""),
    ({}, ""),
  ],
)
def test_exclusively_positive(states, expected):
  assert retrieval.exclusive_class(labels(**states)) == expected


def test_pairs_are_asked_for():
  with pytest.raises(ValueError, match="6 images, 6 reports, 5 texts"):
    retrieval.score_instances(ALIKE, ALIKE, texts(5))
