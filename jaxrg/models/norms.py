"""How pixels become numbers: a property of the weights that will see them."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8


@dataclasses.dataclass(frozen=True)
class Norm:
  """(pixel / 255 - mean) / std; a grey image becomes as many channels as there are."""

  mean: tuple[float, ...]
  std: tuple[float, ...]

  @property
  def channels(self) -> int:
    return len(self.mean)


NORMS = {  # spec eir 2.6 and 10
  "unit": Norm((0.0,) * 3, (1.0,) * 3),
  "imagenet": Norm((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
  "mococxr": Norm((0.5020,) * 3, (0.085585,) * 3),
  "xrv": Norm((0.5,), (0.5 / 1024,)),  # torchxrayvision: -1024 to 1024.
}


def normalise(
  image: UInt8[Array, "*b height width 1"] | Float[Array, "*b height width channels"],
  norm: str,
) -> Float[Array, "*b height width channels"]:
  """The image as float32 with the channels of `norm`; floats are normalised already.

  Raises ValueError for a name that is none of `NORMS`.
  """
  if jnp.issubdtype(image.dtype, jnp.floating):
    return image
  return standardise(image.astype(jnp.float32), norm)


def standardise(
  greys: Float[Array, "*b height width 1"], norm: str
) -> Float[Array, "*b height width channels"]:
  """Greys of 0 to 255 with the channels of `norm`; raises as `normalise` does."""
  if norm not in NORMS:
    raise ValueError(f"Unknown config.model.norm {norm!r}; known: {', '.join(NORMS)}.")
  mean, std = (jnp.array(x, jnp.float32) for x in dataclasses.astuple(NORMS[norm]))
  return (greys / 255 - mean) / std
