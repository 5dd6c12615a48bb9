"""A checkpoint of the published size, by shapes: no weights, no memory."""

import functools
import pathlib

import jax
import numpy as np
from flax import traverse_util

from jaxrg import convert

KEYS = pathlib.Path(__file__).parent / "golden" / "published_keys.txt"
STAGE_2 = ("layer_fusion.", "layer_norm_fusion.", "text_decoder.")


def state(stage: int) -> dict[str, np.ndarray]:
  """Zeros under the authors' names; of one element each, seen at the full shape."""
  arrays = {}
  for line in KEYS.read_text().splitlines():
    if line.startswith("#"):
      continue
    key, shape, *count = line.split()
    shape = () if shape == "-" else tuple(map(int, shape.split("x")))
    names = (
      [key.replace("*", str(i), 1) for i in range(int(count[0]))] if count else [key]
    )
    arrays |= {name: np.broadcast_to(np.float32(0), shape) for name in names}
  if stage == 1:
    arrays = {k: v for k, v in arrays.items() if not k.startswith(STAGE_2)}
  return arrays


@functools.cache
def converted(stage: int) -> tuple[dict, dict[str, tuple[int, ...]]]:
  """(model config, shape of each of our variables by path) of a checkpoint."""
  config, variables = convert.priorrg(state(stage))
  flat = traverse_util.flatten_dict(variables, sep="/")
  return config, {path: x.shape for path, x in flat.items()}


@functools.cache
def built(stage: int) -> dict[str, jax.ShapeDtypeStruct]:
  """The variables that the model of that config has, by path."""
  return convert.variable_shapes(converted(stage)[0], stage, image_size=518)
