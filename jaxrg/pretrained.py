"""Published backbones to begin training with, those that `config.pretrained` names."""

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import traverse_util

from jaxrg import checkpoint, convert, weights
from jaxrg.convert import vision
from jaxrg.models.norms import NORMS

# Where Hugging Face's config.json says how many heads there are.
NUM_HEADS = {
  "vision": "num_attention_heads",
  "text": "num_attention_heads",
  "decoder": "n_head",
}
OWN = "jaxrg"  # The kind of our own exports, beside those of `vision.KINDS`.
WORDS = "tokens/embedding"
CROSS_ATTENTION = r"layer_\d+/(cross_attention|norm_2)/.*"  # DistilGPT2 has none.


def check(config: ml_collections.ConfigDict) -> None:
  """Finds every source; raises ValueError, naming the key, where one is not there.

  So it does where the weights of EIR's encoder are of pixels normalised in another way.
  """
  for part, source in _sources(config).items():
    with _named(f"config.pretrained.{part}"):
      if config.paper == "eir":
        _check_norm(config, source)
        if config.pretrained.kind == OWN:
          continue
      weights.find(source)


def overlay(
  variables: Mapping[str, Any],
  config: ml_collections.ConfigDict,
  has: Collection[str] = (),
) -> dict[str, Any]:
  """The variables with each pretrained part in its place, but for those in `has`.

  Words of another vocabulary and what a source lacks of cross-attention stay as they
  are. Raises ValueError naming the key, our path and both shapes, where one does not
  fit.
  """
  variables = dict(variables)
  for part, source in _sources(config).items():
    if part in variables["params"] and part not in has:
      with _named(f"config.pretrained.{part}"):
        given, told = _read(part, source, config, variables["params"][part])
        variables, said = _lay(part, given, variables)
      if jax.process_index() == 0:
        print(f"{part}: from {told}{said}")
  return variables


def _sources(config: ml_collections.ConfigDict) -> dict[str, str]:
  given = config.pretrained.items()
  return {part: source for part, source in given if part in NUM_HEADS and source}


def _check_norm(config: ml_collections.ConfigDict, source: str) -> None:
  """Raises ValueError where the kind of the weights is unknown or of other pixels."""
  kind, norm = config.pretrained.kind, config.model.norm
  kinds = (*vision.KINDS, OWN)
  if kind not in kinds:
    raise ValueError(
      f"config.pretrained.kind={kind!r} must be one of {', '.join(kinds)}."
    )
  if kind == OWN:
    theirs = checkpoint.load_config(source)["config"]["model"].get("norm")
  else:
    theirs = vision.KINDS[kind].norm
  if theirs not in (None, norm):
    raise ValueError(
      f"config.pretrained.kind={kind!r} has seen pixels normalised as {theirs!r}, and "
      f"config.model.norm is {norm!r}: set it so."
    )


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
  try:
    yield
  except (ValueError, OSError) as error:
    raise ValueError(f"{name}: {error}") from error


def _read(
  part: str,
  source: str,
  config: ml_collections.ConfigDict,
  fresh: Mapping[str, Any],
) -> tuple[dict[str, Any], str]:
  """A source's variables of the part by collection, and what is to be said of it."""
  if config.paper == "eir":
    return _read_encoder(source, config, fresh)
  found, model = weights.read(source), config.model[part]
  num_heads = (found.config or {}).get(NUM_HEADS[part], model.num_heads)
  with _named(found.source):
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
  return {"params": given}, found.source


def _read_encoder(
  source: str, config: ml_collections.ConfigDict, fresh: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
  """As `_read`, for the ResNet or DenseNet that `fresh` are the params of.

  Of an export of ours it may be any encoder.
  """
  _check_norm(config, source)
  if config.pretrained.kind == OWN:
    stored = checkpoint.load_arrays(source)
    given = {name: tree["vision"] for name, tree in stored.items() if "vision" in tree}
    return given, source
  norm, ours = config.model.norm, vision.architecture(fresh)
  if ours is None:
    raise ValueError(
      "only a ResNet or DenseNet begins with published weights here, and the model's "
      "encoder is a ViT: set it to None."
    )
  found = weights.read(source)
  with _named(found.source):
    given = vision.convert(found.state, config.pretrained.kind)
    if given.architecture != ours:
      raise ValueError(
        f"it is a {given.architecture}, and the model's encoder a {ours}."
      )
    if given.channels != NORMS[norm].channels:
      raise ValueError(
        f"it sees images of {given.channels} channels, and config.model.norm={norm!r} "
        f"makes {NORMS[norm].channels}."
      )
  told = (
    f"{found.source}; {given.mapped} of {len(found.state)} tensors, "
    f"{len(given.dropped)} not used, {len(given.missing)} missing"
  )
  return dict(params=given.params, batch_stats=given.batch_stats), told


def _lay(
  part: str, given: Mapping[str, Any], variables: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
  """The variables with what is given of a part, and what is to be said of the rest."""
  variables, said = dict(variables), ""
  for collection, arrays in given.items():
    flatten = lambda tree: traverse_util.flatten_dict(tree, sep="/")
    fresh = variables[collection][part]
    flat, more = _join(part, flatten(arrays), flatten(fresh))
    laid = traverse_util.unflatten_dict(flat, sep="/")
    variables[collection] = {**variables[collection], part: laid}
    said += more
  return variables, said


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
