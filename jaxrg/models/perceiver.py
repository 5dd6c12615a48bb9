"""Perceiver resampler: a fixed number of latents read a sequence of any length."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrg.models.layers import Attention, Dtype, gelu, layer_norm, torch_linear
from jaxrg.sharding import constrain


class GatedMlp(nn.Module):
  """Two-layer perceptron whose hidden half is gated by the GELU of the other."""

  width: int
  mlp_dim: int
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
    dense = lambda features, name: nn.Dense(
      features, dtype=self.dtype, kernel_init=torch_linear(), name=name
    )
    hidden = dense(self.mlp_dim, "wi")(x) * gelu(dense(self.mlp_dim, "gate")(x))
    hidden = constrain(hidden, "batch", "length", "mlp")
    return dense(self.width, "wo")(hidden)


class PerceiverLayer(nn.Module):
  """Latents read the data, then one another; every read is followed by an MLP."""

  width: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  read_gain: float = 1.0
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b l d"],
    data: Float[Array, "b s d"],
    mask: Bool[Array, "b s"] | None,
  ) -> Float[Array, "b l d"]:
    norm = lambda name: layer_norm(dtype=self.dtype, name=name)
    attention = lambda name, gain: Attention(
      self.width,
      self.num_heads,
      self.head_dim,
      qkv_bias=False,
      dtype=self.dtype,
      kernel_init=torch_linear(gain),
      name=name,
    )
    mlp = lambda name: GatedMlp(self.width, self.mlp_dim, self.dtype, name=name)
    mask = None if mask is None else mask[:, None, None, :]

    x = x + attention("cross_attention", self.read_gain)(
      norm("norm_1")(x), norm("norm_data")(data), mask=mask
    )
    x = x + mlp("cross_mlp")(norm("norm_2")(x))
    x = x + attention("self_attention", 1.0)(norm("norm_3")(x))
    x = x + mlp("self_mlp")(norm("norm_4")(x))
    return constrain(x, "batch", "length", "embed")


class Perceiver(nn.Module):
  """Reads `data` into latents: its own, or those that an earlier reading left.

  One set of weights serves every call (spec priorrg 2.6).
  """

  num_latents: int
  num_layers: int
  num_heads: int
  head_dim: int
  width: int
  mlp_dim: int
  embedding_std: float = 1.0  # Of the latents at the start.
  # Variance of the weights that read the data at the start, relative to PyTorch's.
  # At 1 every latent reads the same faint mean, and takes long to learn better.
  read_gain: float = 1.0
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    data: Float[Array, "b s d"],
    initial: Float[Array, "b l d"] | None = None,
    *,
    mask: Bool[Array, "b s"] | None = None,
  ) -> Float[Array, "b l d"]:
    shape = (self.num_latents, self.width)
    latents = self.param("latents", nn.initializers.normal(self.embedding_std), shape)
    x = initial
    if x is None:
      x = jnp.broadcast_to(latents, (data.shape[0], *shape)).astype(self.dtype)
    for i in range(self.num_layers):
      x = PerceiverLayer(
        self.width,
        self.num_heads,
        self.head_dim,
        self.mlp_dim,
        self.read_gain,
        self.dtype,
        name=f"layer_{i}",
      )(x, data, mask)
    return x
