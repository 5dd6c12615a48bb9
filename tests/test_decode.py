"""Decoding on chains small enough to follow by hand, and on the authors' outputs."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from hypothesis import given, settings
from hypothesis import strategies as st

import goldens
from jaxrg import decode

EOS, PAD = 0, 4  # The start token is the end token, as in PriorRG.
LENGTH = 8
ENDS = dict(bos=EOS, eos=EOS, pad=PAD)


@struct.dataclass
class Last:
  """A cache that holds the last token: a chain of order two needs it reordered."""

  token: jax.Array  # b n

  def reorder(self, parents):
    return Last(jnp.take_along_axis(self.token, parents, axis=1))


def chain(table, num_hypotheses):
  """(step, cache) of log-probabilities `table` (b, token before last, last, next)."""
  rows = jnp.arange(len(table))[:, None]
  step = lambda tokens, cache: (table[rows, cache.token, tokens], Last(tokens))
  return step, Last(jnp.full((len(table), num_hypotheses), EOS))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def beam_search(table, num_beams, max_length=LENGTH, length_penalty=1.0):
  step, cache = chain(table, num_beams)
  return decode.beam_search(
    step,
    cache,
    len(table),
    num_beams=num_beams,
    max_length=max_length,
    length_penalty=length_penalty,
    **ENDS,
  )


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def sample(table, keys=None, temperature=1.0, top_p=1.0, max_length=LENGTH):
  step, cache = chain(table, 1)
  return decode.sample(
    step,
    cache,
    len(table),
    max_length=max_length,
    keys=keys,
    temperature=temperature,
    top_p=top_p,
    **ENDS,
  )


def random_chains(seed, count, vocab_size, sharpness, end_bias=0.0):
  logits = np.random.default_rng(seed).normal(
    0, sharpness, (count, vocab_size, vocab_size, vocab_size)
  )
  logits[..., EOS] += end_bias
  logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
  return logits.astype(np.float32)


def row(*tokens):
  return [*tokens] + [PAD] * (LENGTH - len(tokens))


def by_hand():
  """From the start to A (.6) or B (.4); A mostly repeats itself, B ends (.9)."""
  a, b, vocab_size = 1, 2, 5
  table = np.full((1, vocab_size, vocab_size, vocab_size), 1e-6)
  table[:, :, EOS, [a, b]] = [0.6, 0.4]
  table[:, :, a, [a, b, EOS]] = [0.4, 0.3, 0.3]
  table[:, :, b, [a, EOS]] = [0.1, 0.9]
  return np.log(table).astype(np.float32), a, b


def test_beams_find_what_greed_misses():
  table, a, b = by_hand()
  ids, score = sample(table)
  assert ids[0].tolist() == [EOS] + [a] * (LENGTH - 1)
  expected = (np.log(0.6) + 6 * np.log(0.4)) / 7
  assert float(score[0]) == pytest.approx(expected, rel=1e-4)
  ids, score = beam_search(table, 2)
  assert ids[0].tolist() == row(EOS, b, EOS)
  assert float(score[0]) == pytest.approx(np.log(0.4 * 0.9) / 2, rel=1e-4)


def test_a_report_that_is_cut_has_no_end_and_its_live_score():
  table, _, b = by_hand()
  ids, score = beam_search(table, 2, 2)
  assert ids[0].tolist() == [EOS, 1]
  assert float(score[0]) == pytest.approx(np.log(0.6), rel=1e-4)
  ids, _ = beam_search(table, 2, 3)
  assert ids[0].tolist() == [EOS, b, EOS]


def every_sequence(table, max_length):
  """Every sequence that can be generated, with its mean log-probability."""
  others = range(1, table.shape[0])
  for length in range(max_length - 1):
    for middle in itertools.product(others, repeat=length):
      yield (EOS, *middle, EOS)
  for middle in itertools.product(others, repeat=max_length - 1):
    yield (EOS, *middle)


def mean_log_probability(table, tokens):
  before = (EOS, *tokens)
  steps = [
    table[before[i], before[i + 1], before[i + 2]] for i in range(len(before) - 2)
  ]
  return float(np.mean(steps))


def test_with_enough_beams_the_best_of_all_sequences_is_found():
  max_length = 5
  chains = random_chains(0, 20, 4, 1.5)
  ids, scores = beam_search(chains, 90, max_length)
  for table, found, score in zip(chains, ids.tolist(), scores):
    best = max(
      every_sequence(table, max_length), key=lambda s: mean_log_probability(table, s)
    )
    assert found == [*best] + [PAD] * (max_length - len(best))
    assert float(score) == pytest.approx(mean_log_probability(table, best), rel=1e-5)


def slow_beam_search(table, n, max_length, penalty):
  """One study in plain Python, sentence by sentence as spec priorrg 4.4 says it."""
  live = [((EOS,), 0.0)] + [((EOS,), -1e9)] * (n - 1)
  finished, done = [], False
  while len(live[0][0]) < max_length and not done:
    candidates = []
    for tokens, total in live:
      scores = table[(EOS, *tokens)[-2], tokens[-1]]
      candidates += [(total + float(s), (*tokens, v)) for v, s in enumerate(scores)]
    candidates = sorted(candidates, key=lambda c: -c[0])[: 2 * n]
    generated = len(live[0][0])
    live = []
    for rank, (total, tokens) in enumerate(candidates):
      if tokens[-1] == EOS:
        if rank < n:
          finished.append((total / generated**penalty, tokens))
      elif len(live) < n:
        live.append((tokens, total))
    finished = sorted(finished, key=lambda f: -f[0])[:n]
    attainable = candidates[0][0] / generated**penalty
    done = len(finished) == n and finished[-1][0] >= attainable
  if not done:
    generated = len(live[0][0]) - 1
    finished += [(total / generated**penalty, tokens) for tokens, total in live]
  score, tokens = max(finished, key=lambda f: f[0])
  return [*tokens] + [PAD] * (max_length - len(tokens)), score


@pytest.mark.parametrize(
  ("num_beams", "penalty"), [(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (3, 2.0), (2, 0.0)]
)
@settings(max_examples=12)
@given(
  seed=st.integers(0, 10**6),
  sharpness=st.floats(0.3, 4.0),
  end_bias=st.floats(-3.0, 3.0),
)
def test_beam_search_is_the_slow_one(num_beams, penalty, seed, sharpness, end_bias):
  """Sixteen chains at once, that end at different steps; PAD is a token of theirs."""
  chains = random_chains(seed, 16, 7, sharpness, end_bias)
  ids, scores = beam_search(chains, num_beams, LENGTH, penalty)
  for table, found, score in zip(chains, ids.tolist(), scores):
    tokens, expected = slow_beam_search(table, num_beams, LENGTH, penalty)
    assert found == tokens
    assert float(score) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("search", ["beams", "greedy"])
def test_decoding_stops_when_all_reports_have_ended(search):
  table = np.full((2, 5, 5, 5), -20.0, np.float32)
  table[:, :, :, EOS] = 0.0  # Everything ends at once, except at the start ...
  table[:, :, EOS, EOS] = -20.0
  table[:, :, EOS, 1] = -0.1  # ... where there is one token, or another.
  table[:, :, EOS, 2] = -2.0
  calls = []

  def counted(n):
    step, cache = chain(jnp.asarray(table), n)

    def counting_step(tokens, cache):
      jax.debug.callback(lambda: calls.append(1))
      return step(tokens, cache)

    return counting_step, cache

  if search == "beams":
    decode.beam_search(*counted(2), 2, num_beams=2, max_length=50, **ENDS)
  else:
    decode.sample(*counted(1), 2, max_length=50, **ENDS)
  jax.effects_barrier()
  assert 2 <= len(calls) <= 4


def test_a_cold_sample_is_the_greedy_one():
  chains = random_chains(1, 32, 6, 1.0)
  keys = jax.random.split(jax.random.key(0), 32)
  cold, score = sample(chains, keys, 1e-4)
  greedy, expected = sample(chains)
  np.testing.assert_array_equal(cold, greedy)
  np.testing.assert_allclose(score, expected, rtol=1e-6)
  for table, tokens in zip(chains, greedy.tolist()):
    for t in range(1, LENGTH):
      before = tokens[t - 2] if t > 1 else EOS
      assert tokens[t] == table[before, tokens[t - 1]].argmax()
      if tokens[t] == EOS:
        assert tokens[t + 1 :] == [PAD] * (LENGTH - t - 1)
        break


PROBABILITIES = np.array([0.05, 0.5, 0.15, 0.3])


@pytest.mark.parametrize(
  ("top_p", "kept"),
  [(0.01, [1]), (0.49, [1]), (0.51, [1, 3]), (0.79, [1, 3]), (0.81, [1, 2, 3])],
)
def test_the_nucleus_is_the_smallest_set_that_reaches_top_p(top_p, kept):
  logits = decode.nucleus(jnp.log(PROBABILITIES)[None].astype(jnp.float32), top_p)[0]
  assert np.flatnonzero(np.isfinite(logits)).tolist() == kept
  np.testing.assert_allclose(logits[jnp.array(kept)], np.log(PROBABILITIES[kept]))


def test_of_equal_tokens_the_nucleus_takes_no_more_than_needed():
  logits = decode.nucleus(jnp.zeros((1, 4)), 0.5)
  assert int(jnp.isfinite(logits).sum()) == 2


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_tokens_come_as_often_as_they_should(top_p):
  count = 4000
  table = np.full((count, 5, 5, 5), -30.0, np.float32)
  table[..., 1:] = np.log(PROBABILITIES)
  keys = jax.random.split(jax.random.key(0), count)
  ids, _ = sample(table, keys, 1.0, top_p, 2)
  shares = np.bincount(np.asarray(ids[:, 1]), minlength=5)[1:] / count
  expected = np.where(
    PROBABILITIES >= 0.3, PROBABILITIES, 0 if top_p < 1 else PROBABILITIES
  )
  np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.025)


def test_a_sample_depends_on_its_key_alone_and_is_scored_by_the_model():
  chains = random_chains(2, 16, 6, 1.0)
  keys = jax.random.split(jax.random.key(3), 16)
  ids, scores = sample(chains, keys, 1.3, 0.9)
  some = np.array([9, 2, 5])
  few, few_scores = sample(chains[some], keys[some], 1.3, 0.9)
  np.testing.assert_array_equal(few, ids[some])
  np.testing.assert_allclose(few_scores, scores[some], rtol=1e-6)
  assert (sample(chains, keys[::-1], 1.3, 0.9)[0] != ids).any()
  for table, tokens, score in zip(chains, ids.tolist(), scores):
    ended = EOS in tokens[1:]
    tokens = tokens[: tokens.index(EOS, 1) + 1] if ended else tokens
    expected = mean_log_probability(table, tokens)
    assert float(score) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
  "wrong", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_impossible_sampling_is_refused(wrong):
  with pytest.raises(ValueError, match=next(iter(wrong))):
    decode.sample(*chain(by_hand()[0], 1), 1, max_length=4, **ENDS, **wrong)


# The authors' outputs.


def memory_of(case):
  """What the decoder reads: the Perceiver's three readings."""
  _, modules = goldens.forward(2, case)
  return jnp.concatenate(modules["perceiver"], axis=1)


@functools.partial(jax.jit, static_argnums=(1, 2))
def search(memory, num_beams, max_length):
  model, variables = goldens.model(2)
  start = lambda model: model.decoder.start(memory, num_beams, max_length)
  cache = model.apply(variables, method=start)
  step = functools.partial(model.apply, variables, method="step")
  arguments = dict(max_length=max_length, bos=goldens.BOS, eos=goldens.BOS)
  arguments["pad"] = goldens.PAD
  if num_beams == 1:
    return decode.sample(step, cache, len(memory), **arguments)
  return decode.beam_search(step, cache, len(memory), num_beams=num_beams, **arguments)


@pytest.mark.parametrize("max_length", [8, 36])
@pytest.mark.parametrize("num_beams", [1, 2, 3, 5])
def test_the_authors_reports(num_beams, max_length):
  for case in ("mixed6", "noprior3"):
    memory = memory_of(case)
    arrays = goldens.load(f"stage2_{case}")
    name = f"beams{num_beams}_len{max_length}"
    expected = arrays[f"out/ids_{name}"]
    ids, scores = (
      np.asarray(x)[: len(expected)] for x in search(memory, num_beams, max_length)
    )
    width = expected.shape[1]
    np.testing.assert_array_equal(ids[:, :width], expected)
    assert (ids[:, width:] == goldens.PAD).all()
    if num_beams > 1:
      assert goldens.relative_error(scores, arrays[f"out/scores_{name}"]) <= 1e-5


def test_reports_do_not_depend_on_the_order_of_the_memory():
  memory = memory_of("mixed6")
  order = np.random.default_rng(0).permutation(memory.shape[1])
  ids, _ = search(memory, 1, 36)
  np.testing.assert_array_equal(search(memory[:, order], 1, 36)[0], ids)
  other, _ = search(jnp.roll(memory, 1, axis=0), 1, 36)
  assert (other != ids).any()  # But on the memory.


@pytest.mark.parametrize("devices", [1, 8])
def test_no_step_sorts_the_vocabulary(devices):
  """XLA would, and takes a hundred times as long as for the few that are wanted."""
  vocab_size, beams = 4096, 3
  step = lambda tokens, cache: (jnp.sin(tokens[..., None] * table), cache)
  table = jnp.arange(1.0, vocab_size)

  def search(token):
    return decode.beam_search(
      step, Last(token), len(token), num_beams=beams, max_length=9, **ENDS
    )

  mesh = jax.make_mesh((devices,), ("data",), devices=jax.devices()[:devices])
  rows = jax.NamedSharding(mesh, jax.P("data"))
  tokens = jax.ShapeDtypeStruct((devices, beams), jnp.int32, sharding=rows)
  program = jax.jit(search).lower(tokens).compile()
  sorts = [line for line in program.as_text().splitlines() if " sort(" in line]
  sizes = [int(n) for line in sorts for n in re.findall(r"\d+(?=[,\]])", line)]
  assert max(sizes, default=0) < vocab_size
