"""From studies to reports and embeddings: what several verbs and stages share."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from jaxrg import decode, losses, sharding
from jaxrg.models.eir import presence
from jaxrg.tokenizers import Tokenizer


def make_generate(
  model: nn.Module,
  tokenizer: Tokenizer,
  *,
  num_beams: int,
  max_length: int,
  length_penalty: float = 1.0,
  temperature: float = 0.0,
  top_p: float = 1.0,
  seed: int = 0,
) -> Callable[[Any, Mapping[str, jax.Array]], tuple[jax.Array, jax.Array]]:
  """The jitted `(variables, batch) -> (ids (b t), scores (b))`.

  Beam search; one beam is greedy, and with a temperature it samples instead, each
  study by a key of (seed, index).
  """
  if temperature and num_beams > 1:
    raise ValueError(
      f"temperature={temperature} samples; set num_beams=1, not {num_beams}."
    )
  ends = {"bos": tokenizer.bos, "eos": tokenizer.eos, "pad": tokenizer.pad}

  def generate(variables, batch):
    batch_size = batch["image"].shape[0]
    cache = model.apply(variables, batch, num_beams, max_length, method="start")
    step = lambda tokens, cache: model.apply(variables, tokens, cache, method="step")
    search = {"max_length": max_length, **ends}
    if num_beams > 1:
      search |= {"num_beams": num_beams, "length_penalty": length_penalty}
      return decode.beam_search(step, cache, batch_size, **search)
    if not temperature:
      return decode.sample(step, cache, batch_size, **search)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), batch["index"])
    search |= {"keys": keys, "temperature": temperature, "top_p": top_p}
    return decode.sample(step, cache, batch_size, **search)

  return jax.jit(generate)


def write_reports(
  generate: Callable,
  variables: Any,
  batches: Iterable[Mapping[str, np.ndarray]],
  tokenizer: Tokenizer,
  mesh: Mesh,
) -> dict[int, str]:
  """Index of each study -> its report; every process gets all of them."""
  ids, index = decode_all(generate, variables, batches, mesh)
  return {int(i): tokenizer.decode(row) for row, i in zip(ids, index)}


def decode_all(
  generate: Callable,
  variables: Any,
  batches: Iterable[Mapping[str, np.ndarray]],
  mesh: Mesh,
) -> tuple[np.ndarray, np.ndarray]:
  """The ids (n t) of the studies' reports, and the studies' indices (n)."""
  write = lambda rows: (generate(variables, rows)[0], rows["index"])
  return collect(write, batches, mesh)


def make_embed(
  model: nn.Module,
) -> Callable[[Any, Mapping[str, jax.Array]], tuple[jax.Array, jax.Array]]:
  """The jitted `(variables, batch) -> (images, reports)`, rows of length one (b d).

  Images are embedded with their priors and contexts, as stage 1 contrasts them.
  """

  def embed(variables, batch):
    image, report, _ = model.apply(variables, batch, method="contrast")
    return losses.unit(image), losses.unit(report)

  return jax.jit(embed)


def make_classify(
  model: nn.Module,
) -> Callable[[Any, Mapping[str, jax.Array]], jax.Array]:
  """The jitted `(variables, batch) -> (b n)`: how likely each topic is present."""
  classify = lambda m, batch: presence(m.classify(batch))
  return jax.jit(lambda *inputs: model.apply(*inputs, method=classify))


def classify_all(
  classify: Callable,
  variables: Any,
  batches: Iterable[Mapping[str, np.ndarray]],
  mesh: Mesh,
) -> tuple[np.ndarray, np.ndarray]:
  """How likely each topic is present, and its true state (n topics), study by study."""
  told = lambda rows: (classify(variables, rows), rows["states"])
  return collect(told, batches, mesh)


def embed_all(
  embed: Callable,
  variables: Any,
  batches: Iterable[Mapping[str, np.ndarray]],
  mesh: Mesh,
) -> tuple[np.ndarray, np.ndarray]:
  """Embeddings of images and of reports (n d), in the order of the studies.

  Every process gets all of them.
  """
  return collect(lambda rows: embed(variables, rows), batches, mesh)


def collect(
  outputs_of: Callable[[Mapping[str, jax.Array]], tuple[jax.Array, ...]],
  batches: Iterable[Mapping[str, np.ndarray]],
  mesh: Mesh,
) -> tuple[np.ndarray, ...]:
  """The outputs of all batches, one after another and without their padding."""
  placed = (sharding.to_global(dict(batch), mesh) for batch in batches)
  columns = zip(*((*outputs_of(rows), rows["valid"]) for rows in placed))
  *outputs, valid = map(sharding.gather, columns)
  return tuple(x[valid] for x in outputs)
