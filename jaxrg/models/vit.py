"""Vision transformer that returns every hidden state, as DINOv2 does."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrg.models.layers import Attention, Dtype, Mlp, layer_norm
from jaxrg.sharding import constrain


class PatchStem(nn.Module):
  """Non-overlapping patches and a class token; greyscale becomes three channels.

  The published encoders saw the grey image three times.
  """

  width: int
  patch_size: int
  init_std: float = 0.02
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, image: Float[Array, "b height width channels"]
  ) -> Float[Array, "b s d"]:
    normal = nn.initializers.truncated_normal(self.init_std)
    image = jnp.broadcast_to(image, (*image.shape[:-1], 3))
    window = (self.patch_size, self.patch_size)
    x = nn.Conv(
      self.width,
      window,
      strides=window,
      padding="VALID",
      dtype=self.dtype,
      kernel_init=normal,
      name="patch",
    )(image)
    x = x.reshape(x.shape[0], -1, self.width)
    cls = self.param("cls", normal, (self.width,)).astype(x.dtype)
    return jnp.concatenate([jnp.tile(cls, (x.shape[0], 1, 1)), x], axis=1)


class ConvStem(nn.Module):
  """Space-to-depth, then strided convolutions: a stem that learns from little data.

  The side of the token grid is image size / (block * 2 ** (convolutions - 1)).
  """

  width: int
  block: int = 4  # Side of the squares that become channels.
  channels: tuple[int, ...] = (48, 96)
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, image: Float[Array, "b height width channels"]
  ) -> Float[Array, "b s d"]:
    b, height, width, _ = image.shape
    n = self.block
    x = image[..., :1].reshape(b, height // n, n, width // n, n)
    x = x.transpose(0, 1, 3, 2, 4).reshape(b, height // n, width // n, n * n)
    for i, channels in enumerate((*self.channels, self.width)):
      stride = (1, 1) if i == 0 else (2, 2)
      x = nn.Conv(channels, (3, 3), stride, dtype=self.dtype, name=f"conv_{i}")(x)
      x = layer_norm(dtype=self.dtype, name=f"norm_{i}")(x)
      x = nn.gelu(x)
    return x.reshape(b, -1, self.width)


class ViTBlock(nn.Module):
  """Pre-norm block whose two branches are scaled feature by feature (LayerScale)."""

  width: int
  num_heads: int
  mlp_dim: int
  init_std: float = 0.02
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "b s d"]) -> Float[Array, "b s d"]:
    normal = nn.initializers.truncated_normal(self.init_std)
    norm = lambda name: layer_norm(1e-6, self.dtype, name)
    scale = lambda name: self.param(name, nn.initializers.ones, (self.width,)).astype(
      x.dtype
    )
    attention = Attention(
      self.width,
      self.num_heads,
      self.width // self.num_heads,
      dtype=self.dtype,
      kernel_init=normal,
      name="attention",
    )
    mlp = Mlp(
      self.width, self.mlp_dim, dtype=self.dtype, kernel_init=normal, name="mlp"
    )
    x = x + scale("scale_1") * attention(norm("norm_1")(x))
    x = x + scale("scale_2") * mlp(norm("norm_2")(x))
    return constrain(x, "batch", "length", "embed")


class ViT(nn.Module):
  """Every block's output, and the normalised last one (spec priorrg 2.1)."""

  stem: nn.Module
  num_layers: int
  num_heads: int
  width: int
  mlp_dim: int
  init_std: float = 0.02
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, image: Float[Array, "b height width channels"]
  ) -> tuple[Float[Array, "b layers s d"], Float[Array, "b s d"]]:
    x = self.stem(image)
    normal = nn.initializers.truncated_normal(self.init_std)
    x = x + self.param("positions", normal, x.shape[1:]).astype(x.dtype)
    hidden_states = []
    for i in range(self.num_layers):
      x = ViTBlock(
        self.width,
        self.num_heads,
        self.mlp_dim,
        self.init_std,
        self.dtype,
        name=f"layer_{i}",
      )(x)
      hidden_states.append(x)
    last = layer_norm(1e-6, self.dtype, "norm")(x)
    # Layers second: as the last axis they would be padded to 128 lanes on TPUs.
    return jnp.stack(hidden_states, axis=1), last
