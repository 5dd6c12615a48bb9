import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg.models.grid import pooled
from jaxrg.models.topics import AttentionTopics, DenseTopics, GridTokens

ROWS, TOPICS, WIDTH, CHANNELS = 2, 5, 8, 6


@pytest.fixture(scope="module")
def features():
  grid = jax.random.uniform(jax.random.key(0), (ROWS, 3, 4, CHANNELS))
  return pooled(grid), grid


def init(module, *inputs):
  return jax.jit(module.init)(jax.random.key(1), *inputs)


def size(module, *shapes):
  inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  variables = jax.eval_shape(module.init, jax.random.key(0), *inputs)
  return sum(x.size for x in jax.tree.leaves(variables))


def test_each_topic_is_a_linear_map_of_the_pooled_vector(features):
  module = DenseTopics(TOPICS, WIDTH)
  variables = init(module, *features)
  maps = variables["params"]["maps"]
  assert maps["kernel"].shape == (CHANNELS, TOPICS, WIDTH)
  maps["bias"] = jnp.arange(TOPICS * WIDTH, dtype=jnp.float32).reshape(TOPICS, WIDTH)
  out = module.apply(variables, *features)
  # Of the specification: reshape(W x + b), W of n e rows.
  flat = maps["kernel"].reshape(CHANNELS, -1)
  expected = (features[0] @ flat + jnp.arange(TOPICS * WIDTH)).reshape(out.shape)
  np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


def test_dense_maps_start_as_those_of_a_linear_layer():
  """Bounded by the root of the channels, not of channels times topics."""
  vector, grid = jnp.zeros((1, 100)), jnp.zeros((1, 1, 1, 100))
  kernel = init(DenseTopics(20, 10), vector, grid)["params"]["maps"]["kernel"]
  assert 0.095 < float(jnp.abs(kernel).max()) <= 0.1


def test_dense_topics_drop_pooled_features_in_training(features):
  module = DenseTopics(TOPICS, WIDTH, dropout_rate=0.5)
  ones = {
    "maps": {
      "kernel": jnp.ones((CHANNELS, TOPICS, WIDTH)),
      "bias": jnp.zeros((TOPICS, WIDTH)),
    }
  }
  rngs = {"dropout": jax.random.key(0)}
  out = module.apply({"params": ones}, *features, train=True, rngs=rngs)
  # What is dropped is dropped for every topic alike.
  np.testing.assert_allclose(out, jnp.broadcast_to(out[:, :1, :1], out.shape))
  plain = module.apply({"params": ones}, *features, rngs=rngs)
  np.testing.assert_allclose(plain[:, 0, 0], features[0].sum(axis=-1), rtol=1e-5)
  assert not np.allclose(out, plain)


def test_queries_read_the_grid_as_a_set_of_places(features):
  module = AttentionTopics(TOPICS, WIDTH, num_heads=2)
  vector, grid = features
  variables = init(module, *features)
  apply = jax.jit(lambda grid: module.apply(variables, vector, grid))
  out = apply(grid)
  assert out.shape == (ROWS, TOPICS, WIDTH)
  turned = apply(grid[:, ::-1, ::-1])
  np.testing.assert_allclose(turned, out, rtol=1e-5, atol=1e-5)
  assert not np.allclose(apply(grid.at[:, 0, 0].add(3.0)), out, atol=1e-3)


def test_tokens_of_the_grid_know_their_row_and_their_column(features):
  module = GridTokens(WIDTH)
  variables = init(module, *features)
  vector, grid = features
  same = jnp.ones_like(grid)
  tokens = module.apply(variables, vector, same).reshape(ROWS, 3, 4, WIDTH)
  params = variables["params"]
  for i, j in ((0, 0), (0, 3), (2, 1)):
    step = params["rows"][i] - params["rows"][0] + params["columns"][j]
    np.testing.assert_allclose(
      tokens[:, i, j] - tokens[:, 0, 0],
      jnp.broadcast_to(step - params["columns"][0], (ROWS, WIDTH)),
      atol=1e-5,
    )


def test_their_sizes_are_those_of_the_specification():
  """Spec eir 9."""
  shapes = (1, 2048), (1, 7, 7, 2048)
  assert size(DenseTopics(114, 256), *shapes) == 59_798_016
  assert size(AttentionTopics(114, 256), *shapes) == 817_408
