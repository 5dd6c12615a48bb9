"""Vision transformer that returns every hidden state, as DINOv2 does."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrg.models.layers import Attention, BatchNorm, Dtype, Mlp, layer_norm
from jaxrg.sharding import constrain


class PatchStem(nn.Module):
  """Non-overlapping patches and a class token; greyscale becomes three channels.

  The published encoders saw the grey image three times. There are no batch
  statistics here for `mask` and `train` to matter.
  """

  width: int
  patch_size: int
  init_std: float = 0.02
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    image: Float[Array, "b height width channels"],
    mask: Bool[Array, "b"] | None = None,
    *,
    train: bool = False,
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
  """Space-to-depth, strided convolutions, then residual ones on the token grid.

  The side of that grid is image size / (block * 2 ** len(channels)).
  Convolutions and batch statistics learn from a few thousand images what patches
  and layer statistics do not: normalised over its channels, a place loses how bright
  it is, and that is what tells an opacity from the lung. Each feature of each place
  is normalised once more at the end: what all patients share there is taken away, or
  it would drown, in every mean over places that follows, what one patient has.
  Before that every place has a linear map of its own, since readers begin as such
  means: of mapped tokens a mean still tells a wide heart from a white lung.
  """

  width: int
  block: int = 4  # Side of the squares that become channels.
  channels: tuple[int, ...] = (48, 96)  # Of all but the last strided convolution.
  depth: int = 0  # Residual convolutions.
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    image: Float[Array, "b height width channels"],
    mask: Bool[Array, "b"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b s d"]:
    b, height, width, _ = image.shape
    n = self.block
    x = image[..., :1].reshape(b, height // n, n, width // n, n)
    x = x.transpose(0, 1, 3, 2, 4).reshape(b, height // n, width // n, n * n)
    mask = None if mask is None else mask[:, None, None, None]

    def convolve(x, features, stride, i):
      strides = (stride, stride)
      x = nn.Conv(
        features, (3, 3), strides, use_bias=False, dtype=self.dtype, name=f"conv_{i}"
      )(x)
      x = BatchNorm(dtype=self.dtype, name=f"norm_{i}")(x, mask, train=train)
      return nn.relu(x)

    for i, features in enumerate((*self.channels, self.width)):
      x = convolve(x, features, 1 if i == 0 else 2, i)
    for i in range(self.depth):
      x = x + convolve(x, self.width, 1, len(self.channels) + 1 + i)
    x = x.reshape(b, -1, self.width)
    maps = self.param(
      "places",
      nn.initializers.lecun_normal(batch_axis=0),
      (x.shape[1], self.width, self.width),
    )
    x = jnp.einsum("bsc,scd->bsd", x, maps.astype(x.dtype))
    mask = None if mask is None else mask[:, 0, 0]
    norm = BatchNorm(dtype=self.dtype, name="norm_places")
    x = norm(x.reshape(b, -1), mask, train=train)
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
  """Every block's output, and the normalised last one (spec priorrg 2.1).

  `mask` is true for the images that batch statistics, where the stem has any, count.
  """

  stem: nn.Module
  num_layers: int
  num_heads: int
  width: int
  mlp_dim: int
  init_std: float = 0.02
  position_std: float = 0.02
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    image: Float[Array, "b height width channels"],
    mask: Bool[Array, "b"] | None = None,
    *,
    train: bool = False,
  ) -> tuple[Float[Array, "b layers s d"], Float[Array, "b s d"]]:
    x = self.stem(image, mask, train=train)
    normal = nn.initializers.truncated_normal(self.position_std)
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
