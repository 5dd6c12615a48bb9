"""A ViT as a grid, and views as one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg.models.grid import ViTGrid, pool_views, pooled
from jaxrg.models.vit import ConvStem, PatchStem, ViT

FIELDS = dict(num_layers=1, num_heads=2, width=8, mlp_dim=8)
STEMS = {
  "patch": PatchStem(width=8, patch_size=4),
  "conv": ConvStem(width=8, block=4, channels=()),
}


def draw(*shape, seed=0):
  values = np.random.default_rng(seed).normal(size=shape)
  return jnp.asarray(values, jnp.float32)


@pytest.mark.parametrize("stem", STEMS)
def test_tokens_lie_where_their_patches_do(stem):
  """The last ones, normalised, and no class token, which only patches have."""
  vit = ViT(stem=STEMS[stem], **FIELDS)
  model, image = ViTGrid(vit), draw(2, 12, 12, 1)
  grid, variables = jax.jit(model.init_with_output)(jax.random.key(0), image)
  inner = {name: tree["vit"] for name, tree in variables.items()}
  _, tokens = jax.jit(vit.apply)(inner, image)
  tokens = tokens[:, 1:] if stem == "patch" else tokens
  assert tokens.shape == (2, 9, 8)
  assert grid.shape == (2, 3, 3, model.width)
  np.testing.assert_allclose(grid[:, 1, 2], tokens[:, 5], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(grid[:, 2, 0], tokens[:, 6], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stem", STEMS)
def test_three_equal_channels_are_one(stem):
  model, image = ViTGrid(ViT(stem=STEMS[stem], **FIELDS)), draw(2, 12, 12, 1)
  grid, variables = jax.jit(model.init_with_output)(jax.random.key(0), image)
  thrice = jax.jit(model.apply)(variables, image.repeat(3, axis=-1))
  np.testing.assert_array_equal(grid, thrice)


def test_an_image_that_is_not_square_is_refused():
  model = ViTGrid(ViT(stem=STEMS["patch"], **FIELDS))
  init = functools.partial(jax.eval_shape, model.init, jax.random.key(0))
  with pytest.raises(ValueError, match=r"16x36 .* give square ones"):
    init(jnp.zeros((1, 16, 36, 1)))  # 4x9 tokens: a square number.


def test_pooled_is_the_mean_over_the_grid():
  grid = jnp.arange(24.0).reshape(1, 2, 3, 4)
  np.testing.assert_allclose(pooled(grid), [[10, 11, 12, 13]])


# Views: vectors and grids, also of a ViT, whose values may all be negative.

KINDS = {
  "vectors": (lambda x: pooled(jax.nn.relu(x)), ()),
  "grids": (jax.nn.relu, (2, 2)),
  "negative grids": (lambda x: x - 9, (2, 2)),
}


def views(kind, count, seed=0):
  of, _ = KINDS[kind]
  grids = [of(draw(3, 2, 2, 5, seed=seed + i)) for i in range(count)]
  return jnp.stack(grids, axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_absent_view_changes_nothing(kind):
  """Spec eir 12, 8: V=2 with a padded view is V=1, exactly, whatever lies there."""
  x = views(kind, 2)
  alone = pool_views(x[:, :1], jnp.ones((3, 1), bool))
  np.testing.assert_array_equal(alone, x[:, 0])
  for first in (True, False):
    both = x if first else x[:, ::-1]
    has_view = jnp.array([[first, not first]] * 3)
    np.testing.assert_array_equal(pool_views(both, has_view), alone)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_views_is_irrelevant(kind):
  """Spec eir 12, 8: so is it where some are absent, and of gradients."""
  x, has_view = views(kind, 3), jnp.array([[1, 1, 1], [1, 0, 1], [0, 0, 1]], bool)
  order = jnp.array([2, 0, 1])
  once, again = pool_views(x, has_view), pool_views(x[:, order], has_view[:, order])
  np.testing.assert_array_equal(once, again)
  weights = draw(*once.shape, seed=9)
  gradient = jax.grad(lambda x, has_view: (pool_views(x, has_view) * weights).sum())
  np.testing.assert_array_equal(
    gradient(x, has_view)[:, order], gradient(x[:, order], has_view[:, order])
  )


def test_the_gradient_flows_to_the_view_that_wins():
  x = jnp.array([[[1.0, 5.0, 9.0], [2.0, 4.0, 8.0], [7.0, 7.0, 7.0]]])
  has_view = jnp.array([[True, True, False]])
  assert pool_views(x, has_view).tolist() == [[2, 5, 9]]
  gradient = jax.grad(lambda x: pool_views(x, has_view).sum())(x)
  assert gradient.tolist() == [[[0, 1, 1], [1, 0, 0], [0, 0, 0]]]


def test_without_any_view_it_is_minus_one():
  x = draw(2, 2, 5)
  has_view = jnp.array([[True, False], [False, False]])
  out = pool_views(x, has_view)
  np.testing.assert_array_equal(out[0], x[0, 0])
  assert (out[1] == -1).all()
  gradient = jax.grad(lambda x: jnp.square(pool_views(x, has_view)).sum())(x)
  assert jnp.isfinite(gradient).all()
  assert (gradient[1] == 0).all()


def test_of_what_is_not_negative_it_is_the_published_maximum():
  x, has_view = views("grids", 2), jnp.array([[1, 1], [1, 0], [0, 0]], bool)
  there = has_view[..., None, None, None]
  published = (there * x + (1 - there) * -1.0).max(axis=1)
  np.testing.assert_array_equal(pool_views(x, has_view), published)
