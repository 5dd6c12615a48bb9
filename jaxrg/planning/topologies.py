"""TPUs that are not here: what a chip has, and devices to compile for."""

import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies

GB = 1e9
# libtpu looks for a machine of its own otherwise, waits for it, and lets nobody else.
NO_MACHINE = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Chip:
  """Of one chip, from Google's documentation of Cloud TPU."""

  name: str
  hbm: float  # Bytes.
  flops: float  # A second, in bfloat16.
  bandwidth: float  # Of HBM, in bytes a second.
  link: float  # Of one link to a neighbour, in bytes a second, each way.
  dims: int  # Of its torus.
  wraps_at: int  # A ring is closed from so many chips on.


CHIPS = {
  chip.name: chip
  for chip in (
    Chip("v4", 32 * GB, 275e12, 1228 * GB, 45 * GB, 3, 4),
    Chip("v5e", 16 * GB, 197e12, 819 * GB, 45 * GB, 2, 16),
    Chip("v5p", 95 * GB, 459e12, 2765 * GB, 90 * GB, 3, 4),
    Chip("v6e", 32 * GB, 918e12, 1640 * GB, 90 * GB, 2, 16),
  )
}
# Slices of so many chips, of a torus of two and of three dimensions.
SLICES = {
  2: ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16", "16x32"),
  3: ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8"),
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """A slice of chips."""

  name: str
  chip: Chip  # What one device has of it.
  sides: tuple[int, ...]
  devices: Sequence[jax.Device]

  @property
  def num_chips(self) -> int:
    return math.prod(self.sides)

  def ring_seconds(self, num_bytes: float, ranks: int) -> float:
    """Of passing an array of so many bytes once round `ranks` of the chips.

    As rings along all sides of the slice at once, in both directions where a ring
    is closed, and over one device's links where the ranks are fewer than its chips.
    """
    if ranks == 1:
      return 0.0
    sides = [side for side in self.sides if side > 1]
    rate = sum((2 if side >= self.chip.wraps_at else 1) for side in sides)
    if ranks < self.num_chips:
      rate = min(rate, 2)
    return num_bytes * (ranks - 1) / ranks / (rate * self.chip.link)


def known() -> list[str]:
  """Names of topologies, of all chips."""
  return [f"{c.name}:{s}" for c in CHIPS.values() for s in SLICES[c.dims]]


def of_size(family: str, num_chips: int) -> str:
  """The name of a family's slice of so many chips; ValueError if there is none."""
  slices = SLICES[CHIPS[family].dims]
  found = [s for s in slices if math.prod(map(int, s.split("x"))) == num_chips]
  if not found:
    raise ValueError(f"No slice of {family} here has {num_chips} chips: {slices}.")
  return f"{family}:{found[-1]}"


def get(name: str) -> Topology:
  """The topology of a name such as v5e:16x16.

  Raises ValueError, listing those that exist, where there is none, and without libtpu.
  """
  family, _, shape = name.partition(":")
  if family not in CHIPS or not all(n.isdecimal() for n in shape.split("x")):
    raise ValueError(f"Unknown topology {name!r}; known: {', '.join(known())}.")
  if importlib.util.find_spec("libtpu") is None:
    raise ValueError('plan compiles with libtpu: pip install -e ".[plan]"')
  for variable, value in NO_MACHINE.items():
    os.environ.setdefault(variable, value)
  try:
    found = topologies.get_topology_desc(platform="tpu", topology_name=name)
  except jax.errors.JaxRuntimeError as error:
    if not re.search("Invalid TPU|not divisible|chips_per_host", str(error)):
      raise
    raise ValueError(
      f"Unknown topology {name!r}; known: {', '.join(known())}."
    ) from error
  sides = tuple(map(int, shape.split("x")))
  # The compiler has two devices for each chip of v4, and one for those after it.
  share = math.prod(sides) / len(found.devices)
  chip = CHIPS[family]
  parts = {key: getattr(chip, key) * share for key in ("hbm", "flops", "bandwidth")}
  return Topology(name, dataclasses.replace(chip, **parts), sides, found.devices)
