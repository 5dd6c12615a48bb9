import itertools

import numpy as np
import pytest

from jaxrg.metrics import baselines, clinical


def test_most_common_report():
  reports = ["b", "a", "", "a", "b", "", ""]
  assert baselines.most_common_report(reports) == "a"
  with pytest.raises(ValueError, match="at least one"):
    baselines.most_common_report([""])


def test_nearest_is_the_exact_nearest(monkeypatch):
  monkeypatch.setattr(baselines, "_BLOCK", 5)
  rng = np.random.default_rng(0)
  library, queries = rng.normal(size=(40, 16)), rng.normal(size=(13, 16))
  distances = np.linalg.norm(queries[:, None] - library[None], axis=-1)
  np.testing.assert_array_equal(
    baselines.nearest(queries, library), distances.argmin(1)
  )


def test_brightness_and_contrast_do_not_matter():
  rng = np.random.default_rng(1)
  images = rng.integers(0, 100, (6, 64, 48, 1), np.uint8)
  darker = [(image // 2 + 20).astype(np.uint8) for image in images]
  library = baselines.thumbnails(images)
  assert library.shape == (6, 1024)
  np.testing.assert_allclose(library.mean(1), 0, atol=1e-5)
  np.testing.assert_allclose(library.std(1), 1, atol=1e-5)
  found = baselines.nearest(baselines.thumbnails(reversed(darker)), library)
  np.testing.assert_array_equal(found, [5, 4, 3, 2, 1, 0])


def test_blank_image_is_no_nan():
  assert np.all(baselines.thumbnails([np.zeros((40, 40), np.uint8)]) == 0)


def test_constant_changes_are_the_best_of_all_constants():
  a, b, c = ("Edema", "", "new"), ("Fracture", "left", "new"), ("Edema", "", "smaller")
  steady = ("Edema", "", "unchanged")
  studies = [{a}, {a, b}, {a, steady}, {b, c}, set(), {steady}, {steady}]
  found = baselines.constant_changes(studies)

  def f1(answer):
    counts = clinical.change_statistics([answer] * len(studies), studies)
    return clinical.f1(counts.sum(0))

  sets = [
    set(items) for k in range(4) for items in itertools.combinations([a, b, c], k)
  ]
  assert f1(found) == max(map(f1, sets)) > 0
  assert baselines.constant_changes([set()]) == set()


def test_with_reports():
  rows = [{"id": "a", "prediction": "x", "reference": "r"}]
  assert baselines.with_reports(rows, ["y"])[0] == {**rows[0], "prediction": "y"}
  assert rows[0]["prediction"] == "x"
  with pytest.raises(ValueError, match="1 studies but 0 reports"):
    baselines.with_reports(rows, [])
