"""What diseases of the lung do to the path integrals, in every view.

Each function changes a `Chest` and draws its random numbers before it looks at the
severity, so that the same seed gives the same place at another severity.  Sizes are
in mm; moderate severity begins at 1/3.
"""

import numpy as np

from data_pipelines.thorax.anatomy import (
  CHEST,
  LOBES,
  MU_WATER,
  PIXEL_MM,
  SIDES,
  Chest,
  View,
)
from data_pipelines.thorax.finding import Finding
from data_pipelines.thorax.interpolation import sigmoid


def lobe_of(finding: Finding, rng: np.random.Generator) -> int:
  """Index in LOBES; drawn where the finding names none."""
  lobes = [i for i, lobe in enumerate(LOBES) if lobe.startswith(finding.side)]
  drawn = lobes[rng.integers(len(lobes))]
  name = f"{finding.side}_{finding.location}"
  return LOBES.index(name) if name in LOBES else drawn


def _depth(chest: Chest, lobe: int) -> float:
  """What makes a thin lobe's disease as plain as that of a thick one."""
  clear = chest.view.clear[lobe]
  return float(np.clip(75 / clear[clear > 10].mean(), 1, 1.9))


def spot(chest: Chest, lobe: int, rng: np.random.Generator) -> tuple[float, float]:
  """A point (row, col) in the lobe that no organ hides, at one height in all views."""
  u, v = rng.uniform(0.3, 0.75), rng.uniform(0.3, 0.7)
  clear = chest.view.clear[lobe]
  if clear.max() == 0:
    clear = clear + 1
  row = np.searchsorted(np.cumsum(clear.sum(1)), u * clear.sum())
  line = clear[max(row - 3, 0) : row + 4].sum(0)
  return float(row), float(np.searchsorted(np.cumsum(line), v * line.sum()))


def contract(view: View, row: np.ndarray, col: np.ndarray, lobe: int, severity: float):
  """(row, col) after the loss of volume that an atelectasis of that lobe brings.

  A lower lobe pulls the diaphragm up, another one its surroundings together.
  """
  side, level = LOBES[lobe].split("_")
  lung = view.lungs[side]
  share = {"upper": 0.25, "middle": 0.75, "lower": 1.0}[level]
  centre = lung.apex + share * (lung.floor - lung.apex)
  across = (lung.near + lung.far) / 2
  near = np.exp(-(((row - centre) / 50) ** 2 + ((col - across) / 40) ** 2) / 2)
  pull = (0.06 + 0.18 * severity) * near
  if level == "lower":
    return row + 70 * pull, col
  return row + pull * (row - centre), col + 0.5 * pull * (col - across)


def edema(chest: Chest, finding: Finding, rng: np.random.Generator) -> None:
  """Haze round the hila, heavy vessels and a fine net towards the bases."""
  coarse, fine = chest.texture(rng, 22), chest.texture(rng, 7)
  s = 0.3 + 0.7 * finding.severity
  near = np.zeros_like(chest.row)
  for side in SIDES:
    row, col = chest.view.point(f"hilum_{side}")
    out = (22 if side == "left" else -22) if chest.view.frontal else 0
    y, x = (chest.row - row - 6) / 46, (chest.col - col - out) / 36
    near = np.maximum(near, np.exp(-(y**2) - x**2))
  low = sigmoid((chest.row - row - 4) / 22)
  haze = s * (0.42 * near + 0.09 + 0.10 * low) * (1 + 0.25 * coarse)
  net = s * 0.07 * (0.35 + 0.65 * low) * fine
  chest.fill(CHEST, np.clip(haze + net, 0, 0.8))
  chest.extra += 1.3 * s * chest.vessels


def consolidation(chest: Chest, finding: Finding, rng: np.random.Generator) -> None:
  """Dense patches that run together, cut off sharply where the lobe ends."""
  lobe = lobe_of(finding, rng)
  row, col = spot(chest, lobe, rng)
  patch = 0.8 * chest.texture(rng, 22) + 0.5 * chest.texture(rng, 11)
  reach = 26 + 44 * finding.severity
  inside = (reach - chest.distance(row, col)) / 14 + patch
  dense = min(0.95, (0.65 + 0.3 * finding.severity) * _depth(chest, lobe))
  chest.fill(lobe, dense * sigmoid(1.3 * inside))


def opacity(chest: Chest, finding: Finding, rng: np.random.Generator) -> None:
  """An even veil over most of a lobe, vessels showing through."""
  lobe = lobe_of(finding, rng)
  row, col = spot(chest, lobe, rng)
  cloud = chest.texture(rng, 45)
  reach = np.exp(-((chest.distance(row, col) / 60) ** 2))
  weight = (0.4 + 0.45 * finding.severity) * reach * (1 + 0.25 * np.tanh(cloud))
  chest.fill(lobe, np.minimum(weight * _depth(chest, lobe), 0.9))


def atelectasis(chest: Chest, finding: Finding, rng: np.random.Generator) -> None:
  """Plates, nearly level; `contract` has already taken the lost volume."""
  lobe = lobe_of(finding, rng)
  row, col = spot(chest, lobe, rng)
  slopes, gaps = rng.normal(0.1, 0.25, 3).tolist(), rng.uniform(15, 24, 3).tolist()
  offsets = rng.uniform(-14, 14, 3).tolist()
  y, x = (chest.row - row) * PIXEL_MM, (chest.col - col) * PIXEL_MM
  half = 30 + 24 * finding.severity
  thick = max(5 + 6 * finding.severity, 0.8 * chest.mm)
  weight = np.zeros_like(chest.row)
  for i, (slope, gap, offset) in enumerate(zip(slopes, gaps, offsets, strict=True)):
    strength = min(max(3 * finding.severity - i + 0.9, 0), 1)
    level = (0, gap, -gap)[i]
    across = (y - level) - slope * x - 0.003 * x**2
    ends = sigmoid((half * (1 - 0.25 * i) - np.abs(x - offset)) / 6)
    weight = np.maximum(weight, strength * ends * np.exp(-((across / thick) ** 2)))
  chest.fill(lobe, min(0.8 * _depth(chest, lobe), 0.95) * weight)


def nodule(chest: Chest, finding: Finding, rng: np.random.Generator) -> None:
  """A ball of tissue, 12 to 40 mm across, with a slightly lobed edge."""
  lobe = lobe_of(finding, rng)
  row, col = spot(chest, lobe, rng)
  phase = rng.uniform(0, 2 * np.pi, 2).tolist()
  radius = 6 + 14 * finding.severity
  y, x = chest.row - row, chest.col - col
  angle = np.arctan2(y, x)
  lobed = 1 + 0.05 * np.cos(3 * angle + phase[0]) + 0.02 * np.cos(5 * angle + phase[1])
  d = np.hypot(y, x) * PIXEL_MM / lobed
  chord = 2 * np.sqrt(np.clip(radius**2 - d**2, 0, None)) + 4 * (d < radius)
  edge = np.clip((radius - d) / chest.mm + 0.5, 0, 1)
  chest.extra += 2.6 * MU_WATER * chord * edge
