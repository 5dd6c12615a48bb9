"""The interpreter, and what EIR's generator learns from it and decodes with."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny_eir
from jaxrg.models.eir import decide, presence
from jaxrg.models.interpreter import straight_through

ROWS, TOPICS = 4, tiny_eir.TOPICS


@pytest.fixture(scope="module")
def batch():
  return tiny_eir.batch(ROWS)


@pytest.fixture(scope="module")
def variables(batch):
  """Of all that any reading needs."""
  model = tiny_eir.model(reading="residual")
  init = functools.partial(model.init, method="review")
  return jax.jit(init)(jax.random.key(0), batch)


def apply(variables, batch, method="review", dropout_rate=0.0, **options):
  parts = {k: options.pop(k) for k in ("reading", "threshold") if k in options}
  model = tiny_eir.model(dropout_rate, **parts)
  run = functools.partial(model.apply, method=method, **options)
  return jax.jit(run)(variables, batch)


def test_words_for_certain_are_the_words(variables, batch):
  """Spec eir 12, 11: one-hot probabilities are the interpreter on real tokens."""
  tokens, mask = batch["tokens"], batch["tokens_mask"]

  def both(model, batch):
    weights = nn.one_hot(tokens[:, 1:], tiny_eir.VOCAB_SIZE)
    words = model.interpreter.expect(tokens[:, 0], weights)
    return model.interpreter.read(words, mask), model.interpret(batch)

  np.testing.assert_array_equal(*apply(variables, batch, both))


def test_soft_words_stand_where_the_words_would(variables, batch):
  logits, _, read = apply(variables, batch)
  table = variables["params"]["interpreter"]["tokens"]["embedding"]
  first = table[batch["tokens"][:, :1]]
  words = jnp.concatenate([first, jax.nn.softmax(logits) @ table], axis=1)
  reading = lambda model, batch: model.interpreter.read(words, batch["tokens_mask"])
  expected = apply(variables, batch, reading)
  np.testing.assert_allclose(read, expected, rtol=1e-5, atol=1e-6)


def test_the_published_reading_is_of_the_generator_s_own_states(variables, batch):
  def by_hand(model, batch):
    hidden, logits, _ = model._write(batch, train=False)
    words = model.generator.rewrite(hidden, logits)
    return model.interpreter.read(words, batch["tokens_mask"][:, :-1])

  *_, read = apply(variables, batch, reading="residual")
  np.testing.assert_array_equal(read, apply(variables, batch, by_hand))
  assert not np.allclose(read, apply(variables, batch)[2], atol=1e-3)


def test_a_drawn_word_is_one_word_and_learns_as_its_probability():
  logits = jax.random.normal(jax.random.key(0), (2, 3, 5))
  likeliest = straight_through(logits, None)
  np.testing.assert_allclose(likeliest, nn.one_hot(logits.argmax(-1), 5), atol=1e-6)
  worth = jax.random.normal(jax.random.key(1), logits.shape)
  gradient = lambda of: jax.grad(lambda x: jnp.sum(of(x) * worth))(logits)
  np.testing.assert_allclose(
    gradient(lambda x: straight_through(x, None)), gradient(nn.softmax), atol=1e-6
  )
  keys = jax.random.split(jax.random.key(2), 4000)
  drawn = jax.vmap(lambda key: straight_through(logits, key))(keys)
  np.testing.assert_allclose(drawn.mean(axis=0), nn.softmax(logits), atol=0.04)


@pytest.mark.parametrize("reading", ["soft_token", "residual", "gumbel_st"])
def test_the_loss_passes_through_it_to_the_generator(variables, batch, reading):
  """Spec eir 12, 11: a gradient upstream, whoever is frozen."""
  model = tiny_eir.model(reading=reading)

  @jax.jit
  def gradient(params):
    def loss(params):
      *_, read = model.apply(variables | {"params": params}, batch, method="review")
      return -jnp.take_along_axis(read, batch["states"][..., None], axis=-1).mean()

    return jax.grad(loss)(params)

  found = gradient(variables["params"])
  assert jnp.abs(found["generator"]["layer_0"]["mlp"]["wi"]["kernel"]).max() > 1e-6
  assert jnp.abs(found["generator"]["output"]["query"]["kernel"]).max() > 1e-7


def test_it_is_the_same_critic_in_training(variables, batch):
  """Its dropout is off; what differs is what it is given."""

  def both(model, batch):
    logits, _, read = model.review(batch, train=True)
    words = model.interpreter.expect(batch["tokens"][:, 0], jax.nn.softmax(logits))
    return read, model.interpreter.read(words, batch["tokens_mask"])

  options = dict(rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats"])
  (read, again), _ = apply(variables, batch, both, 0.5, **options)
  np.testing.assert_array_equal(read, again)
  (other, _), _ = apply(
    variables, batch, both, 0.5, **options | {"rngs": {"dropout": jax.random.key(1)}}
  )
  assert not np.allclose(read, other, atol=1e-4)  # The generator's is on.


def test_states_are_decided_by_the_threshold():
  two = jnp.log(jnp.array([[[0.8, 0.2], [0.74, 0.26], [0.1, 0.9]]]))
  np.testing.assert_allclose(presence(two), [[0.2, 0.26, 0.9]], rtol=1e-6)
  np.testing.assert_array_equal(decide(two, 0.25), [[0, 1, 1]])
  np.testing.assert_array_equal(decide(two, 0.95), [[0, 0, 0]])
  # Negative, positive, uncertain, unmentioned: present is positive or uncertain.
  four = jnp.log(jnp.array([[[0.1, 0.2, 0.15, 0.55], [0.3, 0.1, 0.35, 0.25]]]))
  np.testing.assert_allclose(presence(four), [[0.35, 0.45]], rtol=1e-6)
  np.testing.assert_array_equal(decide(four, 0.3), [[1, 2]])
  np.testing.assert_array_equal(decide(four, 0.5), [[3, 0]])


def test_reports_are_decoded_from_the_states_that_were_decided(variables, batch):
  """Step by step as in one pass with these states, whatever the true ones are."""
  threshold = float(jnp.median(presence(apply(variables, batch, "classify"))))
  decided = decide(apply(variables, batch, "classify"), threshold)
  assert 0 < decided.mean() < 1
  expected, _ = apply(variables, batch | {"states": decided}, "__call__")
  model = tiny_eir.model(threshold=threshold)
  start = lambda batch: model.apply(variables, batch, 2, 5, method="start")
  step = jax.jit(functools.partial(model.apply, variables, method="step"))
  unknown = {k: x for k, x in batch.items() if k not in ("states", "tokens")}
  cache = jax.jit(start)(unknown)
  for t in range(5):
    token = batch["tokens"][:, t]
    logits, cache = step(jnp.stack([token, token], axis=1), cache)
    for n in range(2):
      seen = batch["tokens_mask"][:, t]
      np.testing.assert_allclose(
        logits[:, n][seen], expected[:, t][seen], rtol=1e-4, atol=1e-5
      )


def test_true_states_teach_the_generator_and_not_the_classifier(variables, batch):
  other = batch | {"states": 1 - batch["states"]}
  logits, log_probs = apply(variables, batch, "__call__")
  changed, same = apply(variables, other, "__call__")
  np.testing.assert_array_equal(log_probs, same)
  assert (jnp.abs(logits - changed).max(axis=-1) > 1e-4).all()
