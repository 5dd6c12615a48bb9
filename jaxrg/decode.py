"""Decoding: beam search, greedy search and sampling over a step function.

A step is `(tokens (b n), cache) -> (logits (b n v), cache)`; a cache offers
`reorder(parents (b n))`. Nothing here knows of a model. Every search is one
`while_loop` that ends when each report of the batch has ended.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

Step = Callable[[Array, Any], tuple[Array, Any]]
Size = Any  # An int, or a symbol where a program is for any number (jax.export).
NEVER = -1e9  # The score of what cannot be chosen; finite, so that sums stay numbers.


@struct.dataclass
class Beams:
  """The state of a beam search: n live hypotheses and the n best finished ones."""

  length: Int[Array, ""]  # Tokens of a live hypothesis, the start token included.
  live: Int[Array, "b n t"]
  sums: Float[Array, "b n"]  # Of log-probabilities.
  finished: tuple[Int[Array, "b n t"], Int[Array, "b n"]]  # Tokens, their number.
  scores: Float[Array, "b n"]  # Of the finished; NEVER where there is none.
  done: Bool[Array, "b"]
  cache: Any


def _best(scores, hypotheses, count):
  """The `count` best hypotheses of each study, any tree; ties keep their order."""
  scores, index = jax.lax.top_k(scores, count)
  take = lambda x: jnp.take_along_axis(
    x, index.reshape(index.shape + (1,) * (x.ndim - 2)), axis=1
  )
  return scores, jax.tree.map(take, hypotheses)


def beam_search(
  step: Step,
  cache: Any,
  batch_size: Size,
  *,
  bos: int,
  eos: int,
  pad: int,
  num_beams: int,
  max_length: int,
  length_penalty: float = 1.0,
) -> tuple[Int[Array, "b t"], Float[Array, "b"]]:
  """The best hypothesis of each study and its score, as in spec priorrg 4.4.

  Token ids are padded to `max_length`, the start token included, and end in `eos`
  where there was room. The score is the mean log-probability of the generated
  tokens when `length_penalty` is 1.
  """
  n = num_beams
  empty = jnp.full((batch_size, n, max_length), pad, jnp.int32)
  start = Beams(
    length=jnp.ones((), jnp.int32),
    live=empty.at[..., 0].set(bos),
    # At first all hypotheses are one.
    sums=jnp.full((batch_size, n), NEVER).at[:, 0].set(0.0),
    finished=(empty, jnp.zeros((batch_size, n), jnp.int32)),
    scores=jnp.full((batch_size, n), NEVER),
    done=jnp.zeros(batch_size, bool),
    cache=cache,
  )
  normalise = lambda sums, generated: sums / generated**length_penalty

  def advance(beams: Beams) -> Beams:
    last = jnp.take(beams.live, beams.length - 1, axis=2)
    logits, cache = step(last, beams.cache)
    vocab_size = logits.shape[-1]
    sums = jax.nn.log_softmax(logits.astype(jnp.float32)) + beams.sums[..., None]
    # Two candidates a beam: however many of them end, n go on. The barrier keeps
    # later slices apart from it, for which XLA would sort all the candidates.
    best = jax.lax.top_k(sums.reshape(batch_size, -1), 2 * n)
    sums, index = map(jax.lax.optimization_barrier, best)
    parents, tokens = index // vocab_size, index % vocab_size
    ends = tokens == eos
    generated = beams.length.astype(jnp.float32)  # With the new token.

    # Finish: only what ranks among the first n, and only while a study is open.
    ended = ends[:, :n] & ~beams.done[:, None]
    score = jnp.where(ended, normalise(sums[:, :n], generated), NEVER)
    ending = jnp.take_along_axis(beams.live, parents[:, :n, None], axis=1)
    scores, finished = _best(
      jnp.concatenate([beams.scores, score], axis=1),
      _join(beams.finished, (ending, jnp.full((batch_size, n), beams.length))),
      n,
    )
    full = scores[:, -1] > NEVER
    attainable = normalise(sums[:, 0], generated)
    done = beams.done | (full & (scores[:, -1] >= attainable))

    # Go on with the first n candidates that do not end.
    order = jnp.argsort(ends, axis=1, stable=True)[:, :n]
    pick = lambda x: jnp.take_along_axis(x, order, axis=1)
    parents, tokens, sums = pick(parents), pick(tokens), pick(sums)
    live = jnp.take_along_axis(beams.live, parents[..., None], axis=1)
    return Beams(
      length=beams.length + 1,
      live=live.at[:, :, beams.length].set(tokens),
      sums=sums,
      finished=finished,
      scores=scores,
      done=done,
      cache=cache.reorder(parents),
    )

  unfinished = lambda beams: (beams.length < max_length) & ~beams.done.all()
  beams = jax.lax.while_loop(unfinished, advance, start)

  generated = jnp.maximum(beams.length - 1, 1).astype(jnp.float32)
  cut = jnp.where(beams.done[:, None], NEVER, normalise(beams.sums, generated))
  scores, best = _best(
    jnp.concatenate([beams.scores, cut], axis=1),
    _join(beams.finished, (beams.live, jnp.full((batch_size, n), beams.length))),
    1,
  )
  tokens, length = (x[:, 0] for x in best)
  # An end token where there is room for one.
  place = jnp.arange(max_length)
  tokens = jnp.where(place == length[:, None], eos, tokens)
  return tokens, scores[:, 0]


def _join(these, those):
  """Two trees of hypotheses as one."""
  return jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=1), these, those)


def sample(
  step: Step,
  cache: Any,
  batch_size: Size,
  *,
  bos: int,
  eos: int,
  pad: int,
  max_length: int,
  keys: Array | None = None,
  temperature: float = 1.0,
  top_p: float = 1.0,
) -> tuple[Int[Array, "b t"], Float[Array, "b"]]:
  """One report a study, token by token; greedy without `keys`.

  `keys` (b) are random keys, one a study, so that a study's report does not depend
  on the others of its batch. `top_p` keeps the smallest set of tokens whose
  probabilities reach it. The score is the mean log-probability under the model.
  """
  if temperature <= 0 or not 0 < top_p <= 1:
    raise ValueError(
      f"temperature={temperature} must be positive and top_p={top_p} in (0, 1]."
    )

  def choose(logits, position):
    if keys is None:
      return jnp.argmax(logits, axis=-1)
    logits = nucleus(logits / temperature, top_p)
    at = jax.vmap(jax.random.fold_in, (0, None))(keys, position)
    return jax.vmap(jax.random.categorical)(at, logits)

  def advance(carry):
    length, tokens, total, count, done, cache = carry
    logits, cache = step(tokens[:, length - 1][:, None], cache)
    logits = logits[:, 0].astype(jnp.float32)
    token = jnp.where(done, pad, choose(logits, length))
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), token[:, None], axis=1)[
      :, 0
    ]
    total = total + jnp.where(done, 0.0, chosen)
    count = count + ~done
    tokens = tokens.at[:, length].set(token)
    return length + 1, tokens, total, count, done | (token == eos), cache

  tokens = jnp.full((batch_size, max_length), pad, jnp.int32).at[:, 0].set(bos)
  nothing = jnp.zeros(batch_size)
  carry = (jnp.ones((), jnp.int32), tokens, nothing, nothing, nothing > 0, cache)
  _, tokens, total, count, _, _ = jax.lax.while_loop(
    lambda carry: (carry[0] < max_length) & ~carry[4].all(), advance, carry
  )
  return tokens, total / jnp.maximum(count, 1)


def nucleus(logits: Float[Array, "b v"], top_p: float) -> Float[Array, "b v"]:
  """Logits in which all but the most probable tokens, up to `top_p`, are out."""
  order = jnp.argsort(logits, axis=-1, descending=True)
  ordered = jax.nn.softmax(jnp.take_along_axis(logits, order, axis=-1))
  kept = jnp.cumsum(ordered, axis=-1) - ordered < top_p
  # By rank and not by value: of equal tokens no more than needed.
  ranks = jnp.argsort(order, axis=-1)
  return jnp.where(jnp.take_along_axis(kept, ranks, axis=-1), logits, -jnp.inf)
