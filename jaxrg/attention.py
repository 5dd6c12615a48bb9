"""Where the decoder looked as it wrote: its attention, word by word.

Attention tells what was read, not what a word hung on. PriorRG's is followed from the
words to the latents and from these to the places of the films, by the product of the
weights, means over heads and layers; EIR's ends at the topics, which it writes from.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrg.models.eir import decide
from jaxrg.models.priorrg import SOURCES

SIDE = 12  # Places of a film that are told apart, along each side, at most.
TOPICS = 3  # How many of them are named of a word.

Attend = Callable[[Any, Mapping[str, Array], Int[Array, "b t"]], tuple[Array, ...]]
# What the weights of a paper's model are of, by its name.
READ = {"priorrg": ("image", "prior_image", "context"), "eir": ("topics",)}


class Looks(NamedTuple):
  """What each word of a report looked at."""

  films: Mapping[str, Float[np.ndarray, "words rows columns"]]  # By name in a batch.
  notes: Sequence[str]  # Of each word, what else.


def make_attend(model: nn.Module, paper: str) -> Attend:
  """The jitted `(variables, batch, ids) -> weights` of reports that were decoded.

  The ids begin with the start token; row t of the weights is of what wrote ids[t + 1].
  They are of what READ names: the films (b t rows columns), the context (b t), which
  has what is not of the current film, and the topics (b t n).
  """
  weigh = {"priorrg": _of_priorrg, "eir": _of_eir}[paper]
  return jax.jit(lambda variables, batch, ids: weigh(model, variables, batch, ids))


def _of_priorrg(model: nn.Module, variables, batch, ids) -> tuple[Array, ...]:
  given = {"tokens": ids, "tokens_mask": jnp.ones(ids.shape, bool)}
  _, told = model.apply(variables, {**batch, **given}, mutable=["intermediates"])
  told = told["intermediates"]
  words = _mean(told["decoder"], "cross_attention")
  read = {  # Of each source, by each latent.
    name: _mean(told["perceiver"], "cross_attention", call)
    for call, name in enumerate(model.order)
  }
  parts = dict(zip(SOURCES, jnp.split(words, len(SOURCES), axis=2)))
  time, joint = (
    jnp.einsum("btl,bls->bts", parts[name], read[name]) for name in ("time", "joint")
  )
  # The current film was read beside the prior one, place by place.
  over_time = _mean(told["temporal"], "attention") * batch["has_prior"][:, None, None]
  prior = jnp.einsum("bts,bsp->btp", time, over_time)
  return _places(time + joint), _places(prior), parts["context"].sum(axis=2)


def _of_eir(model: nn.Module, variables, batch, ids) -> tuple[Array, ...]:
  def write(model, batch):
    topics = model.enhance(batch)
    states = decide(model.classifier(topics), model.threshold)
    enriched = model.enrich(topics, states)
    return model.generator(ids[:, :-1], jnp.ones(ids[:, 1:].shape, bool), enriched)

  asked = {"method": write, "mutable": ["intermediates"]}
  _, told = model.apply(variables, batch, **asked)
  # The last call is of the words; in others each topic has read itself.
  words = _mean(told["intermediates"]["generator"], "attention")
  return (words[:, :, : words.shape[2] - ids.shape[1] + 1],)


def _mean(part: Mapping[str, Any], name: str, call: int = -1) -> Float[Array, "b t s"]:
  """The mean of the weights of a stack of layers, in one of its calls."""
  layers = [part[layer][name]["weights"] for layer in part if layer.startswith("layer")]
  return sum(weights[call] for weights in layers) / len(layers)


def _places(weights: Float[Array, "b t s"]) -> Float[Array, "b t rows columns"]:
  """Weights of tokens in their places, without a class token, of SIDE at most."""
  b, t, s = weights.shape
  side = math.isqrt(s)
  grid = weights[:, :, s - side * side :].reshape(b, t, side, side)
  if side > SIDE:
    grid = jax.image.resize(grid, (b, t, SIDE, SIDE), "linear")
  return grid.astype(jnp.float16)


def of_words(
  weights: Mapping[str, np.ndarray],
  ids: Int[np.ndarray, "t"],
  tokenizer: Any,
  topics: Sequence[str] = (),
) -> Looks:
  """What each word of one decoded report looked at: the mean over its tokens.

  `weights` are those of its row; `topics` name EIR's.
  """
  place = words_of(ids, tokenizer)
  count = max(place, default=-1) + 1
  owner = np.array(place)[None] == np.arange(count)[:, None]  # words tokens
  share = owner / np.maximum(owner.sum(axis=1, keepdims=True), 1)
  mean = {
    name: np.tensordot(share, np.asarray(x[: len(place)], np.float32), 1)
    for name, x in weights.items()
  }
  films = {name: x for name, x in mean.items() if x.ndim == 3 and x.any()}
  notes = [""] * count
  if "context" in mean:
    notes = [f"indication and history {part:.0%}" for part in mean["context"]]
  if "topics" in mean:
    notes = [_named(row, topics) for row in mean["topics"]]
  return Looks(films, notes)


def _named(weights: Float[np.ndarray, "n"], topics: Sequence[str]) -> str:
  best = np.argsort(-weights, kind="stable")[:TOPICS]
  return ", ".join(f"{topics[i]} {weights[i]:.0%}" for i in best)


def words_of(ids: Int[np.ndarray, "t"], tokenizer: Any) -> list[int]:
  """Which word of the text each token after the first is of, up to the end.

  Words are what blanks divide. A token that makes no letter is of the word before it.
  """
  ends = np.flatnonzero(np.isin(ids[1:], (tokenizer.eos, tokenizer.pad)))
  stop = int(ends[0]) + 1 if len(ends) else len(ids)
  counts = [len(tokenizer.decode(ids[: i + 1]).split()) for i in range(1, stop)]
  return [max(count - 1, 0) for count in counts]
