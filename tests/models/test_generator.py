"""The prefix generator against one dense pass over topics and words."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg import decode
from jaxrg.models.generator import PrefixGenerator
from jaxrg.models.post_norm import PostNormLayer

B, N, T, S, D, V = 2, 3, 6, 5, 8, 11
SIZES = dict(num_heads=2, width=D, mlp_dim=16, dropout_rate=0.5)
EVERYTHING = jnp.ones((B, T), bool)


class Whole(PrefixGenerator):
  """All that the generator has, so that all of it is initialised."""

  def __call__(self, tokens, mask, topics):
    x = super().__call__(tokens, mask, topics)
    return self.rewrite(x, self.logits(x))


@pytest.fixture(scope="module")
def generator():
  """(model, variables, topics); weights large enough for attention to matter."""
  model = PrefixGenerator(V, num_layers=3, max_length=T, **SIZES)
  topics = jax.random.normal(jax.random.key(0), (B, S, D))
  init = jax.jit(Whole(V, num_layers=3, max_length=T, **SIZES).init)
  tokens = jnp.zeros((B, T), jnp.int32)
  variables = init(jax.random.key(2), tokens, EVERYTHING, topics)
  variables = jax.tree.map(lambda x: x * 3 if x.ndim > 1 else x, variables)
  variables["params"]["tokens"]["embedding"] /= 3
  return model, variables, topics


@pytest.fixture(scope="module")
def hidden(generator):
  model, variables, _ = generator
  return jax.jit(functools.partial(model.apply, variables))


@pytest.fixture(scope="module")
def full(generator, hidden):
  """Logits of whole reports (b t)."""
  model, variables, topics = generator
  logits = jax.jit(lambda x: model.apply(variables, x, method="logits"))
  return lambda tokens: logits(hidden(tokens, EVERYTHING, topics))


@pytest.fixture(scope="module")
def step(generator):
  model, variables, _ = generator

  return jax.jit(functools.partial(model.apply, variables, method="step"))


def start(generator, num_hypotheses, length=T, topics=None):
  model, variables, mine = generator
  topics = mine if topics is None else topics
  return model.apply(variables, topics, num_hypotheses, length, method="start")


def random_tokens(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).integers(0, V, shape), jnp.int32)


def dense(params, tokens, mask, topics):
  """One transformer over topics and words, by the visibility that the spec writes."""
  words = params["tokens"]["embedding"][tokens] + params["positions"]
  x = jnp.concatenate([topics, words], axis=1)
  sees = jnp.zeros((B, S + T, S + T), bool).at[:, :S, :S].set(jnp.eye(S, dtype=bool))
  sees = sees.at[:, S:, :S].set(True)
  causal = jnp.tril(jnp.ones((T, T), bool)) & mask[:, None, :]
  sees = sees.at[:, S:, S:].set(causal)[:, None]
  layer = PostNormLayer(**SIZES)
  for i in range(3):
    x = layer.apply({"params": params[f"layer_{i}"]}, x, sees)
  return x[:, S:]


def test_one_dense_pass_has_the_same_values_and_gradients(generator, hidden):
  """Spec eir 6.3: the visibility of topics and words."""
  model, variables, topics = generator
  mask = EVERYTHING.at[1, 4:].set(False)
  tokens = random_tokens(0, B, T)
  expected = dense(variables["params"], tokens, mask, topics)
  np.testing.assert_allclose(hidden(tokens, mask, topics), expected, atol=2e-5)

  def loss(of):
    return lambda params, topics: jnp.sum(jnp.sin(of(params, tokens, mask, topics)))

  ours = lambda params, *args: model.apply({"params": params}, *args)
  gradient = lambda of: jax.jit(jax.grad(loss(of), (0, 1)))(variables["params"], topics)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4),
    gradient(ours),
    gradient(dense),
  )


def test_a_word_sees_no_later_one(generator, full):
  """Spec eir 12, 9: changing word t+1 leaves positions <= t as they were."""
  tokens = random_tokens(1, B, T)
  before = full(tokens)
  after = full(tokens.at[:, 4].set((tokens[:, 4] + 1) % V))
  np.testing.assert_array_equal(before[:, :4], after[:, :4])
  assert (np.abs(before[:, 4:] - after[:, 4:]).max(axis=(0, 2)) > 1e-3).all()


def test_a_topic_changes_every_word_and_no_other_topic(generator, hidden):
  """Spec eir 12, 9: changing one source."""
  model, variables, topics = generator
  other = topics.at[:, 2].add(1.0)
  tokens = random_tokens(2, B, T)
  moved = hidden(tokens, EVERYTHING, topics) - hidden(tokens, EVERYTHING, other)
  assert (np.abs(moved).max(axis=2) > 1e-3).all()
  read = jax.jit(lambda topics: model.apply(variables, topics, method="read_topics"))
  for before, after in zip(jax.tree.leaves(read(topics)), jax.tree.leaves(read(other))):
    same = (before == after).all(axis=(0, 2, 3))
    np.testing.assert_array_equal(same, np.arange(S) != 2)


def test_cached_logits_are_the_full_ones_for_every_hypothesis(generator, full, step):
  """Spec eir 12, 9: cached decoding is full recomputation."""
  tokens, cache = random_tokens(3, B, N, T), start(generator, N)
  expected = [full(tokens[:, n]) for n in range(N)]
  for t in range(T):
    logits, cache = step(tokens[:, :, t], cache)
    for n in range(N):
      np.testing.assert_allclose(logits[:, n], expected[n][:, t], atol=2e-5)


def test_reordered_hypotheses_continue_their_parents(generator, full, step):
  tokens, new = random_tokens(4, B, N, 3), random_tokens(5, B, N)
  parents = jnp.array([[2, 0, 0], [1, 1, 2]])
  cache = start(generator, N)
  for t in range(3):
    _, cache = step(tokens[:, :, t], cache)
  logits, _ = step(new, cache.reorder(parents))
  whole = jnp.take_along_axis(tokens, parents[..., None], axis=1)
  whole = jnp.concatenate([whole, new[..., None]], axis=-1)
  whole = jnp.pad(whole, ((0, 0), (0, 0), (0, T - 4)))
  for n in range(N):
    np.testing.assert_allclose(logits[:, n], full(whole[:, n])[:, 3], atol=2e-5)


def test_one_beam_is_greedy_and_wider_ones_score_no_less(generator, step):
  """Spec eir 12, 9: of reports that no end token cuts short, as a mean.

  For a single study it is no theorem: a second beam may crowd out the better end.
  """
  ends = dict(bos=0, eos=V, pad=0, max_length=T)
  topics = jax.random.normal(jax.random.key(3), (16, S, D))

  def less_sure(tokens, cache):  # Or the likeliest report would be the greedy one.
    logits, cache = step(tokens, cache)
    return logits / 4, cache

  def search(n):
    cache = start(generator, n, topics=topics)
    return decode.beam_search(less_sure, cache, len(topics), num_beams=n, **ends)

  cache = start(generator, 1, topics=topics)
  greedy, score = decode.sample(less_sure, cache, len(topics), **ends)
  tokens, first = search(1)
  np.testing.assert_array_equal(tokens, greedy)
  np.testing.assert_allclose(first, score, rtol=1e-5)
  means = [first.mean(), *(search(n)[1].mean() for n in (2, 4, V))]
  assert (np.diff(means) >= 0).all()
  assert means[-1] > means[0] + 1e-3


def test_the_output_is_attention_over_the_table(generator, hidden):
  """Spec eir 6.3: p_word and the weighted embedding, term by term."""
  model, variables, topics = generator
  x = hidden(random_tokens(6, B, T), EVERYTHING, topics)
  logits = model.apply(variables, x, method="logits")
  params = jax.tree.map(np.asarray, variables["params"])
  table = params["tokens"]["embedding"]
  out = {k: {n: p.reshape(-1, D)[:D] for n, p in v.items()}
         for k, v in params["output"].items()}  # fmt: skip
  maps = lambda name, y: y @ out[name]["kernel"] + out[name]["bias"]
  scores = maps("query", x) @ maps("key", table).T / D**0.5
  weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
  weights /= weights.sum(axis=-1, keepdims=True)
  np.testing.assert_allclose(jax.nn.softmax(logits), weights, atol=1e-5)
  y = maps("out", weights @ maps("value", table)) + x
  y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
  found = model.apply(variables, x, logits, method="rewrite")
  np.testing.assert_allclose(found, y, atol=1e-4)


def test_dropout_in_training_only(generator, hidden):
  model, variables, topics = generator
  arguments = random_tokens(7, B, T), EVERYTHING, topics
  rngs = {"dropout": jax.random.key(0)}
  train = lambda *args: model.apply(variables, *args, train=True, rngs=rngs)
  assert not np.allclose(jax.jit(train)(*arguments), hidden(*arguments))


def test_more_tokens_than_positions_are_refused(generator, hidden):
  *_, topics = generator
  message = r"7 tokens.*generator.max_length=6"
  with pytest.raises(ValueError, match=message):
    start(generator, N, T + 1)
  tokens = random_tokens(8, B, T + 1)
  with pytest.raises(ValueError, match=message):
    hidden(tokens, jnp.ones((B, T + 1), bool), topics)
