"""The fused kernel, interpreted: what attention is, and its gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from jaxrg import flash, sharding
from jaxrg.models import layers


def inputs(t, s, b=2, h=2, k=16):
  keys = jax.random.split(jax.random.key(0), 3)
  lengths = (t, s, s)
  return [jax.random.normal(key, (b, n, h, k)) for key, n in zip(keys, lengths)]


def weighted(attend):
  """A scalar that no output can hide in, and its gradients."""

  def total(query, key, value):
    out = attend(query, key, value)
    return jnp.sum(out * jnp.cos(jnp.arange(out.size).reshape(out.shape)))

  return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))


@pytest.mark.parametrize(("t", "s"), [(130, 200), (128, 128), (5, 300)])
def test_it_is_attention_and_its_gradient(t, s):
  expected = weighted(layers.attend_at_once)(*inputs(t, s))
  with pltpu.force_tpu_interpret_mode():
    found = weighted(flash.attend)(*inputs(t, s))
  for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_on_a_mesh_every_device_reads_its_own(monkeypatch):
  """The kernel's place taken by attention itself, which sees a part of rows, heads."""
  seen = []

  def spy(query, key, value):
    seen.append(query.shape)
    return layers.attend_at_once(query, key, value)

  monkeypatch.setattr(flash, "_attend", spy)
  mesh = sharding.make_mesh((2, 2, 2))
  arrays = inputs(6, 6, b=8)
  with jax.set_mesh(mesh), nn.logical_axis_rules(sharding.AXIS_RULES):
    found = jax.jit(flash.attend)(*arrays)
  assert seen == [(2, 6, 1, 16)]
  np.testing.assert_allclose(found, layers.attend_at_once(*arrays), rtol=1e-5)


def test_it_is_for_long_sequences_only(monkeypatch):
  monkeypatch.setattr(layers, "LARGE", 30)
  marked = lambda query, key, value: jnp.full_like(query, 7)
  with layers.long_attention(marked):
    assert (layers.attend(*inputs(6, 6)) == 7).all()
    assert not (layers.attend(*inputs(5, 6)) == 7).any()
    mask = jnp.ones((2, 1, 1, 6), bool)
    assert not (layers.attend(*inputs(6, 6), mask=mask) == 7).any()
  assert not (layers.attend(*inputs(6, 6)) == 7).any()
