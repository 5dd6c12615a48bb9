"""The smallest EIR with every part in it, and batches for it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxrg.models.aggregation import CrossModalAggregation
from jaxrg.models.classifier import StateClassifier
from jaxrg.models.eir import EIR
from jaxrg.models.generator import PrefixGenerator
from jaxrg.models.graph import NUM_GROUPS, NUM_KINDS, NUM_RELATIONS, GraphEncoder
from jaxrg.models.heads import MlpHead
from jaxrg.models.history import HistoryEncoder, token_table
from jaxrg.models.interpreter import Interpreter
from jaxrg.models.layers import BatchNorm, Dtype, Readout
from jaxrg.models.topics import DenseTopics

VOCAB_SIZE, IMAGE_SIZE, VIEWS, TOPICS, STATES, WIDTH = 19, 8, 2, 6, 2, 8
HISTORY_LENGTH, NAME_LENGTH, NODES, EDGES = 5, 3, 7, 40
REPORT_LENGTH = 6


class Vision(nn.Module):
  """A grid of 2 x 2 places, with batch statistics."""

  width: int = 12
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    image: Float[Array, "b height width channels"],
    mask: Bool[Array, "b"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b rows columns c"]:
    x = nn.Conv(self.width, (4, 4), (4, 4), dtype=self.dtype, name="conv_0")(image)
    mask = None if mask is None else mask[:, None, None, None]
    norm = BatchNorm(dtype=self.dtype, name="norm")
    return nn.relu(norm(x, mask, train=train))


def model(
  dropout_rate: float = 0.0,
  dtype: Dtype = jnp.float32,
  num_states: int = STATES,
  **parts,
) -> EIR:
  """With other `parts` where they are given."""
  small = dict(width=WIDTH, num_heads=2, dropout_rate=dropout_rate, dtype=dtype)
  report = dict(num_layers=1, mlp_dim=WIDTH, max_length=REPORT_LENGTH)
  fields = dict(
    vision=Vision(dtype=dtype),
    head=MlpHead(4, dtype),
    tokens=token_table(VOCAB_SIZE, WIDTH, dtype=dtype),
    history=HistoryEncoder(**small, num_layers=1, mlp_dim=WIDTH, max_length=6),
    graph=GraphEncoder(**small, num_layers=1, mlp_dim=16),
    topics=DenseTopics(TOPICS, WIDTH, dropout_rate, dtype),
    aggregation=CrossModalAggregation(TOPICS, **small, num_layers=1, mlp_dim=16),
    classifier=StateClassifier(num_states, WIDTH, dtype=dtype),
    labels=token_table(TOPICS, WIDTH, dtype=dtype),
    generator=PrefixGenerator(VOCAB_SIZE, **small, **report),
    interpreter=Interpreter(
      tokens=token_table(VOCAB_SIZE, WIDTH, dtype=dtype),
      encoder=HistoryEncoder(**small, **report),
      readout=Readout(TOPICS, WIDTH, 2, dropout_rate, dtype=dtype),
      classifier=StateClassifier(num_states, WIDTH, 2, dtype=dtype),
    ),
    reading="soft_token",
    threshold=0.5,
    norm="unit",
  )
  return EIR(**(fields | parts))


def graphs(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
  """Random graphs of 3 to 6 nodes with self-loops, edges both ways, in no order."""
  rng = np.random.default_rng(seed)
  draw = lambda most, *size: rng.integers(0, most, (rows, *size)).astype(np.int32)
  sizes = rng.permutation(np.arange(rows) % 4) + 3
  last = NODES - 1
  out = dict(
    node_tokens=draw(VOCAB_SIZE, NODES, NAME_LENGTH),
    node_tokens_mask=np.arange(NAME_LENGTH) <= draw(NAME_LENGTH, NODES, 1),
    node_kind=draw(NUM_KINDS, NODES),
    node_group=draw(NUM_GROUPS, NODES),
    node_added=draw(2, NODES) == 1,
    node_mask=np.arange(NODES) < sizes[:, None],
    senders=np.full((rows, EDGES), last, np.int32),
    receivers=np.full((rows, EDGES), last, np.int32),
    edge_kind=draw(NUM_RELATIONS, EDGES),
    edge_mask=np.zeros((rows, EDGES), bool),
  )
  out["node_tokens_mask"] &= out["node_mask"][..., None]
  for row, size in enumerate(sizes):
    linked = rng.random((size, size)) < 0.3
    edges = rng.permutation(np.argwhere(linked | linked.T | np.eye(size, dtype=bool)))
    out["senders"][row, : len(edges)] = edges[:, 0]
    out["receivers"][row, : len(edges)] = edges[:, 1]
    out["edge_mask"][row, : len(edges)] = True
  return out


def batch(rows: int, seed: int = 0) -> dict[str, jax.Array]:
  """Random studies; every second one has a single view."""
  rng = np.random.default_rng(seed)
  draw = lambda most, *size: rng.integers(0, most, (rows, *size)).astype(np.int32)
  has_view = np.ones((rows, VIEWS), bool)
  has_view[1::2, 1] = False
  image = draw(256, VIEWS, IMAGE_SIZE, IMAGE_SIZE, 1).astype(np.uint8)
  lengths = np.arange(rows) % HISTORY_LENGTH + 1
  out = dict(
    image=image * has_view[..., None, None, None],
    view=np.where(has_view, draw(3, VIEWS), -1),
    has_view=has_view,
    history=draw(VOCAB_SIZE, HISTORY_LENGTH),
    history_mask=np.arange(HISTORY_LENGTH) < lengths[:, None],
    states=draw(STATES, TOPICS),
    tokens=draw(VOCAB_SIZE, REPORT_LENGTH),
    tokens_mask=np.arange(REPORT_LENGTH) < REPORT_LENGTH - np.arange(rows)[:, None] % 3,
  )
  return jax.tree.map(jnp.asarray, out | graphs(rows, seed))
