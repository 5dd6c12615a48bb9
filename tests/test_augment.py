"""Films moved and stretched: by how much, each by itself, the same for a key."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg import augment, objectives

SIZE = 12


def batch_of(count=64):
  films = jnp.tile(jnp.arange(SIZE, dtype=jnp.uint8)[:, None, None] * 10, (1, SIZE, 1))
  films = jnp.broadcast_to(films, (count, *films.shape))
  return {"image": films, "prior_image": films, "view": jnp.arange(count)}


def test_films_move_by_at_most_the_shift_and_their_borders_go_on():
  batch = batch_of()
  moved = augment.films(batch, jax.random.key(0), shift=2, contrast=0.0)
  rows = np.arange(SIZE)
  allowed = {
    by: np.clip(rows + by, 0, SIZE - 1) * 10 for by in range(-2, 3)
  }  # Rows are constant: only the vertical shift shows.
  seen = set()
  for film in np.asarray(moved["image"])[..., 0]:
    assert (film == film[:, :1]).all()
    seen |= {by for by, column in allowed.items() if (film[:, 0] == column).all()}
    assert any((film[:, 0] == column).all() for column in allowed.values())
  assert seen == set(allowed)
  assert moved["image"].dtype == jnp.uint8
  assert moved["view"] is batch["view"]


def test_a_film_and_its_prior_are_changed_each_by_itself_and_the_same_for_a_key():
  change = lambda key: augment.films(batch_of(), key, shift=0, contrast=0.2)
  once, again = change(jax.random.key(3)), change(jax.random.key(3))
  for name in augment.FILMS:
    np.testing.assert_array_equal(once[name], again[name])
  assert (once["image"] != once["prior_image"]).any(axis=(1, 2, 3)).mean() > 0.9
  assert len(np.unique(np.asarray(once["image"]).reshape(64, -1), axis=0)) > 60


def test_greys_are_stretched_around_the_middle():
  films = jnp.full((4096, 1, 1, 1), 191, jnp.uint8)
  batch = {"image": films, "prior_image": films}
  greys = augment.films(batch, jax.random.key(1), shift=0, contrast=0.1)["image"]
  greys = np.asarray(greys, np.float64).ravel()
  # 63.5 above the middle scaled by exp(.1 n), and moved by 12.75 n'.
  expected = np.hypot(63.5 * 0.1, 12.75)
  assert abs(greys.std() - expected) < 0.05 * expected
  assert abs(greys.mean() - 191) < 1


def test_nothing_is_changed_by_nothing_and_nothing_in_evaluation():
  batch = batch_of(4)
  same = augment.films(batch, jax.random.key(0), shift=0, contrast=0.0)
  np.testing.assert_array_equal(same["image"], batch["image"])
  seen = []
  objective = objectives.augmented(
    lambda params, extra, batch, key: seen.append((batch, key)),
    lambda batch, key: {"changed": key},
  )
  objective(None, None, batch, None)
  objective(None, None, batch, jax.random.key(0))
  assert seen[0] == (batch, None)
  (changed, key) = seen[1]
  assert not (changed["changed"] == key).all()


STILL = dict(crop=(1.0, 1.0), rotation=0.0, contrast=0.0)


def radiographs(images, key=0, **changes):
  change = functools.partial(augment.radiographs, **STILL | changes)
  return np.asarray(jax.jit(change)(jnp.asarray(images), jax.random.key(key)))[..., 0]


def noise(count=8, height=SIZE, width=SIZE):
  return np.random.default_rng(0).integers(0, 256, (count, height, width, 1), np.uint8)


def plane(down, right):
  return down * np.arange(SIZE)[:, None] + right * np.arange(SIZE)[None]


def copies(film, count=400):
  return jnp.broadcast_to(film[None, :, :, None], (count, SIZE, SIZE, 1)).astype(
    "uint8"
  )


@pytest.mark.parametrize("width", [SIZE, SIZE - 3])
def test_a_film_that_is_asked_for_whole_and_upright_is_itself(width):
  films = noise(width=width)
  np.testing.assert_array_equal(radiographs(films), films[..., 0].astype(np.float32))


def test_a_quarter_turn_by_hand(monkeypatch):
  """Every angle is the largest one here; corners and borders included."""
  films, uniform = noise(2, height=7, width=7), jax.random.uniform

  def largest(key, shape=(), minval=0.0, maxval=1.0):
    return uniform(key, shape, minval=1.0 if minval == -1.0 else minval, maxval=maxval)

  monkeypatch.setattr(jax.random, "uniform", largest)
  turned = radiographs(films, rotation=90.0)
  np.testing.assert_allclose(turned, np.rot90(films[..., 0], -1, (1, 2)), atol=1e-2)


def test_a_small_turn_of_a_slope_by_hand():
  """A plane stays a plane: what its steepest direction has turned by is the angle."""
  turned = radiographs(copies(plane(5, 0)), rotation=10.0).astype(np.float64)
  down, right = np.gradient(turned[:, 3:9, 3:9], axis=(1, 2))
  np.testing.assert_allclose(np.hypot(down, right), 5.0, atol=1e-3)
  angles = np.degrees(np.arctan2(right, down)).mean(axis=(1, 2))
  assert np.abs(angles).max() <= 10.001
  quarters = np.quantile(angles, [0.25, 0.5, 0.75])
  np.testing.assert_allclose(quarters, [-5, 0, 5], atol=1.5)


def test_a_crop_has_its_area_and_is_nearly_square_and_of_the_film():
  """A plane's slopes tell the sides, its middle the place, of each crop."""
  shown = radiographs(copies(plane(4, 10)), crop=(0.3, 0.8))
  middle = slice(SIZE // 2 - 1, SIZE // 2 + 1)
  centre = shown[:, middle, middle]
  high = (centre[:, 1, 0] - centre[:, 0, 0]) / 4
  wide = (centre[:, 0, 1] - centre[:, 0, 0]) / 10
  for values, low, top in (
    (high * wide, 0.3, 0.8),
    (wide / high, 3 / 4, 4 / 3),
    (np.log(wide / high), -np.log(4 / 3), np.log(4 / 3)),
  ):
    assert low - 1e-3 <= values.min() < low + 0.03
    assert top - 0.03 < values.max() <= top + 1e-3
  room = 4 * (1 - high) + 10 * (1 - wide)  # Between the corners of the film.
  place = (centre.mean(axis=(1, 2)) - plane(4, 10).mean()) / (SIZE / 2 * room)
  assert np.abs(place).max() <= 1 + 1e-3
  assert np.abs(place).max() > 0.8


def test_about_every_second_film_is_mirrored_and_none_unless_asked():
  films = noise(200)
  shown, plain = radiographs(films, flip=True), films[..., 0].astype(np.float32)
  mirrored = (shown == plain[:, :, ::-1]).all(axis=(1, 2))
  assert (mirrored ^ (shown == plain).all(axis=(1, 2))).all()
  assert 70 < mirrored.sum() < 130


def test_level_and_contrast_shift_each_by_itself():
  """Greys 50 and 150: their mean is the level, their distance the contrast."""
  films = np.full((2000, 2, 2, 1), 50, np.uint8)
  films[:, 1] = 150
  shown = radiographs(films, contrast=0.2)
  level = shown.mean(axis=(1, 2)) / 100
  stretch = (shown[:, 1, 0] - shown[:, 0, 0]) / 100 / level
  for factor in (level, stretch):
    assert 0.8 <= factor.min() < 0.81
    assert 1.19 < factor.max() <= 1.2001
    np.testing.assert_allclose(np.quantile(factor, [0.25, 0.75]), [0.9, 1.1], atol=0.02)
  assert abs(np.corrcoef(level, stretch)[0, 1]) < 0.1


def test_holes_are_squares_of_the_mean_anywhere():
  films = noise(300)
  shown, plain = radiographs(films, cutout=(1, 0.25)), films[..., 0].astype(np.float32)
  corners = set()
  for film, before in zip(shown, plain):
    rows, columns = np.nonzero(np.isclose(film, before.mean()))
    assert len(rows) >= 9
    hole = np.zeros_like(film, bool)
    hole[rows.min() : rows.min() + 3, columns.min() : columns.min() + 3] = True
    assert (film[~hole] == before[~hole]).all()
    np.testing.assert_allclose(film[hole], before.mean(), rtol=1e-5)
    corners.add((rows.min(), columns.min()))
  assert {axis for corner in corners for axis in corner} == set(range(SIZE - 2))
  changed = lambda count: (radiographs(films, cutout=(count, 0.25)) != plain).mean()
  assert changed(0) == 0
  assert 2 * 9 / SIZE**2 < changed(3) < 3 * 9 / SIZE**2


@pytest.mark.parametrize(
  "recipe",
  [
    dict(),
    dict(crop=(1.0, 1.0), contrast=0.0, flip=True),
    dict(crop=(0.2, 1.0), contrast=0.4, flip=True, cutout=(3, 1 / 7)),
  ],
)
def test_every_recipe_changes_each_film_by_itself_within_the_greys(recipe):
  films = np.broadcast_to(noise(1, 14, 14), (16, 14, 14, 1))
  change = jax.jit(functools.partial(augment.radiographs, **recipe))
  once, again, other = (change(films, jax.random.key(seed)) for seed in (0, 0, 1))
  assert once.dtype == jnp.float32
  assert once.shape == films.shape
  np.testing.assert_array_equal(once, again)
  assert len(np.unique(np.asarray([*once, *other]).reshape(32, -1), axis=0)) == 32
  assert 0 <= float(once.min()) < float(once.max()) <= 255
