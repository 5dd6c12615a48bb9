"""How PriorRG joins features: over time (STF) and over encoder layers (ALF)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrg.models.layers import (
  Attention,
  BatchNorm,
  Dtype,
  Mlp,
  layer_norm,
  torch_linear,
)
from jaxrg.sharding import constrain


class TemporalLayer(nn.Module):
  """The current image reads the prior one."""

  width: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  init_std: float
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "b s d"], prior: Float[Array, "b s d"]
  ) -> Float[Array, "b s d"]:
    norm = lambda name: layer_norm(dtype=self.dtype, name=name)
    attention = Attention(
      self.width,
      self.num_heads,
      self.head_dim,
      dtype=self.dtype,
      kernel_init=nn.initializers.normal(self.init_std),
      name="attention",
    )
    mlp = Mlp(self.width, self.mlp_dim, dtype=self.dtype, name="mlp")
    x = x + attention(norm("norm_1")(x), norm("norm_2")(prior))
    x = x + mlp(norm("norm_3")(x))
    return constrain(x, "batch", "length", "embed")


class TemporalFusion(nn.Module):
  """Spatiotemporal fusion: the current image as seen beside the prior (spec 2.5).

  The prior is the same at every layer; there is no self-attention.
  """

  num_layers: int
  num_heads: int
  head_dim: int
  width: int
  mlp_dim: int
  init_std: float = 0.001  # So small a start makes a layer almost the identity.
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "b s d"], prior: Float[Array, "b s d"]
  ) -> Float[Array, "b s d"]:
    for i in range(self.num_layers):
      x = TemporalLayer(
        self.width,
        self.num_heads,
        self.head_dim,
        self.mlp_dim,
        self.init_std,
        self.dtype,
        name=f"layer_{i}",
      )(x, prior)
    return layer_norm(dtype=self.dtype, name="norm")(x)


class ChannelGate(nn.Module):
  """How much each layer counts, from its mean and its maximum over the picture."""

  hidden_dim: int
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, hidden_states: Float[Array, "b layers s d"]
  ) -> Float[Array, "b layers 1 1"]:
    dense = lambda features, name: nn.Dense(
      features,
      use_bias=False,
      dtype=self.dtype,
      kernel_init=torch_linear(),
      name=name,
    )
    wi, wo = dense(self.hidden_dim, "wi"), dense(hidden_states.shape[1], "wo")
    logits = sum(
      wo(nn.relu(wi(pool(hidden_states, axis=(2, 3))))) for pool in (jnp.mean, jnp.max)
    )
    return nn.sigmoid(logits)[:, :, None, None]


class SpatialGate(nn.Module):
  """How much each feature of each token counts, over all layers."""

  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, hidden_states: Float[Array, "b layers s d"]
  ) -> Float[Array, "b 1 s d"]:
    pooled = jnp.stack([hidden_states.max(axis=1), hidden_states.mean(axis=1)])
    logits = MapConv((7, 7), self.dtype, name="spatial")(pooled)
    return nn.sigmoid(logits)[:, None]


class MapConv(nn.Module):
  """A convolution of few maps to one, without bias, padded to keep their size.

  Of so few channels a convolution is slow. As a product of the kernel's rows with the
  maps, shifted along d, and a sum over shifts along s, it is a matrix product.
  """

  kernel_size: tuple[int, int]  # Odd numbers.
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, maps: Float[Array, "maps b s d"]) -> Float[Array, "b s d"]:
    rows, columns = self.kernel_size
    shape = (rows, columns, maps.shape[0], 1)
    kernel = self.param("kernel", torch_linear(), shape).astype(self.dtype)
    s, d = maps.shape[2:]
    pad = lambda size: (size // 2, size // 2)
    padded = jnp.pad(maps, ((0, 0), (0, 0), pad(rows), pad(columns)))
    shifted = jnp.stack([padded[..., j : j + d] for j in range(columns)])
    by_row = jnp.einsum("ijm,jmbsd->ibsd", kernel[..., 0], shifted)
    return sum(by_row[i, :, i : i + s] for i in range(rows))


class LayerMap(nn.Module):
  """A 1x1 convolution over layers; an einsum keeps the layers off the last axis."""

  features: int
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "b layers s d"]) -> Float[Array, "b maps s d"]:
    layers = x.shape[1]
    kernel = self.param("kernel", torch_linear(), (layers, self.features))
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    kernel, bias = kernel.astype(self.dtype), bias.astype(self.dtype)
    return jnp.einsum("blsd,lm->bmsd", x, kernel) + bias[:, None, None]


class LayerFusion(nn.Module):
  """Attention-enhanced fusion of all encoder layers into one (spec 4.1)."""

  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    hidden_states: Float[Array, "b layers s d"],
    mask: Bool[Array, "b"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b s d"]:
    layers = hidden_states.shape[1]
    if layers < 4:
      raise ValueError(f"Layer fusion needs at least 4 encoder layers, not {layers}.")
    y = hidden_states
    y = y * ChannelGate(layers // 4, self.dtype, name="channel_gate")(y)
    y = y * SpatialGate(self.dtype, name="spatial_gate")(y)
    y = y + hidden_states
    y = LayerMap(layers // 2, self.dtype, name="wi")(y)
    mask = None if mask is None else mask[:, None, None, None]
    y = BatchNorm(axis=1, dtype=self.dtype, name="batch_norm")(y, mask, train=train)
    return LayerMap(1, self.dtype, name="wo")(nn.relu(y))[:, 0]


class LastLayer(nn.Module):
  """The last encoder layer, in place of a fusion of all; it has no parameters."""

  def __call__(
    self,
    hidden_states: Float[Array, "b layers s d"],
    mask: Bool[Array, "b"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b s d"]:
    return hidden_states[:, -1]


class LayerMean(nn.Module):
  """The plain mean of the encoder layers, likewise."""

  def __call__(
    self,
    hidden_states: Float[Array, "b layers s d"],
    mask: Bool[Array, "b"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b s d"]:
    return hidden_states.mean(axis=1)
