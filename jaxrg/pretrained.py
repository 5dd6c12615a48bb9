"""Published backbones to begin training with, those that `config.pretrained` names."""

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import traverse_util

from jaxrg import convert, weights

# Where Hugging Face's config.json says how many heads there are.
NUM_HEADS = {
  "vision": "num_attention_heads",
  "text": "num_attention_heads",
  "decoder": "n_head",
}
WORDS = "tokens/embedding"
CROSS_ATTENTION = r"layer_\d+/(cross_attention|norm_2)/.*"  # DistilGPT2 has none.


def check(config: ml_collections.ConfigDict) -> None:
  """Finds every source; raises ValueError, naming the key, where one is not there."""
  for part, source in _sources(config).items():
    with _named(part):
      weights.find(source)


def overlay(
  params: Mapping[str, Any],
  config: ml_collections.ConfigDict,
  has: Collection[str] = (),
) -> dict[str, Any]:
  """The params with each pretrained part in its place, but for those in `has`.

  Words of another vocabulary and what a source lacks of cross-attention stay as they
  are. Raises ValueError naming the key, our path and both shapes, where one does not
  fit.
  """
  params = dict(params)
  for part, source in _sources(config).items():
    if part in params and part not in has:
      fresh = traverse_util.flatten_dict(params[part], sep="/")
      with _named(part):
        given, name = _read(part, source, config)
        flat, said = _join(part, given, fresh)
      params[part] = traverse_util.unflatten_dict(flat, sep="/")
      if jax.process_index() == 0:
        print(f"{part}: from {name}{said}")
  return params


def _sources(config: ml_collections.ConfigDict) -> dict[str, str]:
  return {part: source for part, source in config.pretrained.items() if source}


@contextlib.contextmanager
def _named(part: str) -> Iterator[None]:
  try:
    yield
  except (ValueError, OSError) as error:
    raise ValueError(f"config.pretrained.{part}: {error}") from error


def _read(
  part: str, source: str, config: ml_collections.ConfigDict
) -> tuple[dict[str, np.ndarray], str]:
  """The arrays of a source by our paths within the part, and where it was read."""
  found, model = weights.read(source), config.model[part]
  num_heads = (found.config or {}).get(NUM_HEADS[part], model.num_heads)
  try:
    match part:
      case "vision":
        size = config.data.image_size
        given = convert.dinov2(found.state, num_heads=num_heads, image_size=size)
      case "text":
        layers = model.num_layers
        given = convert.bert(found.state, num_heads=num_heads, num_layers=layers)
      case "decoder":
        layers = model.num_layers
        given = convert.gpt2(found.state, num_heads=num_heads, num_layers=layers)
  except ValueError as error:
    raise ValueError(f"{found.source}: {error}") from error
  return traverse_util.flatten_dict(given, sep="/"), found.source


def _join(
  part: str, given: Mapping[str, np.ndarray], fresh: Mapping[str, jax.Array]
) -> tuple[dict[str, jax.Array], str]:
  """What is given in place of what is fresh, and what is to be said of the rest."""
  flat, said = dict(given), ""
  if part == "text" and len(given[WORDS]) != len(fresh[WORDS]):
    flat[WORDS] = fresh[WORDS]
    said = (
      f"; not its {len(given[WORDS]):,} words, as the model has {len(fresh[WORDS]):,}"
    )
  if part == "decoder":
    if (added := len(fresh[WORDS]) - len(given[WORDS])) > 0:
      flat[WORDS] = _with_first_rows(fresh[WORDS], given[WORDS])
      said = f"; the last {added:,} of {len(fresh[WORDS]):,} words begin at random"
    absent = fresh.keys() - given.keys()
    if crossed := {path for path in absent if re.fullmatch(CROSS_ATTENTION, path)}:
      flat |= {path: fresh[path] for path in crossed}
      said += "; cross-attention begins at random"
  if absent := sorted(fresh.keys() - flat.keys()):
    raise ValueError(f"the model has {part}/{absent[0]}, and the source has not.")
  for path, value in flat.items():
    if path not in fresh or fresh[path].shape != value.shape:
      place = f"the shape {fresh[path].shape}" if path in fresh else "no such array"
      raise ValueError(
        f"{part}/{path} has the shape {value.shape} there, and the model {place}."
      )
  return {path: _place(value, fresh[path]) for path, value in flat.items()}, said


def _place(value: np.ndarray | jax.Array, fresh: jax.Array) -> jax.Array:
  """The value where the fresh array lives; every process has the whole value."""
  if isinstance(value, jax.Array):
    return value
  value = value.astype(fresh.dtype)
  return jax.make_array_from_callback(
    value.shape, fresh.sharding, lambda index: value[index]
  )


def _with_first_rows(table: jax.Array, rows: np.ndarray) -> jax.Array | np.ndarray:
  """The table with its first rows replaced; rows of another width instead of it."""
  if rows.shape[1:] != table.shape[1:]:
    return rows
  put = lambda table, rows: table.at[: len(rows)].set(rows)
  return jax.jit(put, out_shardings=table.sharding)(table, rows)
