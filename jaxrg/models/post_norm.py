"""The post-norm transformer layer of EIR's texts: history, report and interpreter."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrg.models.layers import Attention, Dtype, Mlp, layer_norm
from jaxrg.sharding import constrain


class PostNormLayer(nn.Module):
  """Post-norm transformer layer without dropout on its residual branches."""

  width: int
  num_heads: int
  mlp_dim: int
  dropout_rate: float  # Of attention weights, and within the perceptron.
  dtype: Dtype = jnp.float32

  def setup(self):
    self.attention = Attention(
      self.width,
      self.num_heads,
      self.width // self.num_heads,
      dropout_rate=self.dropout_rate,
      dtype=self.dtype,
    )
    self.mlp = Mlp(
      self.width,
      self.mlp_dim,
      nn.relu,
      dtype=self.dtype,
      dropout_rate=self.dropout_rate,
    )
    self.norm_1, self.norm_2 = (layer_norm(dtype=self.dtype) for _ in range(2))

  def __call__(
    self,
    x: Float[Array, "b t d"],
    mask: Bool[Array, "#b #h #t s"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b t d"]:
    return self.read(x, *self.keys_values(x), mask=mask, train=train)

  def keys_values(self, x: Float[Array, "b s d"]) -> tuple[Array, Array]:
    """What the layer's attention reads of `x`: each b s h k."""
    return self.attention.keys_values(x)

  def read(
    self,
    x: Float[Array, "b t d"],
    key: Float[Array, "b s h k"],
    value: Float[Array, "b s h k"],
    *,
    mask: Bool[Array, "#b #h #t s"] | None = None,
    train: bool = False,
  ) -> Float[Array, "b t d"]:
    """The layer over keys and values that are there already."""
    x = self.norm_1(x + self.attention.read(x, key, value, mask=mask, train=train))
    x = self.norm_2(x + self.mlp(x, train=train))
    return constrain(x, "batch", "length", "embed")
