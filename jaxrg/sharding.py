"""Where arrays live: the device mesh, and the names that map onto it.

Two tables decide every placement. `PARAM_AXES` says what the dimensions of each
parameter *are*; the axis rules of the config say which mesh axis carries each of
those names. Models see neither.
"""

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import spmd
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.tree_util import DictKey

MESH_AXES = ("data", "fsdp", "tensor")

# Later entries for the same name are fallbacks, used when the mesh axis is taken.
AXIS_RULES = (
  ("batch", ("data", "fsdp")),
  ("vocab", "tensor"),
  ("heads", "tensor"),
  ("mlp", "tensor"),
  ("embed", "fsdp"),
  ("embed", None),
  ("head_dim", None),
  ("length", None),
)

# First match wins. Names align with the last dimensions; () replicates.
PARAM_AXES = (
  (r"(query|key|value)/kernel", ("embed", "heads", "head_dim")),
  (r"out/kernel", ("heads", "head_dim", "embed")),
  (r"(wi|gate)/kernel", ("embed", "mlp")),
  (r"wo/kernel", ("mlp", "embed")),
  # Sharding the width too makes the gather rematerialise the whole table.
  (r"embedding", ("vocab", None)),
  # Of EIR's topics: features, topic, width. Their number seldom divides an axis.
  (r"topics/maps/kernel", ("embed", None, "mlp")),
  (r"(patch|conv_\d+|spatial|word_proj|grid_proj|streams_proj)/kernel", ()),
  (r"(bias|scale|mean|var|latents|positions|types|views|times|cls|logit_scale)", ()),
  (r"(scale_1|scale_2)", ()),
  (r"(queries|states|kinds|groups|added|relations|rows|columns)", ()),
  (r"places", ()),
  (r"queue/keys", ()),
)


def make_mesh(
  shape: tuple[int, int, int], devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """The (data, fsdp, tensor) mesh over all devices, or those; one entry may be -1."""
  if len(shape) != len(MESH_AXES):
    raise ValueError(f"config.mesh={tuple(shape)} must be (data, fsdp, tensor).")
  count = jax.device_count() if devices is None else len(devices)
  try:
    shape = np.arange(count).reshape(shape).shape
  except ValueError:
    raise ValueError(
      f"config.mesh={tuple(shape)} does not divide the {count} devices; "
      "its product must be their number, and one entry may be -1."
    ) from None
  # Auto: under `make_mesh`'s default, Explicit, a constraint is an assertion
  # about the sharding that an array already has, not a request for one.
  kinds = (AxisType.Auto,) * len(MESH_AXES)
  return jax.make_mesh(shape, MESH_AXES, axis_types=kinds, devices=devices)


def param_axes(path: str) -> tuple[str | None, ...]:
  """The logical names of a parameter's last dimensions."""
  for pattern, names in PARAM_AXES:
    if re.search(f"(^|/){pattern}$", path):
      return names
  raise ValueError(f"No entry of PARAM_AXES matches the parameter {path!r}.")


def _spec(names, shape, mesh: Mesh, rules) -> P:
  """Resolves names by the rules, replicating dimensions that do not divide."""
  names = (None,) * (len(shape) - len(names)) + tuple(names)
  axes = nn.logical_to_mesh_axes(names, rules)
  size = lambda axis: math.prod(mesh.shape[a] for a in jax.tree.leaves(axis))
  return P(*(a if n % size(a) == 0 else None for n, a in zip(shape, axes)))


def state_shardings(state: Any, mesh: Mesh, rules=AXIS_RULES) -> Any:
  """NamedShardings in the shape of `state`, arrays or ShapeDtypeStructs.

  An optimizer's moments lie under the same dictionary keys as the parameters
  that they belong to, so one lookup by path places both.
  """

  def place(path, x):
    keys = itertools.takewhile(lambda k: isinstance(k, DictKey), reversed(path))
    name = "/".join(reversed([k.key for k in keys]))
    names = param_axes(name) if name and x.ndim else ()
    return NamedSharding(mesh, _spec(names, x.shape, mesh, rules))

  return jax.tree.map_with_path(place, state)


def abstract(state: Any, shardings: Any) -> Any:
  """ShapeDtypeStructs of `state` that carry where each array shall live."""
  struct = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
  return jax.tree.map(struct, state, shardings)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Rows over data and fsdp."""
  return NamedSharding(mesh, P(("data", "fsdp")))


def check_rows(rows: int, mesh: Mesh, key: str) -> None:
  """Raises ValueError, naming the config's key, unless `rows` spread evenly."""
  parts = mesh.shape["data"] * mesh.shape["fsdp"]
  if rows < 1 or rows % parts:
    raise ValueError(
      f"config.{key}={rows} does not divide over the {parts} devices of the mesh's "
      "data and fsdp axes."
    )


def to_global(batch: Any, mesh: Mesh) -> Any:
  """Assembles a global batch from the rows that this process loaded."""
  place = batch_sharding(mesh)
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(place, x), batch)


def gather(arrays: Sequence[jax.Array]) -> np.ndarray:
  """The rows of global arrays, one array after another, on every process."""
  return multihost_utils.process_allgather(jnp.concatenate(arrays), tiled=True)


def wait(name: str) -> None:
  """Waits for all processes, which call it with the same name: one of them writes."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """Pins an activation to its logical axes; a no-op outside a mesh."""
  return nn.with_logical_constraint(x, names, fallback=spmd.RulesFallback.RAISE_ERROR)
