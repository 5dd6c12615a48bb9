"""DenseNet as torchvision has it, without a classifier: an image as a grid."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrg.models.layers import BatchNorm, Dtype, conv, max_pool
from jaxrg.sharding import constrain

HE_NORMAL = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
BOTTLENECK = 4  # How many times the growth the 1x1 convolution of a layer has.


class NormConvs(nn.Module):
  """Convolutions of so many features and sizes, each of what is normalised before."""

  convs: tuple[tuple[int, int], ...]  # (features, size)
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b rows columns c"],
    mask: Bool[Array, "b 1 1 1"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b rows columns k"]:
    for i, (features, size) in enumerate(self.convs, 1):
      x = BatchNorm(dtype=self.dtype, name=f"norm_{i}")(x, mask, train=train)
      x = conv(
        features, size, kernel_init=HE_NORMAL, dtype=self.dtype, name=f"conv_{i}"
      )(nn.relu(x))
    return constrain(x, "batch", None, None, "embed")


class DenseNet(nn.Module):
  """The grid of the last dense block; DenseNet-121 by default (spec eir 2.3, 10).

  A layer adds `growth` channels to all that it has seen; a transition between blocks
  halves both the channels and the grid. `mask` is true for the images that batch
  statistics count.
  """

  blocks: tuple[int, ...] = (6, 12, 24, 16)  # Layers of each.
  growth: int = 32
  base_width: int = 64
  final_norm: bool = True  # Nguyen et al. leave it out, and the last ReLU with it.
  dtype: Dtype = jnp.float32

  @property
  def width(self) -> int:
    """Channels of the grid."""
    width = self.base_width
    for count in self.blocks[:-1]:
      width = (width + count * self.growth) // 2
    return width + self.blocks[-1] * self.growth

  @nn.compact
  def __call__(
    self,
    image: Float[Array, "b height width channels"],
    mask: Bool[Array, "b"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b rows columns c"]:
    mask = None if mask is None else mask[:, None, None, None]
    norm = lambda name: BatchNorm(dtype=self.dtype, name=name)
    x = conv(
      self.base_width, 7, 2, kernel_init=HE_NORMAL, dtype=self.dtype, name="conv_0"
    )(image)
    x = max_pool(nn.relu(norm("norm_0")(x, mask, train=train)))
    layer = ((BOTTLENECK * self.growth, 1), (self.growth, 3))
    for block, count in enumerate(self.blocks, 1):
      for i in range(1, count + 1):
        new = NormConvs(layer, self.dtype, name=f"block_{block}_layer_{i}")
        x = jnp.concatenate([x, new(x, mask, train=train)], axis=-1)
      if block < len(self.blocks):
        half = ((x.shape[-1] // 2, 1),)
        halve = NormConvs(half, self.dtype, name=f"transition_{block}")
        x = nn.avg_pool(halve(x, mask, train=train), (2, 2), (2, 2))
    if self.final_norm:
      x = nn.relu(norm("norm")(x, mask, train=train))
    return x
