import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg.models import layers
from jaxrg.models.layers import (
  Attention,
  BatchNorm,
  attend,
  layer_norm,
  max_pool,
  torch_linear,
)

B, T, S, H, K = 2, 3, 5, 2, 4


@pytest.fixture(scope="module")
def qkv():
  rng = np.random.default_rng(0)
  shapes = ((B, T, H, K), (B, S, H, K), (B, S, H, K))
  return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def test_attention_is_what_the_formula_says(qkv):
  q, k, v = (np.asarray(x, np.float64) for x in qkv)
  logits = np.einsum("bthk,bshk->bhts", q, k) / np.sqrt(K)
  weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
  expected = np.einsum("bhts,bshk->bthk", weights, v)
  np.testing.assert_allclose(attend(*qkv), expected, atol=1e-6)


def test_attention_over_a_masked_source_is_that_over_the_shorter_source(qkv):
  q, k, v = qkv
  mask = (jnp.arange(S) < 3)[None, None, None]
  np.testing.assert_allclose(
    attend(q, k, v, mask=mask), attend(q, k[:, :3], v[:, :3]), atol=1e-6
  )


def test_a_query_that_sees_nothing_yields_zero_and_passes_no_gradient(qkv):
  q, k, v = qkv
  mask = jnp.array([True, False])[:, None, None, None] & jnp.ones(S, bool)

  def total(k, v):
    return attend(q, k, v, mask=mask).sum()

  out = attend(q, k, v, mask=mask)
  assert (out[1] == 0).all()
  assert (out[0] != 0).all()
  for gradient in jax.jit(jax.grad(total, (0, 1)))(k, v):
    assert jnp.isfinite(gradient).all()
    assert (gradient[1] == 0).all()


def test_bfloat16_attention_has_a_float32_softmax(qkv):
  # 300 equal keys: in bfloat16 the weights would not sum to one.
  ones = jnp.ones((1, 300, 1, 1), jnp.bfloat16)
  out = attend(ones[:, :1], ones, ones)
  assert out.dtype == jnp.bfloat16
  assert float(out[0, 0, 0, 0]) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("t", [9, 11, 12])
@pytest.mark.parametrize(
  "mask_shape", [None, (1, 1, 1, 7), (B, 1, 1, 7), (1, H, 0, 7), (B, H, 0, 7)]
)
def test_attention_by_blocks_is_attention(monkeypatch, t, mask_shape):
  """A length of 0 stands for `t`; some queries see no key."""
  rng = np.random.default_rng(0)
  shapes = ((B, t, H, K), (B, 7, H, K), (B, 7, H, K), (B, t, H, K))
  *qkv, cotangent = (jnp.asarray(rng.normal(size=x), jnp.float32) for x in shapes)
  mask = None
  if mask_shape is not None:
    mask = rng.random([n or t for n in mask_shape]) < 0.6
    mask[-1, -1, -1] = False
    mask = jnp.asarray(mask)

  def value_and_gradients():
    total = lambda qkv: (attend(*qkv, mask=mask) * cotangent).sum()
    return jax.jit(lambda: (attend(*qkv, mask=mask), jax.grad(total)(qkv)))()

  whole = value_and_gradients()
  monkeypatch.setattr(layers, "LARGE", 10)
  monkeypatch.setattr(layers, "BLOCK", 4)
  blocks = value_and_gradients()
  for a, b in zip(jax.tree.leaves(blocks), jax.tree.leaves(whole)):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_the_gradient_of_long_attention_needs_no_square_of_memory():
  def memory(length):
    x = jax.ShapeDtypeStruct((1, length, 2, 8), jnp.float32)
    total = lambda *qkv: jnp.square(attend(*qkv)).sum()
    gradient = jax.jit(jax.grad(total, (0, 1, 2)))
    return gradient.lower(x, x, x).compile().memory_analysis().temp_size_in_bytes

  assert memory(4096) < 2.2 * memory(2048)
  assert memory(4096) < 4 * 2 * 4096**2 / 2  # Of one float32 weight a pair and head.


def test_self_attention_is_attention_over_itself():
  x = jax.random.normal(jax.random.key(0), (B, T, 6))
  attention = Attention(width=6, num_heads=H, head_dim=K)
  variables = attention.init(jax.random.key(1), x)
  np.testing.assert_array_equal(
    attention.apply(variables, x), attention.apply(variables, x, x)
  )


def test_attention_dropout_acts_in_training_only():
  x = jax.random.normal(jax.random.key(0), (B, T, 6))
  attention = Attention(width=6, num_heads=H, head_dim=K, dropout_rate=0.5)
  variables = attention.init(jax.random.key(1), x)
  rngs = {"dropout": jax.random.key(2)}
  plain = attention.apply(variables, x)
  np.testing.assert_array_equal(plain, attention.apply(variables, x, rngs=rngs))
  assert not np.allclose(plain, attention.apply(variables, x, train=True, rngs=rngs))


def test_layer_norm_is_exact_far_from_zero():
  x = 1000 + jax.random.normal(jax.random.key(0), (4, 64))
  y, _ = layer_norm().init_with_output(jax.random.key(1), x)
  exact = np.asarray(x, np.float64)
  exact = (exact - exact.mean(-1, keepdims=True)) / exact.std(-1, keepdims=True)
  np.testing.assert_allclose(y, exact, atol=5e-4)


def test_torch_linear_is_bounded_by_the_square_root_of_fan_in():
  kernel = torch_linear()(jax.random.key(0), (100, 50))
  assert 0.095 < float(jnp.abs(kernel).max()) <= 0.1
  assert float(kernel.std()) == pytest.approx(0.1 / 3**0.5, rel=0.03)


# Batch statistics: by hand, over the rows that are real.

SCALE, BIAS = np.array([2.0, 0.5]), np.array([1.0, -1.0])
OLD_MEAN, OLD_VAR = np.array([0.5, -0.5]), np.array([2.0, 3.0])


@functools.partial(jax.jit, static_argnames="axis")
def normalise(x, mask, axis=-1):
  """(output, new statistics) of our layer in training."""
  as_jax = lambda v: jnp.asarray(v, jnp.float32)
  variables = {
    "params": {"scale": as_jax(SCALE), "bias": as_jax(BIAS)},
    "batch_stats": {"mean": as_jax(OLD_MEAN), "var": as_jax(OLD_VAR)},
  }
  y, updated = BatchNorm(axis=axis).apply(
    variables, x, mask, train=True, mutable=["batch_stats"]
  )
  return y, updated["batch_stats"]


def test_masked_statistics_are_those_of_the_shorter_input():
  rng = np.random.default_rng(0)
  x = rng.normal(3, 2, (2, 4, 2)).astype(np.float32)
  mask = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool)
  y, statistics = normalise(jnp.asarray(x), jnp.asarray(mask)[..., None])
  real = x[mask].astype(np.float64)
  mean, biased, unbiased = real.mean(0), real.var(0), real.var(0, ddof=1)
  expected = (x - mean) / np.sqrt(biased + 1e-5) * SCALE + BIAS
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(statistics["mean"], 0.9 * OLD_MEAN + 0.1 * mean, rtol=1e-6)
  np.testing.assert_allclose(
    statistics["var"], 0.9 * OLD_VAR + 0.1 * unbiased, rtol=1e-6
  )


def test_statistics_over_another_axis():
  x = jax.random.normal(jax.random.key(0), (3, 2, 4, 5))
  y, statistics = normalise(x, None, axis=1)
  moved, same = normalise(jnp.moveaxis(x, 1, -1), None)
  np.testing.assert_allclose(y, jnp.moveaxis(moved, -1, 1), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(statistics["var"], same["var"], rtol=1e-6)


def test_no_real_row_leaves_the_statistics_and_is_normalised_by_them():
  x = jax.random.normal(jax.random.key(0), (3, 2))
  mask = jnp.zeros((3, 1), bool)
  y, statistics = normalise(x, mask)
  old = (x - np.array(OLD_MEAN)) / np.sqrt(np.array(OLD_VAR) + 1e-5)
  np.testing.assert_allclose(y, old * np.array(SCALE) + np.array(BIAS), rtol=1e-5)
  np.testing.assert_array_equal(statistics["mean"], OLD_MEAN)
  np.testing.assert_array_equal(statistics["var"], OLD_VAR)
  gradient = jax.jit(jax.grad(lambda x: jnp.square(normalise(x, mask)[0]).sum()))(x)
  assert jnp.isfinite(normalise(x, mask)[0]).all()
  assert jnp.isfinite(gradient).all()


def test_masked_rows_get_no_gradient_through_the_statistics():
  x = jax.random.normal(jax.random.key(0), (4, 2))
  mask = jnp.array([True, True, True, False])[:, None]

  def of_the_real(x):
    return jnp.square(normalise(x, mask)[0][:3] - 1).sum()

  gradient = jax.jit(jax.grad(of_the_real))(x)
  assert (gradient[3] == 0).all()
  assert (gradient[:3] != 0).any()


def test_evaluation_uses_the_running_statistics_and_keeps_them():
  norm = BatchNorm()
  x = jax.random.normal(jax.random.key(0), (3, 2))
  variables = {
    "params": {"scale": jnp.ones(2), "bias": jnp.zeros(2)},
    "batch_stats": {"mean": jnp.full(2, 3.0), "var": jnp.full(2, 4.0)},
  }
  np.testing.assert_allclose(norm.apply(variables, x), (x - 3) / 2, rtol=1e-5)


@pytest.mark.parametrize("size", [7, 8])
def test_pooling_and_its_gradient_are_xlas(size):
  x = jax.random.normal(jax.random.key(0), (2, size, size + 1, 3))
  theirs = lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
  np.testing.assert_array_equal(max_pool(x), theirs(x))
  gradient = lambda pool: jax.grad(lambda x: jnp.sum(jnp.sin(pool(x))))(x)
  np.testing.assert_allclose(gradient(max_pool), gradient(theirs), atol=1e-6)


def test_the_variance_of_values_far_from_zero_is_exact():
  x = 1000 + jax.random.normal(jax.random.key(0), (512, 4))
  norm = BatchNorm()
  variables = norm.init(jax.random.key(1), x)
  y, _ = norm.apply(variables, x, train=True, mutable=["batch_stats"])
  exact = np.asarray(x, np.float64)
  exact = (exact - exact.mean(axis=0)) / np.sqrt(exact.var(axis=0) + 1e-5)
  np.testing.assert_allclose(y, exact, atol=1e-4)
