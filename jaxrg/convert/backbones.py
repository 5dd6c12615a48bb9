"""The tables of the published backbones: Hugging Face's DINOv2, BERT and GPT-2.

Ours are the parameters of `ViT`, `Bert` and `GPT2`. Names are those of the bare models
(`Dinov2Model`, `BertModel`, `GPT2Model`); `bare` makes them of what else there is.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrg.convert import table as t
from jaxrg.convert.table import Row, State, Table

# Other names that the same tensors go by.
ALIASES = (
  (r"^(dinov2|bert|transformer)\.", ""),  # The bare model within one with a head.
  (r"\.gamma$", ".weight"),  # Of old BERTs.
  (r"\.beta$", ".bias"),
  (r"\.attention\.q_proj\.", ".attention.attention.query."),  # DINOv2 in memory,
  (r"\.attention\.k_proj\.", ".attention.attention.key."),  # as of transformers 5.
  (r"\.attention\.v_proj\.", ".attention.attention.value."),
  (r"\.attention\.o_proj\.", ".attention.output.dense."),
)


def bare(state: State) -> State:
  """The state dict under the names that the files of bare models have."""

  def name(key):
    for pattern, replacement in ALIASES:
      key = re.sub(pattern, replacement, key)
    return key

  return {name(key): value for key, value in state.items()}


def first_layers(state: State, count: int | None) -> State:
  """The state dict of a model cut to its first layers, or of all, where None."""
  if count is None:
    return state
  layer = re.compile(r"(?:encoder\.layer|h)\.(\d+)\.")
  beyond = lambda key: (match := layer.match(key)) and int(match[1]) >= count
  return {key: value for key, value in state.items() if not beyond(key)}


def dinov2(num_heads: int) -> Table:
  """`Dinov2Model`; RAD-DINO is one (spec priorrg 2.1)."""
  block, ours = "encoder.layer.{}", "layer_{}"
  patch = "embeddings.patch_embeddings.projection"
  class_token = t.Layout(np.ravel, lambda x: x[None, None])
  rows = (
    Row("embeddings.cls_token", ("stem/cls",), class_token),
    Row("embeddings.position_embeddings", ("positions",), t.row_of(0)),
    *t.dense(patch, "stem/patch", t.CONV),
    *t.attention(
      f"{ours}/attention",
      num_heads,
      query=f"{block}.attention.attention.query",
      key=f"{block}.attention.attention.key",
      value=f"{block}.attention.attention.value",
      out_=f"{block}.attention.output.dense",
    ),
    *t.norm(f"{block}.norm1", f"{ours}/norm_1"),
    *t.norm(f"{block}.norm2", f"{ours}/norm_2"),
    *t.dense(f"{block}.mlp.fc1", f"{ours}/mlp/wi"),
    *t.dense(f"{block}.mlp.fc2", f"{ours}/mlp/wo"),
    Row(f"{block}.layer_scale1.lambda1", (f"{ours}/scale_1",)),
    Row(f"{block}.layer_scale2.lambda1", (f"{ours}/scale_2",)),
    *t.norm("layernorm", "norm"),
  )
  return Table("DINOv2", rows, dropped=(r"embeddings\.mask_token", r"classifier\..*"))


def bert(num_heads: int) -> Table:
  """`BertModel`, without its pooler; CXR-BERT has one within (spec priorrg 2.2)."""
  block, ours = "encoder.layer.{}", "layer_{}"
  rows = (
    Row("embeddings.word_embeddings.weight", ("tokens/embedding",)),
    Row("embeddings.position_embeddings.weight", ("positions",)),
    Row("embeddings.token_type_embeddings.weight", ("types",)),
    *t.norm("embeddings.LayerNorm", "norm"),
    *t.attention(
      f"{ours}/attention",
      num_heads,
      query=f"{block}.attention.self.query",
      key=f"{block}.attention.self.key",
      value=f"{block}.attention.self.value",
      out_=f"{block}.attention.output.dense",
    ),
    *t.norm(f"{block}.attention.output.LayerNorm", f"{ours}/norm_1"),
    *t.norm(f"{block}.output.LayerNorm", f"{ours}/norm_2"),
    *t.dense(f"{block}.intermediate.dense", f"{ours}/mlp/wi"),
    *t.dense(f"{block}.output.dense", f"{ours}/mlp/wo"),
  )
  heads = (r"pooler\..*", r"cls\..*", r"cls_projection_head\..*")
  return Table("BERT", rows, dropped=(r"embeddings\.position_ids", *heads))


def gpt2(num_heads: int, *, cross_attention: bool) -> Table:
  """`GPT2Model`, with or without the cross-attention of a decoder (spec priorrg 4.2).

  Its matrices are (in, out) already.
  """
  block, ours = "h.{}", "layer_{}"
  heads = t.transposed(t.heads(num_heads))
  out = t.transposed(t.out(num_heads))
  rows = [
    Row("wte.weight", ("tokens/embedding",)),
    Row("wpe.weight", ("positions",)),
    *t.norm("ln_f", "norm"),
    *t.norm(f"{block}.ln_1", f"{ours}/norm_1"),
    *t.norm(f"{block}.ln_2", f"{ours}/norm_3"),
    *t.dense(f"{block}.mlp.c_fc", f"{ours}/mlp/wi", t.SAME),
    *t.dense(f"{block}.mlp.c_proj", f"{ours}/mlp/wo", t.SAME),
    *_fused(f"{block}.attn.c_attn", f"{ours}/self_attention", "query key value", heads),
    *t.dense(f"{block}.attn.c_proj", f"{ours}/self_attention/out", out),
  ]
  if cross_attention:
    source, target = f"{block}.crossattention", f"{ours}/cross_attention"
    rows += [
      *t.norm(f"{block}.ln_cross_attn", f"{ours}/norm_2"),
      *_fused(f"{source}.q_attn", target, "query", heads),
      *_fused(f"{source}.c_attn", target, "key value", heads),
      *t.dense(f"{source}.c_proj", f"{target}/out", out),
    ]
  # The causal masks of older checkpoints are no parameters; the head is the table.
  masks = r"h\.\d+\.(attn|crossattention)\.(bias|masked_bias)"
  return Table("GPT-2", tuple(rows), dropped=(masks, r"lm_head\.weight"))


def dinov2_config(params: Mapping[str, Any], num_heads: int) -> dict:
  """The fields of the `ViT` that has these parameters."""
  patch = params["stem"]["patch"]["kernel"]
  return dict(
    stem=dict(name="patch", patch_size=patch.shape[0]),
    num_layers=count_layers(params),
    num_heads=num_heads,
    width=patch.shape[-1],
    mlp_dim=params["layer_0"]["mlp"]["wi"]["kernel"].shape[1],
  )


def bert_config(params: Mapping[str, Any], num_heads: int) -> dict:
  """The fields of the `Bert` that has these parameters."""
  mlp_dim = params["layer_0"]["mlp"]["wi"]["kernel"].shape[1]
  return gpt2_config(params, num_heads) | dict(mlp_dim=mlp_dim)


def gpt2_config(params: Mapping[str, Any], num_heads: int) -> dict:
  """The fields of the `GPT2` that has these parameters."""
  vocab_size, width = params["tokens"]["embedding"].shape
  return dict(
    vocab_size=vocab_size,
    num_layers=count_layers(params),
    num_heads=num_heads,
    width=width,
    max_length=params["positions"].shape[0],
  )


def count_layers(params: Mapping[str, Any]) -> int:
  """How many `layer_*` there are."""
  return sum(name.startswith("layer_") for name in params)


def image_size(params: Mapping[str, Any]) -> int:
  """The side of the images that these parameters of a `ViT` have positions for."""
  side = math.isqrt(len(params["positions"]) - 1)
  return side * params["stem"]["patch"]["kernel"].shape[0]


def interpolate(positions: np.ndarray, side: int) -> np.ndarray:
  """Position embeddings (1 + n * n, d) for side * side patches, class token first.

  Bicubic as PyTorch does it: kernel of a = -0.75, half-pixel centres, edges repeated.
  """
  old = math.isqrt(len(positions) - 1)
  if old * old != len(positions) - 1:
    raise ValueError(f"{len(positions)} positions are no square and a class token.")
  weights = _cubic(old, side)
  grid = positions[1:].astype(np.float64).reshape(old, old, -1)
  grid = np.einsum("yi,xj,ijd->yxd", weights, weights, grid, optimize=True)
  grid = grid.reshape(side * side, -1).astype(positions.dtype)
  return np.concatenate([positions[:1], grid])


def _cubic(old: int, new: int) -> np.ndarray:
  """Weights (new, old) of a bicubic resize along one axis."""
  at = (np.arange(new) + 0.5) * old / new - 0.5
  taps = np.floor(at).astype(int)[:, None] + np.arange(-1, 3)
  x, a = np.abs(at[:, None] - taps), -0.75
  near = ((a + 2) * x - (a + 3)) * x * x + 1
  far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
  weights = np.zeros((new, old))
  rows = np.arange(new)[:, None]
  np.add.at(weights, (rows, taps.clip(0, old - 1)), np.where(x <= 1, near, far))
  return weights


def _fused(source: str, target: str, names: str, layout: t.Layout) -> tuple[Row, ...]:
  return tuple(
    Row(
      f"{source}.{theirs}",
      tuple(f"{target}/{name}/{ours}" for name in names.split()),
      layout,
      axis=-1,
    )
    for theirs, ours in (("weight", "kernel"), ("bias", "bias"))
  )
