"""An image as a grid of features: from a ViT, of several views, and as one vector.

A grid encoder has a `width` and maps (image, mask) to (b rows columns c); besides
`ViTGrid` these are `ResNet` and `DenseNet`.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrg.models.layers import widen


class ViTGrid(nn.Module):
  """The normalised last tokens of a ViT in their places, without a class token."""

  vit: nn.Module

  @property
  def width(self) -> int:
    """Channels of the grid."""
    return self.vit.width

  @nn.compact
  def __call__(
    self,
    image: Float[Array, "b height width channels"],
    mask: Bool[Array, "b"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b rows columns c"]:
    if image.shape[1] != image.shape[2]:
      raise ValueError(
        f"An image of {image.shape[1]}x{image.shape[2]} has no square grid of tokens: "
        "give square ones."
      )
    _, tokens = self.vit(image, mask, train=train)
    side = math.isqrt(tokens.shape[1])
    num_extra = tokens.shape[1] - side * side  # The class token, if there is one.
    return tokens[:, num_extra:].reshape(tokens.shape[0], side, side, -1)


def pooled(grid: Float[Array, "b rows columns c"]) -> Float[Array, "b c"]:
  """The mean over the grid, in float32; not negative where the grid is not."""
  return widen(grid).mean(axis=(1, 2))


def pool_views(
  x: Float[Array, "b v *places c"], has_view: Bool[Array, "b v"]
) -> Float[Array, "b *places c"]:
  """The largest of each coordinate over the views that are there; else -1.

  Of grids or of pooled vectors (spec eir 2.7). Where these cannot be negative this is
  the published maximum, in which an absent view counts as -1; a view that is not there
  does not win over the negative ones of a ViT either.
  """
  has_view = has_view.reshape(*has_view.shape, *(1,) * (x.ndim - 2))
  largest = jnp.where(has_view, x, -jnp.inf).max(axis=1)
  return jnp.where(has_view.any(axis=1), largest, -1.0)
