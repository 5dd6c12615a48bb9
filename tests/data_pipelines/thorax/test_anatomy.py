import numpy as np
import pytest

from data_pipelines.thorax import anatomy, interpolation
from data_pipelines.thorax.anatomy import LOBES, VIEWS, Chest

SIZE = 96


def chest(name, patient=0, study=0):
  view = anatomy.view_of(name, SIZE)
  rngs = np.random.default_rng(patient), np.random.default_rng([patient, study])
  return Chest(view, *anatomy.warp(view, *rngs))


@pytest.mark.parametrize("name", VIEWS)
def test_path_lengths_are_those_of_a_chest(name):
  """The layers are in mm and per mm: a lung holds litres, at the density of lung."""
  view = anatomy.view_of(name, SIZE)
  length = view.layers[:, -len(LOBES) :].astype(np.float64)
  mu = view.layers[:, -2 * len(LOBES) : -len(LOBES)].astype(np.float64)
  litres = length.sum() * anatomy.PIXEL_MM**2 / 1e6
  assert 3 < litres < 10
  density = mu.sum() / length.sum() / anatomy.MU_WATER
  assert 0.1 < density < 0.3


@pytest.mark.parametrize("name", ["PA", "AP"])
def test_left_is_on_the_viewers_right(name):
  sample = chest(name)
  right, left = sample.length[:3].sum(0), sample.length[3:].sum(0)
  columns = np.arange(SIZE)
  assert (right.sum(0) * columns).sum() / right.sum() < SIZE * 0.4
  assert (left.sum(0) * columns).sum() / left.sum() > SIZE * 0.6


def test_lobes_lie_one_above_the_other():
  sample = chest("PA")
  rows = np.arange(SIZE)
  height = [(lobe.sum(1) * rows).sum() / lobe.sum() for lobe in sample.length]
  upper, middle, lower = height[:3]
  assert upper < middle < lower
  assert height[3] < height[4]


@pytest.mark.parametrize("name", VIEWS)
def test_place_inverts_the_warp(name):
  sample = chest(name, patient=3)
  pixels = np.array([[20.0, 30.0], [50.0, 70.0], [80.0, 40.0]])
  at = pixels.astype(int)
  points = np.stack([sample.row[tuple(at.T)], sample.col[tuple(at.T)]], 1)
  np.testing.assert_allclose(sample.place(points), pixels, atol=0.05)


def test_a_point_of_the_anatomy_follows_the_warp():
  """Carina and hila stay on the same tissue in every patient."""
  for patient in range(3):
    sample = chest("PA", patient)
    hilum = sample.view.paths["hilum_left"]
    row, col = np.rint(sample.place(hilum)[0]).astype(int)
    assert sample.distance(*hilum[0])[row, col] < sample.mm


def test_fill_ends_at_the_density_of_water():
  sample = chest("PA")
  sample.fill(slice(3, 5), np.ones_like(sample.soft))
  water = anatomy.MU_WATER * sample.length[3:]
  np.testing.assert_allclose(sample.lung[3:], water, rtol=1e-5, atol=1e-6)
  assert sample.lung[:3].sum() < 0.4 * anatomy.MU_WATER * sample.length[:3].sum()


def test_texture_is_seeded_and_moves_with_the_anatomy():
  first, second = chest("PA", 1, study=0), chest("PA", 1, study=1)
  a = first.texture(np.random.default_rng(5), 25)
  b = second.texture(np.random.default_rng(5), 25)
  assert 0.6 < a.std() < 1.5
  point = first.view.paths["hilum_right"]
  here, there = (np.rint(c.place(point)[0]).astype(int) for c in (first, second))
  assert abs(a[tuple(here)] - b[tuple(there)]) < 0.35


@pytest.mark.parametrize("nodes", [6, 14])
def test_spline_weights_sum_to_one(nodes):
  weights = interpolation.spline(64, nodes)
  np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
  assert weights.min() >= 0


def test_unknown_view():
  with pytest.raises(ValueError, match=r"view 'LL' is not one of PA, AP, LATERAL"):
    anatomy.view_of("LL", SIZE)
