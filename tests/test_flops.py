"""Operations counted by mathematics: known answers."""

import jax
import jax.numpy as jnp
import pytest

from jaxrg import flops
from jaxrg.models import layers


def test_a_product_of_matrices():
  assert flops.count(jnp.matmul, jnp.zeros((3, 4)), jnp.zeros((4, 5))) == 2 * 3 * 4 * 5


def test_a_gradient_is_two_more_where_both_sides_learn():
  total = lambda x, y: (x @ y).sum()
  x, y = jnp.zeros((3, 4)), jnp.zeros((4, 5))
  one = 2 * 3 * 4 * 5
  step = lambda *which: jax.value_and_grad(total, argnums=which)
  assert flops.count(step(0, 1), x, y) == 3 * one
  assert flops.count(step(1), x, y) == 2 * one


def test_a_convolution():
  run = lambda x, w: jax.lax.conv_general_dilated(
    x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  found = flops.count(run, jnp.zeros((2, 9, 9, 3)), jnp.zeros((4, 4, 3, 5)))
  assert found == 2 * (2 * 6 * 6 * 5) * (4 * 4 * 3)


def test_loops_branches_and_calls():
  x = jnp.zeros((4, 4))
  one = 2 * 4**3
  step = jax.jit(lambda x: x @ x)
  body = lambda x, _: (step(x), None)
  assert flops.count(lambda x: jax.lax.scan(body, x, length=7), x) == 7 * one
  pick = lambda i, x: jax.lax.cond(i > 0, step, lambda x: x, x)
  assert flops.count(pick, 1, x) == one


def test_long_attention_is_counted_once(monkeypatch):
  """By blocks, the gradient weighs anew, which is no part of the mathematics."""
  b, t, h, k = 2, 12, 2, 4
  x = jnp.zeros((b, t, h, k))
  total = lambda x, y, z: layers.attend(x, y, z).sum()
  step = jax.value_and_grad(total, argnums=(0, 1, 2))
  monkeypatch.setattr(layers, "LARGE", 10)
  monkeypatch.setattr(layers, "BLOCK", 5)
  assert flops.count(step, x, x, x) == 3 * 2 * (2 * b * h * t * t * k)


@pytest.mark.parametrize(
  ("kind", "peak"),
  [
    ("TPU v5 lite", 197e12),
    ("TPU v5p", 459e12),
    ("NVIDIA H200", 989e12),
    ("cpu", None),
  ],
)
def test_peaks(kind, peak):
  assert flops.peak(kind) == peak
