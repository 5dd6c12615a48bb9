"""What makes one healthy patient differ from the next, apart from the shape."""

import dataclasses

import numpy as np

from data_pipelines.thorax.anatomy import CHEST, MU_WATER, Chest
from data_pipelines.thorax.interpolation import plateau, read_at

HEART_WIDTH = 87  # In the layers' pixels, of the heart in the CT.


@dataclasses.dataclass(frozen=True)
class Build:
  """A patient's tissues, relative to those of the patient in the CT."""

  fat: float
  bone: float
  heart: float
  vessels: float
  breasts: float  # Mm of tissue; 0 for men.

  @classmethod
  def draw(cls, rng: np.random.Generator) -> "Build":
    z = np.clip(rng.standard_normal(4), -2.5, 2.5)
    breasts = rng.uniform(6, 22) * (rng.random() < 0.5)
    return cls(
      fat=1 + 0.08 * z[0],
      bone=1 + 0.11 * z[1],
      heart=1 + 0.02 * abs(z[2]),
      vessels=1 + 0.15 * z[3],
      breasts=breasts,
    )


def healthy(chest: Chest, build: Build) -> None:
  """Gives the chest that patient's heart, vessels and breasts."""
  widen_heart(chest, build.heart * (1.05 if chest.view.name == "AP" else 1.0))
  chest.extra += (build.vessels - 1) * chest.vessels
  if chest.view.frontal and build.breasts:
    low = chest.view.point("heart")[0] + 23
    for side in (-60, 60):
      y, x = (chest.row - low) / 34, (chest.col - chest.view.centre[1] - side) / 40
      chest.extra += build.breasts * MU_WATER * np.clip(1 - y**2 - x**2, 0, 1)


def widen_heart(chest: Chest, growth: float) -> None:
  """Lets the heart take the place of the lung beside it, most to the patient's left.

  The air along each ray is read again nearer the heart; where that is less, the
  heart has come.
  """
  row, col = chest.view.point("heart")
  y, x = chest.row - row, chest.col - col
  if chest.view.frontal:
    # From the edges of the spine, which nothing beside it may be read from, outwards.
    left, right = np.clip((x + 8) / 55, 0, 1), np.clip((-12 - x) / 28, 0, 1)
    shift = HEART_WIDTH * (growth - 1) * (0.75 * left - 0.2 * right)
  else:
    shift = x * (1 - 1 / growth)
  near = plateau(y / 52) * plateau(x / 80)
  moved = read_at(
    chest.view.air, row + y * (1 - 0.3 * (1 - 1 / growth)), col + x - shift
  )
  air = chest.length.sum(0)
  chest.fill(CHEST, near * np.clip((air - moved) / (air + 5), 0, 0.9))
