"""Pixels as the weights that see them want them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg.models.norms import NORMS, normalise


@pytest.mark.parametrize(
  ("norm", "black", "white"),
  [
    ("unit", [0, 0, 0], [1, 1, 1]),
    ("imagenet", [-2.117904, -2.035714, -1.804444], [2.248908, 2.428571, 2.64]),
    ("mococxr", [-5.865514] * 3, [5.818776] * 3),
    ("xrv", [-1024], [1024]),
  ],
)
def test_black_and_white(norm, black, white):
  image = jnp.array([0, 255], jnp.uint8).reshape(2, 1, 1, 1)
  out = normalise(image, norm)
  assert out.dtype == jnp.float32
  assert out.shape == (2, 1, 1, NORMS[norm].channels)
  np.testing.assert_allclose(out[0, 0, 0], black, rtol=1e-6)
  np.testing.assert_allclose(out[1, 0, 0], white, rtol=1e-6)


def test_xrv_is_the_formula_of_torchxrayvision():
  pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
  expected = (2 * pixels.astype(np.float64) / 255 - 1) * 1024
  out = normalise(jnp.asarray(pixels), "xrv")
  np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-4)


def test_floats_are_normalised_already():
  image = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
  assert normalise(image, "imagenet") is image


def test_views_may_come_first():
  image = jnp.full((2, 3, 4, 4, 1), 51, jnp.uint8)
  assert normalise(image, "unit").shape == (2, 3, 4, 4, 3)
  np.testing.assert_allclose(normalise(image, "unit"), 0.2, rtol=1e-6)


def test_an_unknown_norm_is_refused():
  with pytest.raises(ValueError, match=r"config\.model\.norm 'none'; known: unit, im"):
    normalise(jnp.zeros((1, 1, 1, 1), jnp.uint8), "none")
