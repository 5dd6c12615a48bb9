"""How the image's topics take up the history and the graph: three ways, one interface.

Each maps `topics` (b n d), `history` (b t d), its mask (b t), `graph` (b s d) and its
mask (b s) to the enhanced image representation (b n d). A modality that is None has no
stage and no parameters; with both None the topics come back as they are.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrg.models.layers import (
  Attention,
  Dropout,
  Dtype,
  Mlp,
  Readout,
  layer_norm,
  read_memory,
  torch_linear,
)
from jaxrg.sharding import constrain

ORDERS = ("text_graph", "graph_text", "parallel")
TARGETS = ("topics", "grid")


class CrossModalLayer(nn.Module):
  """The target reads a source; each side is normalised by itself."""

  width: int
  num_heads: int
  mlp_dim: int
  dropout_rate: float
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b n d"],
    source: Float[Array, "b s d"],
    mask: Bool[Array, "b s"],
    *,
    train: bool = False,
  ) -> Float[Array, "b n d"]:
    dropout = lambda y: Dropout(self.dropout_rate)(y, deterministic=not train)
    norm = lambda name: layer_norm(dtype=self.dtype, name=name)
    attention = Attention(
      self.width,
      self.num_heads,
      self.width // self.num_heads,
      dtype=self.dtype,
      name="attention",
    )
    mlp = Mlp(
      self.width,
      self.mlp_dim,
      nn.relu,
      dtype=self.dtype,
      dropout_rate=self.dropout_rate,
      name="mlp",
    )
    query, memory = norm("norm_1")(x), norm("norm_2")(source)
    x = x + dropout(read_memory(attention, query, memory, mask, train=train))
    x = x + dropout(mlp(norm("norm_3")(x), train=train))
    return constrain(x, "batch", "length", "embed")


class CrossModal(nn.Module):
  """Cross-modal transformer: every layer reads the same source (spec eir 5.2)."""

  num_layers: int
  width: int
  num_heads: int
  mlp_dim: int
  dropout_rate: float = 0.1
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b n d"],
    source: Float[Array, "b s d"],
    mask: Bool[Array, "b s"],
    *,
    train: bool = False,
  ) -> Float[Array, "b n d"]:
    for i in range(self.num_layers):
      x = CrossModalLayer(
        self.width,
        self.num_heads,
        self.mlp_dim,
        self.dropout_rate,
        self.dtype,
        name=f"layer_{i}",
      )(x, source, mask, train=train)
    return layer_norm(dtype=self.dtype, name="norm")(x)


class CrossModalAggregation(nn.Module):
  """One cross-modal transformer a modality, in turn or side by side (spec eir 5.3).

  Where the `target` is the grid, `topics` are the tokens of `topics.GridTokens`, and
  `num_topics` learned queries read what has become of them. Raises ValueError for an
  unknown `order` or `target`.
  """

  num_topics: int
  num_layers: int
  width: int
  num_heads: int
  mlp_dim: int
  dropout_rate: float = 0.1
  order: str = "text_graph"
  target: str = "topics"
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    topics: Float[Array, "b n d"],
    history: Float[Array, "b t d"] | None,
    history_mask: Bool[Array, "b t"] | None,
    graph: Float[Array, "b s d"] | None,
    graph_mask: Bool[Array, "b s"] | None,
    *,
    train: bool = False,
  ) -> Float[Array, "b topics d"]:
    _check("order", self.order, ORDERS)
    _check("target", self.target, TARGETS)
    sources = {"text": (history, history_mask), "graph": (graph, graph_mask)}
    sources = {name: both for name, both in sources.items() if both[0] is not None}
    stage = lambda name: CrossModal(
      self.num_layers,
      self.width,
      self.num_heads,
      self.mlp_dim,
      self.dropout_rate,
      self.dtype,
      name=name,
    )
    x = topics
    if self.order == "parallel":
      streams = [stage(name)(x, *sources[name], train=train) for name in sources]
      x = _join(self.width, streams, x, self.dtype) if streams else x
    else:
      for name in self.order.split("_"):
        x = stage(name)(x, *sources[name], train=train) if name in sources else x
    if self.target == "grid":
      x = Readout(
        self.num_topics,
        self.width,
        self.num_heads,
        self.dropout_rate,
        dtype=self.dtype,
        name="readout",
      )(x, train=train)
    return x


class AddNorm(nn.Module):
  """What topic queries read in each modality, added and normalised (spec eir 5.1)."""

  num_topics: int
  width: int
  num_heads: int = 1
  dropout_rate: float = 0.1  # Of attention weights.
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    topics: Float[Array, "b n d"],
    history: Float[Array, "b t d"] | None,
    history_mask: Bool[Array, "b t"] | None,
    graph: Float[Array, "b s d"] | None,
    graph_mask: Bool[Array, "b s"] | None,
    *,
    train: bool = False,
  ) -> Float[Array, "b n d"]:
    memories = {"text": (history, history_mask), "graph": (graph, graph_mask)}
    summaries = [
      Readout(
        self.num_topics,
        self.width,
        self.num_heads,
        self.dropout_rate,
        dtype=self.dtype,
        name=name,
      )(memory, mask, train=train)
      for name, (memory, mask) in memories.items()
      if memory is not None
    ]
    return self.join([topics, *summaries]) if summaries else topics

  def join(self, streams: list[Float[Array, "b n d"]]) -> Float[Array, "b n d"]:
    """Topics and summaries made one."""
    return layer_norm(dtype=self.dtype, name="norm")(sum(streams))


class Concat(AddNorm):
  """As AddNorm, but a learned map of topics and summaries side by side."""

  def join(self, streams: list[Float[Array, "b n d"]]) -> Float[Array, "b n d"]:
    """Topics and summaries made one."""
    return _join(self.width, streams, None, self.dtype)


def _join(width: int, streams: list[Array], residual: Array | None, dtype: Dtype):
  """LN(W [streams] + residual)."""
  x = nn.Dense(width, dtype=dtype, kernel_init=torch_linear(), name="streams_proj")(
    jnp.concatenate(streams, axis=-1)
  )
  x = x if residual is None else x + residual
  return layer_norm(dtype=dtype, name="norm")(x)


def _check(field: str, value: str, known: tuple[str, ...]) -> None:
  if value not in known:
    raise ValueError(
      f"config.model.aggregation.{field}={value!r} is none of {', '.join(known)}."
    )
