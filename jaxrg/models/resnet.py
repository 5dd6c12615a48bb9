"""ResNet as torchvision has it (v1.5), without a classifier: an image as a grid."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrg.models.layers import BatchNorm, Dtype, conv, max_pool
from jaxrg.sharding import constrain

HE_NORMAL = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Block(nn.Module):
  """Convolutions and a way round them: 3x3 twice, or 1x1, 3x3, 1x1 (bottleneck).

  The stride sits on the first 3x3. `conv_0` brings what goes round to the size of the
  rest, where they differ.
  """

  width: int  # Of the 3x3 convolutions.
  stride: int = 1
  bottleneck: bool = True
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b height width c"],
    mask: Bool[Array, "b 1 1 1"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b rows columns k"]:
    def convolve(x, i, features, size, stride=1):
      x = conv(
        features,
        size,
        stride,
        kernel_init=HE_NORMAL,
        dtype=self.dtype,
        name=f"conv_{i}",
      )(x)
      return BatchNorm(dtype=self.dtype, name=f"norm_{i}")(x, mask, train=train)

    if self.bottleneck:
      y = nn.relu(convolve(x, 1, self.width, 1))
      y = nn.relu(convolve(y, 2, self.width, 3, self.stride))
      y = convolve(y, 3, 4 * self.width, 1)
    else:
      y = nn.relu(convolve(x, 1, self.width, 3, self.stride))
      y = convolve(y, 2, self.width, 3)
    if x.shape != y.shape:
      x = convolve(x, 0, y.shape[-1], 1, self.stride)
    return constrain(nn.relu(x + y), "batch", None, None, "embed")


class ResNet(nn.Module):
  """The grid of the last stage, never negative (spec eir 2.1); ResNet-50 by default.

  Each stage but the first halves the grid and doubles the width. ResNet-18 has the
  blocks (2, 2, 2, 2) and no bottlenecks. `mask` is true for the images that batch
  statistics count.
  """

  blocks: tuple[int, ...] = (3, 4, 6, 3)  # Of each stage.
  bottleneck: bool = True
  base_width: int = 64
  stem_pool: bool = True  # Without it the grid is twice as fine: for small images.
  dtype: Dtype = jnp.float32

  @property
  def width(self) -> int:
    """Channels of the grid."""
    widest = self.base_width * 2 ** (len(self.blocks) - 1)
    return widest * (4 if self.bottleneck else 1)

  @nn.compact
  def __call__(
    self,
    image: Float[Array, "b height width channels"],
    mask: Bool[Array, "b"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b rows columns c"]:
    mask = None if mask is None else mask[:, None, None, None]
    x = conv(
      self.base_width, 7, 2, kernel_init=HE_NORMAL, dtype=self.dtype, name="conv_1"
    )(image)
    x = nn.relu(BatchNorm(dtype=self.dtype, name="norm_1")(x, mask, train=train))
    x = max_pool(x) if self.stem_pool else x
    for stage, count in enumerate(self.blocks):
      for i in range(count):
        x = Block(
          self.base_width * 2**stage,
          stride=2 if stage and i == 0 else 1,
          bottleneck=self.bottleneck,
          dtype=self.dtype,
          name=f"stage_{stage + 1}_block_{i}",
        )(x, mask, train=train)
    return x
