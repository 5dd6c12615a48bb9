"""What pooled image features are compared by: projections without normalisation.

They serve the contrast of images and the search for similar ones (spec eir 2.2).
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrg.models.layers import Dtype, torch_linear


class MlpHead(nn.Module):
  """One hidden layer, as wide as the features: MoCo v2's."""

  width: int  # Of the output.
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b d"]:
    dense = lambda features, name: nn.Dense(
      features, dtype=self.dtype, kernel_init=torch_linear(), name=name
    )
    return dense(self.width, "wo")(nn.relu(dense(x.shape[-1], "wi")(x)))


class LinearHead(nn.Module):
  """A linear map: C2L's."""

  width: int
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b d"]:
    return nn.Dense(
      self.width, dtype=self.dtype, kernel_init=torch_linear(), name="wo"
    )(x)
