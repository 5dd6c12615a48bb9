"""The graph of findings: its nodes read one another along its edges.

A batch of graphs is one row a graph, each padded to the same numbers of nodes and
edges (`node_mask`, `edge_mask`), so that rows can lie on different devices. Graphs
laid end to end are the same with a single row (`concatenate`).
In shapes n are nodes and e edges.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxrg.models.layers import (
  Attention,
  Dropout,
  Dtype,
  Mlp,
  layer_norm,
  torch_linear,
  widen,
)
from jaxrg.sharding import constrain

NUM_KINDS, NUM_GROUPS = 5, 12  # Of nodes (spec eir 4.5).
NUM_RELATIONS = 7  # Of edges (spec eir 4.7).

NODES = ("node_tokens", "node_tokens_mask", "node_kind", "node_group", "node_added")


def edge_attention(
  query: Float[Array, "n h k"],
  key: Float[Array, "n h k"],
  value: Float[Array, "n h k"],
  senders: Int[Array, "e"],
  receivers: Int[Array, "e"],
  mask: Bool[Array, "e"],
  bias: Float[Array, "e h"] | None = None,
  sorted_receivers: bool = False,
) -> Float[Array, "n h k"]:
  """Attention in which a node sees the senders of its edges; softmax in float32.

  Equal to dense attention under the mask that the edges spell, if none is there twice
  (spec eir 4.8). A node without an edge yields zero. `bias` is added to the logits.
  """
  count = {"num_segments": query.shape[0], "indices_are_sorted": sorted_receivers}
  logits = widen(query[receivers] * key[senders]).sum(axis=-1) * key.shape[-1] ** -0.5
  logits = logits if bias is None else logits + bias
  logits = jnp.where(mask[:, None], logits, -jnp.inf)
  largest = jraph.segment_max(logits, receivers, **count)
  largest = jax.lax.stop_gradient(jnp.where(jnp.isfinite(largest), largest, 0.0))
  weights = jnp.exp(logits - largest[receivers])
  total = jraph.segment_sum(weights, receivers, **count)
  # jraph.segment_softmax would be 0 / 0 where all edges of a node are masked.
  weights = weights / jnp.where(total > 0, total, 1.0)[receivers]
  read = weights[..., None] * value[senders]
  return jraph.segment_sum(read, receivers, **count).astype(value.dtype)


class NodeFeatures(nn.Module):
  """The mean of the words of each node's name, with its kind, group and origin.

  The last is a vector of those nodes that are not of the base graph (spec eir 4.5).
  """

  width: int
  init_std: float
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, words: Float[Array, "b n t c"], graph: Mapping[str, Array]
  ) -> Float[Array, "b n d"]:
    normal = nn.initializers.normal(self.init_std)
    table = lambda name, *size: self.param(name, normal, (*size, self.width))
    mask = graph["node_tokens_mask"][..., None]
    count = jnp.maximum(mask.sum(axis=2), 1).astype(words.dtype)
    x = nn.Dense(
      self.width,
      use_bias=False,
      dtype=self.dtype,
      kernel_init=torch_linear(),
      name="word_proj",
    )(jnp.where(mask, words, 0.0).sum(axis=2) / count)
    place = table("kinds", NUM_KINDS)[graph["node_kind"]]
    place += table("groups", NUM_GROUPS)[graph["node_group"]]
    place += jnp.where(graph["node_added"][..., None], table("added"), 0.0)
    return layer_norm(dtype=self.dtype, name="norm")(x + place.astype(x.dtype))


class GraphLayer(nn.Module):
  """Pre-norm graph self-attention and perceptron (spec eir 4.6)."""

  width: int
  num_heads: int
  mlp_dim: int
  dropout_rate: float
  relation_bias: bool
  sorted_receivers: bool
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "b n d"], graph: Mapping[str, Array], *, train: bool = False
  ) -> Float[Array, "b n d"]:
    dropout = lambda y: Dropout(self.dropout_rate)(y, deterministic=not train)
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
    bias = None
    if self.relation_bias:
      zeros = nn.initializers.zeros
      table = self.param("relations", zeros, (NUM_RELATIONS, self.num_heads))
      bias = table[graph["edge_kind"]]
    # Row by row, rather than on all nodes of the batch at once: as fast, and between
    # devices that hold different rows nothing has to travel.
    read = jax.vmap(
      lambda *inputs: edge_attention(*inputs, sorted_receivers=self.sorted_receivers)
    )
    y = layer_norm(dtype=self.dtype, name="norm_1")(x)
    query = constrain(attention.query(y), "batch", "length", "heads", "head_dim")
    edges = (graph[name] for name in ("senders", "receivers", "edge_mask"))
    y = read(query, *attention.keys_values(y), *edges, bias)
    x = x + dropout(attention.out(y))
    y = layer_norm(dtype=self.dtype, name="norm_2")(x)
    x = x + dropout(mlp(y, train=train))
    return constrain(x, "batch", "length", "embed")


class GraphEncoder(nn.Module):
  """What each node of a graph means in it (b n d), and which nodes there are (b n).

  `graph` holds `node_tokens_mask` (b n t), `node_kind`, `node_group`, `node_added`,
  `node_mask` (b n), and `senders`, `receivers`, `edge_kind`, `edge_mask` (b e); no edge
  may be there twice. `words` are the vectors of the names' tokens.
  """

  num_layers: int
  num_heads: int
  width: int
  mlp_dim: int
  dropout_rate: float = 0.1
  embed_init_std: float = 1.0
  relation_bias: bool = False  # By kind of edge and head, added to the logits.
  sorted_receivers: bool = False  # Whether the receivers of every row ascend.
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    words: Float[Array, "b n t c"],
    graph: Mapping[str, Array],
    *,
    train: bool = False,
  ) -> tuple[Float[Array, "b n d"], Bool[Array, "b n"]]:
    x = NodeFeatures(self.width, self.embed_init_std, self.dtype, name="nodes")(
      words, graph
    )
    x = Dropout(self.dropout_rate)(x, deterministic=not train)
    for i in range(self.num_layers):
      x = GraphLayer(
        self.width,
        self.num_heads,
        self.mlp_dim,
        self.dropout_rate,
        self.relation_bias,
        self.sorted_receivers,
        self.dtype,
        name=f"layer_{i}",
      )(x, graph, train=train)
    return layer_norm(dtype=self.dtype, name="norm")(x), graph["node_mask"]


def graphs_tuple(batch: Mapping[str, np.ndarray], row: int) -> jraph.GraphsTuple:
  """The real nodes and edges of one row of a batch, on the host (spec eir 4.7)."""
  nodes, edges = (np.asarray(batch[name][row]) for name in ("node_mask", "edge_mask"))
  number = np.cumsum(nodes) - 1  # Of each node among the real ones.
  take = lambda name, real: np.asarray(batch[name][row])[real]
  return jraph.GraphsTuple(
    nodes={name: take(name, nodes) for name in NODES},
    edges={"edge_kind": take("edge_kind", edges)},
    senders=number[take("senders", edges)],
    receivers=number[take("receivers", edges)],
    n_node=np.array([nodes.sum()], np.int32),
    n_edge=np.array([edges.sum()], np.int32),
    globals=None,
  )


def concatenate(
  batch: Mapping[str, np.ndarray], num_nodes: int, num_edges: int
) -> dict[str, np.ndarray]:
  """The graphs of a batch end to end as a single row, padded only once.

  For graphs of very different sizes, on one device. Their nodes keep the order of the
  rows. Raises ValueError unless `num_nodes` leaves room for a padding node and
  `num_edges` for all edges.
  """
  rows = len(batch["node_mask"])
  graphs = jraph.batch_np([graphs_tuple(batch, row) for row in range(rows)])
  nodes, edges = graphs.n_node.sum(), graphs.n_edge.sum()
  if num_nodes <= nodes or num_edges < edges:
    raise ValueError(
      f"{nodes} nodes and {edges} edges need num_nodes > {nodes} and num_edges >= "
      f"{edges}, not {num_nodes} and {num_edges}."
    )
  padded = jraph.pad_with_graphs(graphs, num_nodes, num_edges, rows + 1)
  row = padded.nodes | padded.edges
  row["senders"] = padded.senders.astype(np.int32)
  row["receivers"] = padded.receivers.astype(np.int32)
  row["node_mask"] = jraph.get_node_padding_mask(padded)
  row["edge_mask"] = jraph.get_edge_padding_mask(padded)
  return {name: np.asarray(x)[None] for name, x in row.items()}
