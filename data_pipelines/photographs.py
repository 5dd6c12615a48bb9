"""Squares cut from photographs, in place of films: what natural images teach.

The photographs are those that scikit-image ships (extra `natural`), read where they
lie.
"""

import functools
import importlib.util
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines import images, records

NAMES = (
  *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png"),
  *("coffee.png", "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg"),
  *("moon.png", "motorcycle_left.png", "rocket.jpg"),
)
SIZE = 128  # Pixels, as the films of `thorax`.
COUNTS = {"train": 12_000, "validation": 500, "test": 500}
SMALLEST = 96  # Side of a square before it is resized.


class Crops(Sequence):
  """A split of squares of random side and place, each fixed by split and index.

  Each is a record whose patient is the photograph; nothing is written of it.
  """

  def __init__(self, split: str):
    self._split, self._photographs = split, _read_all()

  def __len__(self) -> int:
    return COUNTS[self._split]

  def __getitem__(self, index: int) -> dict[str, Any]:
    if not 0 <= index < len(self):
      raise IndexError(index)
    rng = np.random.default_rng((zlib.crc32(self._split.encode()), index))
    name = NAMES[rng.integers(len(NAMES))]
    photograph = self._photographs[name]
    side = rng.integers(SMALLEST, min(photograph.shape), endpoint=True)
    top, left = (rng.integers(size - side, endpoint=True) for size in photograph.shape)
    image = images.process(photograph[top : top + side, left : left + side], SIZE)
    empty = {name: "" for name, (dtype, _) in records.FIELDS.items() if dtype is str}
    study = f"{self._split}-{index}"
    return empty | {
      "id": f"{name}_{study}_0",
      "patient_id": name,
      "study_id": study,
      "view": "unk",
      "image": image,
      "prior": -1,
      "labels": np.full(len(records.LABELS), records.UNMENTIONED, np.int8),
    }


@functools.cache
def _read_all() -> dict[str, np.ndarray]:
  """The photographs in grey: uint8, (height, width)."""
  found = importlib.util.find_spec("skimage")
  if found is None:
    raise ValueError(
      'The data set "photographs" is of pictures that scikit-image ships: '
      'pip install -e ".[natural]".'
    )
  folder = Path(found.origin).parent / "data"
  try:
    return {name: images.read(folder / name) for name in NAMES}
  except OSError as error:
    raise ValueError(f"This scikit-image lacks a photograph: {error}.") from error
