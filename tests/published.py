"""A checkpoint of the published size, by shapes: no weights, no memory."""

import functools
import pathlib

import jax
import numpy as np
from flax import traverse_util

from jaxrg import convert, models

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
  model = models.build(converted(stage)[0])
  arrays = lambda shape, dtype: jax.ShapeDtypeStruct((1, *shape), dtype)
  image, text = arrays((518, 518, 1), np.uint8), arrays((100,), np.int32)
  batch = dict(image=image, prior_image=image, has_prior=arrays((), bool))
  batch |= dict.fromkeys(("view", "prior_view"), arrays((), np.int32))
  for name in ("context", "report", "tokens"):
    batch |= {name: text, f"{name}_mask": arrays((100,), bool)}
  init = functools.partial(model.init, method={1: "contrast", 2: "__call__"}[stage])
  variables = jax.eval_shape(init, jax.random.key(0), batch)
  return traverse_util.flatten_dict(variables, sep="/")
