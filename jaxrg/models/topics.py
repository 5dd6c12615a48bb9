"""From an image's features to the topics of a report: three ways, one interface.

Each maps `pooled` (b c) and `grid` (b rows columns c) to vectors (b n d).
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrg.models.layers import Dropout, Dtype, Readout, torch_linear
from jaxrg.sharding import constrain


class DenseTopics(nn.Module):
  """A linear map of its own for each topic, from the pooled vector (spec eir 2.8)."""

  num_topics: int
  width: int
  dropout_rate: float = 0.1  # Of the pooled vector.
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    pooled: Float[Array, "b c"],
    grid: Float[Array, "b rows columns c"],
    *,
    train: bool = False,
  ) -> Float[Array, "b n d"]:
    x = Dropout(self.dropout_rate)(pooled, deterministic=not train)
    x = nn.DenseGeneral(
      (self.num_topics, self.width),
      dtype=self.dtype,
      kernel_init=torch_linear(),
      name="maps",
    )(x)
    return constrain(x, "batch", "length", "embed")


class AttentionTopics(nn.Module):
  """Learned topic queries read the grid: a seventieth of the parameters."""

  num_topics: int
  width: int
  num_heads: int = 8
  dropout_rate: float = 0.1  # Of attention weights.
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    pooled: Float[Array, "b c"],
    grid: Float[Array, "b rows columns c"],
    *,
    train: bool = False,
  ) -> Float[Array, "b n d"]:
    tokens = _tokens(grid, self.width, self.dtype)
    return Readout(
      self.num_topics,
      self.width,
      self.num_heads,
      self.dropout_rate,
      dtype=self.dtype,
      name="readout",
    )(tokens, train=train)


class GridTokens(nn.Module):
  """The grid itself with learned rows and columns, in place of topics (spec eir 5.3).

  What is aggregated is then read into topics by `aggregation.CrossModalAggregation`.
  """

  width: int
  dropout_rate: float = 0.1  # Of the grid.
  embed_init_std: float = 1.0
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    pooled: Float[Array, "b c"],
    grid: Float[Array, "b rows columns c"],
    *,
    train: bool = False,
  ) -> Float[Array, "b places d"]:
    rows, columns = grid.shape[1:3]
    normal = nn.initializers.normal(self.embed_init_std)
    table = lambda name, size: self.param(name, normal, (size, self.width))
    places = table("rows", rows)[:, None] + table("columns", columns)
    grid = Dropout(self.dropout_rate)(grid, deterministic=not train)
    tokens = _tokens(grid, self.width, self.dtype)
    tokens = tokens + places.reshape(-1, self.width).astype(tokens.dtype)
    return constrain(tokens, "batch", "length", "embed")


def _tokens(grid: Array, width: int, dtype: Dtype) -> Float[Array, "b places d"]:
  x = nn.Dense(width, dtype=dtype, kernel_init=torch_linear(), name="grid_proj")(grid)
  return x.reshape(x.shape[0], -1, width)
