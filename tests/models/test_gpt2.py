import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg.models.gpt2 import GPT2, GPT2Block

B, N, T, S, V = 2, 3, 6, 4, 11


@pytest.fixture(scope="module")
def decoder():
  """(model, variables, memory); weights large enough for attention to matter."""
  model = GPT2(V, num_layers=2, num_heads=2, width=8, max_length=T, dropout_rate=0.5)
  memory = jax.random.normal(jax.random.key(0), (B, S, 8))
  tokens, mask = jnp.zeros((B, T), jnp.int32), jnp.ones((B, T), bool)
  variables = jax.jit(model.init)(jax.random.key(1), tokens, mask, memory)
  variables = jax.tree.map(lambda x: x * 10 if x.ndim > 1 else x, variables)
  return model, variables, memory


@pytest.fixture(scope="module")
def full(decoder):
  model, variables, _ = decoder
  return jax.jit(lambda *args: model.apply(variables, *args))


@pytest.fixture(scope="module")
def step(decoder):
  model, variables, _ = decoder
  return jax.jit(lambda *args: model.apply(variables, *args, method="step"))


def random_tokens(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).integers(0, V, shape), jnp.int32)


def test_cached_logits_are_the_full_ones_for_every_hypothesis(decoder, full, step):
  model, variables, memory = decoder
  tokens = random_tokens(0, B, N, T)
  everything = jnp.ones((B, T), bool)
  cache = model.apply(variables, memory, N, T, method="start")
  for t in range(T):
    logits, cache = step(tokens[:, :, t], cache)
    for n in range(N):
      expected = full(tokens[:, n], everything, memory)[:, t]
      np.testing.assert_allclose(logits[:, n], expected, rtol=1e-5, atol=1e-5)


def test_reordered_hypotheses_continue_their_parents(decoder, full, step):
  model, variables, memory = decoder
  tokens = random_tokens(1, B, N, 3)
  parents = jnp.array([[2, 0, 0], [1, 1, 2]])
  new = random_tokens(2, B, N)
  cache = model.apply(variables, memory, N, T, method="start")
  for t in range(3):
    _, cache = step(tokens[:, :, t], cache)
  logits, _ = step(new, cache.reorder(parents))
  history = jnp.take_along_axis(tokens, parents[..., None], axis=1)
  whole = jnp.concatenate([history, new[..., None]], axis=-1)
  whole = jnp.pad(whole, ((0, 0), (0, 0), (0, T - 4)))
  for n in range(N):
    expected = full(whole[:, n], jnp.ones((B, T), bool), memory)[:, 3]
    np.testing.assert_allclose(logits[:, n], expected, rtol=1e-5, atol=1e-5)


def test_a_token_sees_no_later_one_and_no_padding(decoder, full):
  *_, memory = decoder
  tokens, mask = random_tokens(3, B, T), jnp.ones((B, T), bool)
  before = full(tokens, mask, memory)
  later = full(tokens.at[:, 4].set((tokens[:, 4] + 1) % V), mask, memory)
  np.testing.assert_array_equal(before[:, :4], later[:, :4])
  assert not np.allclose(before[:, 4:], later[:, 4:])
  mask = mask.at[:, 1].set(False)
  hidden = full(tokens, mask, memory)
  changed = full(tokens.at[:, 1].set((tokens[:, 1] + 1) % V), mask, memory)
  np.testing.assert_array_equal(hidden[:, 2:], changed[:, 2:])


def test_the_memory_is_read_and_its_masked_part_is_not(decoder):
  model, variables, memory = decoder
  tokens, mask = random_tokens(4, B, T), jnp.ones((B, T), bool)
  seen = jnp.ones((B, S), bool).at[:, 3].set(False)
  apply = jax.jit(
    lambda memory, seen: model.apply(variables, tokens, mask, memory, memory_mask=seen)
  )
  other = memory.at[:, 3].add(1.0)
  np.testing.assert_array_equal(apply(memory, seen), apply(other, seen))
  assert not np.allclose(apply(memory, seen), apply(memory.at[:, 0].add(1.0), seen))


def test_dropout_in_training_only(decoder, full):
  model, variables, memory = decoder
  tokens, mask = random_tokens(5, B, T), jnp.ones((B, T), bool)
  rngs = {"dropout": jax.random.key(0)}
  train = lambda *args: model.apply(variables, *args, train=True, rngs=rngs)
  trained = jax.jit(train)(tokens, mask, memory)
  assert not np.allclose(trained, full(tokens, mask, memory))


def test_more_tokens_than_positions_are_refused(decoder):
  model, variables, memory = decoder
  with pytest.raises(ValueError, match=r"7 tokens.*6 positions"):
    model.apply(variables, memory, N, T + 1, method="start")


def test_residual_weights_start_smaller_by_the_square_root_of_twice_the_depth():
  block = GPT2Block(
    width=64, num_heads=2, num_layers=8, dropout_rate=0.0, init_std=0.02
  )
  x, mask = jnp.zeros((1, 2, 64)), jnp.ones((1, 1, 2, 2), bool)
  init = lambda key: block.init(key, x, x, mask=mask)["params"]
  layer = jax.jit(init)(jax.random.key(0))
  deviation = lambda x: float(x["kernel"].std())
  assert deviation(layer["mlp"]["wi"]) == pytest.approx(0.02, rel=0.05)
  for residual in (layer["mlp"]["wo"], layer["cross_attention"]["out"]):
    assert deviation(residual) == pytest.approx(0.02 / 4, rel=0.05)
