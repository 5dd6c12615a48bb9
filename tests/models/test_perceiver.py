import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg.models.perceiver import Perceiver


@pytest.fixture(scope="module")
def read():
  """The jitted (data, initial, mask) -> latents, and the learned latents."""
  model = Perceiver(
    num_latents=3, num_layers=1, num_heads=2, head_dim=4, width=8, mlp_dim=16
  )
  variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((2, 5, 8)))
  apply = lambda data, initial=None, mask=None: model.apply(
    variables, data, initial, mask=mask
  )
  return jax.jit(apply), variables["params"]["latents"]


@pytest.fixture(scope="module")
def data():
  return jax.random.normal(jax.random.key(1), (2, 5, 8))


def test_a_first_reading_starts_from_the_learned_latents(read, data):
  read, latents = read
  given = jnp.broadcast_to(latents, (2, *latents.shape))
  # Op by op: two compiled programs may sum in another order.
  with jax.disable_jit():
    np.testing.assert_array_equal(read(data), read(data, given))


def test_a_second_reading_depends_on_the_first(read, data):
  read, _ = read
  assert not np.allclose(read(data), read(data, read(data)))


def test_masked_data_is_data_that_is_not_there(read, data):
  read, _ = read
  mask = jnp.broadcast_to(jnp.arange(5) < 3, (2, 5))
  np.testing.assert_allclose(
    read(data, None, mask), read(data[:, :3]), rtol=1e-5, atol=1e-6
  )


def test_data_has_no_order_and_rows_are_independent(read, data):
  read, _ = read
  out = read(data)
  np.testing.assert_allclose(read(data[:, ::-1]), out, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(read(data[::-1]), out[::-1], rtol=1e-6, atol=1e-6)


def test_read_gain_is_a_variance_and_of_the_reading_alone():
  def params(read_gain):
    model = Perceiver(
      num_latents=3,
      num_layers=1,
      num_heads=2,
      head_dim=4,
      width=8,
      mlp_dim=16,
      read_gain=read_gain,
    )
    return model.init(jax.random.key(0), jnp.zeros((2, 5, 8)))["params"]

  plain, larger = params(1.0), params(4.0)
  reading = plain["layer_0"].pop("cross_attention")
  doubled = larger["layer_0"].pop("cross_attention")
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(2 * a, b, rtol=1e-6),
    {name: reading[name]["kernel"] for name in reading},
    {name: doubled[name]["kernel"] for name in doubled},
  )
  jax.tree.map(np.testing.assert_array_equal, plain, larger)
