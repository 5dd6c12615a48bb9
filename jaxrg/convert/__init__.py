"""Published PyTorch weights in, ours out, and back again, exact to the bit.

`priorrg` takes the authors' checkpoints of either stage, `dinov2`, `bert` and `gpt2`
the backbones that they began with; each `to_*` is the way back.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from jaxrg import inputs, models
from jaxrg.convert import authors, backbones
from jaxrg.convert import table as tables
from jaxrg.convert.table import State, Table

METHODS = {1: "contrast", 2: "__call__"}  # What a stage's parameters are for.


def priorrg(state: State, **num_heads: int) -> tuple[dict, dict]:
  """The model config and the variables of an authors' checkpoint of either stage.

  `state` maps the authors' names to arrays. The stage is told by the keys and sizes
  by the shapes; head counts (`image_heads`, `text_heads`, `temporal_heads`,
  `perceiver_heads`, `gpt_heads`) default to the paper's. The config sets the published
  behaviour. Raises ValueError naming a key that is unknown, missing or mis-shaped.
  """
  table, heads = _authors_table(state, num_heads)
  flat = tables.to_ours(table, state)
  variables = traverse_util.unflatten_dict(flat, sep="/")
  config = authors.config(variables["params"], heads)
  _check_shapes(
    config, flat, table, backbones.image_size(variables["params"]["vision"])
  )
  return config, variables


def to_priorrg(
  variables: Mapping[str, Any], dropped: State | None = None
) -> dict[str, np.ndarray]:
  """The authors' state dict of our variables.

  `dropped` is what `dropped` kept of the checkpoint; with it the way back is exact
  and whole, without it what the model does not use is absent.
  """
  flat = traverse_util.flatten_dict(dict(variables), sep="/")
  # On the way back the arrays themselves tell the heads.
  table = authors.table(_stage(flat), **authors.HEADS)
  return tables.to_theirs(table, flat, dropped)


def dropped(state: State) -> dict[str, np.ndarray]:
  """What of an authors' checkpoint has no place in the model: 12 tensors, counters."""
  table, _ = _authors_table(state, {})
  return tables.set_aside(table, state)


def dinov2(state: State, *, num_heads: int = 12, image_size: int | None = None) -> dict:
  """The params of our `ViT`, of a DINOv2 state dict; positions resized to the image."""
  flat = tables.to_ours(backbones.dinov2(num_heads), backbones.bare(state))
  if image_size is not None:
    side = image_size // flat["stem/patch/kernel"].shape[0]
    if len(flat["positions"]) != 1 + side * side:
      flat["positions"] = backbones.interpolate(flat["positions"], side)
  return traverse_util.unflatten_dict(flat, sep="/")


def bert(state: State, *, num_heads: int = 12, num_layers: int | None = None) -> dict:
  """The params of our `Bert`, of a BERT state dict, cut to its first layers."""
  state = backbones.first_layers(backbones.bare(state), num_layers)
  return _to_ours(backbones.bert(num_heads), state)


def gpt2(state: State, *, num_heads: int = 12, num_layers: int | None = None) -> dict:
  """The params of our `GPT2`, of a GPT-2 state dict, cut to its first layers.

  Where that has no cross-attention, as DistilGPT2, neither has the result.
  """
  state = backbones.first_layers(backbones.bare(state), num_layers)
  crossed = any(".crossattention." in key for key in state)
  return _to_ours(backbones.gpt2(num_heads, cross_attention=crossed), state)


def to_dinov2(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The state dict of `Dinov2Model`, but for the mask token."""
  return _to_theirs(backbones.dinov2(1), params)


def to_bert(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The state dict of `BertModel`, but for the pooler."""
  return _to_theirs(backbones.bert(1), params)


def to_gpt2(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The state dict of `GPT2Model`, with cross-attention where there is any."""
  crossed = "cross_attention" in params["layer_0"]
  return _to_theirs(backbones.gpt2(1, cross_attention=crossed), params)


def _to_ours(table: Table, state: State) -> dict:
  return traverse_util.unflatten_dict(tables.to_ours(table, state), sep="/")


def _to_theirs(table: Table, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  return tables.to_theirs(table, traverse_util.flatten_dict(params, sep="/"))


def _authors_table(state: State, num_heads: Mapping[str, int]) -> tuple[Table, dict]:
  if unknown := num_heads.keys() - authors.HEADS.keys():
    raise ValueError(
      f"Unknown head count {min(unknown)!r}; known: {', '.join(authors.HEADS)}."
    )
  heads = authors.HEADS | num_heads
  stage = 2 if any(key.startswith(authors.STAGE_2) for key in state) else 1
  return authors.table(stage, **heads), heads


def _stage(flat: Mapping[str, Any]) -> int:
  """Which stage has these variables: only the second has a decoder."""
  return 2 if "params/decoder/positions" in flat else 1


def _check_shapes(config: dict, flat: State, table: Table, image_size: int) -> None:
  """Raises ValueError naming the key whose shape the others contradict."""
  shapes = variable_shapes(config, _stage(flat), image_size)
  for path, x in flat.items():
    if path not in shapes or shapes[path].shape != x.shape:
      source = tables.source_of(table, path)
      expected = shapes[path].shape if path in shapes else "nothing"
      raise ValueError(
        f"{source!r} gives {path} the shape {x.shape}, where the other keys ask for "
        f"{expected}."
      )


def variable_shapes(
  config: dict, stage: int, image_size: int
) -> dict[str, jax.ShapeDtypeStruct]:
  """The variables of the model of `config` in a stage, by path, without making them."""
  sizes = dict(image_size=image_size, context_length=8, report_length=8)
  example = inputs.priorrg.example(**sizes)
  init = functools.partial(models.build(config).init, method=METHODS[stage])
  shapes = jax.eval_shape(init, jax.random.key(0), example)
  return traverse_util.flatten_dict(shapes, sep="/")
