"""Films moved and stretched: by how much, each by itself, the same for a key."""

import jax
import jax.numpy as jnp
import numpy as np

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
