"""Every finding by name; here those of heart, mediastinum, pleura and ribs.

As in `parenchyma`, a function changes a `Chest` in any view and draws its random
numbers before it looks at the severity.
"""

from collections.abc import Callable

import numpy as np

from data_pipelines.thorax import parenchyma
from data_pipelines.thorax.anatomy import PIXEL_MM, SIDES, Chest
from data_pipelines.thorax.finding import Finding
from data_pipelines.thorax.habitus import widen_heart
from data_pipelines.thorax.interpolation import plateau, sigmoid


def cardiomegaly(chest: Chest, finding: Finding, rng: np.random.Generator) -> None:
  widen_heart(chest, 1.22 + 0.46 * finding.severity)


def mediastinum(chest: Chest, finding: Finding, rng: np.random.Generator) -> None:
  """Soft tissue on both sides of the upper mediastinum, most at the aortic arch."""
  bias = rng.uniform(0.75, 1.25)
  wide = 10 + 26 * finding.severity
  arch = chest.view.point("aorta")[0]
  for side, gain in (("right", bias), ("left", 2 - bias)):
    lung = chest.view.lungs[side]
    if chest.view.frontal:
      tall = np.exp(-(((chest.row - arch) / 38) ** 2))
      border = np.interp(chest.row, np.arange(lung.medial.size), lung.medial)
      inward = (chest.col - border) * (1 if side == "left" else -1) * PIXEL_MM
      weight = sigmoid((tall - 0.35) / 0.1) * sigmoid((wide * gain * tall - inward) / 2)
    else:
      row, col = chest.view.point("trachea", 20)
      y, x = (chest.row - row - 20) / 1.6, chest.col - col - 12
      away = np.hypot(y, x) * PIXEL_MM
      weight = 0.7 * sigmoid((12 + 1.2 * wide - away) / 6)
    chest.fill(SIDES[side], 0.62 * weight)


def pleural_thickening(chest: Chest, finding: Finding, rng) -> None:
  """A band along the ribs, lumpy inside; a cap where the location is upper."""
  centre, lumps = rng.uniform(0.4, 0.6), chest.texture(rng, 16)
  lung = chest.view.lungs[finding.side]
  if finding.location == "upper":
    centre = 0.08
  row = lung.apex + centre * (lung.floor - lung.apex)
  tall = plateau((chest.row - row) * PIXEL_MM / (60 + 45 * finding.severity))
  thick = (11 + 18 * finding.severity) * tall * (1 + 0.22 * lumps)
  if not chest.view.frontal:
    thick = thick * (0.2 + 0.8 * chest.outward(finding.side))
  weight = tall * sigmoid((thick - chest.wall[finding.side]) / 1.5)
  chest.fill(SIDES[finding.side], 0.85 * weight)


def fracture(chest: Chest, finding: Finding, rng: np.random.Generator) -> None:
  """One to four neighbouring ribs, each with a step, a gap and callus."""
  first, places = rng.integers(4, 7), rng.integers(1, 5, 4)
  up = 1 if rng.random() < 0.5 else -1
  row, col = chest.row, chest.col
  for i, place in enumerate(places):
    strength = min(max(4 * finding.severity - i + 1, 0), 1)
    rib = chest.view.paths[f"rib_{finding.side}_{first + i}"]
    along = rib[place + 1] - rib[place - 1]
    along = along / np.hypot(*along)
    y, x = chest.row - rib[place, 0], chest.col - rib[place, 1]
    u = (y * along[0] + x * along[1]) * PIXEL_MM  # Along the rib,
    v = (x * along[0] - y * along[1]) * PIXEL_MM  # and across it.
    step = up * strength * (9 + 7 * finding.severity) / PIXEL_MM
    moved = step * sigmoid(u / 0.8) * plateau(v / 12) * np.exp(-((u / 26) ** 2))
    row, col = row - moved * along[1], col + moved * along[0]
    wide = max(1.6, 0.7 * chest.mm)
    gap = plateau(v / 7) * np.exp(-((u / wide) ** 2))
    callus = np.exp(-((u / (8 + 3 * finding.severity)) ** 2) - (v / 9) ** 2)
    chest.extra += strength * ((0.8 + 0.6 * finding.severity) * callus - 0.5 * gap)
  chest.move_bone(row, col)


def effusion(chest: Chest, finding: Finding, rng: np.random.Generator) -> None:
  """Fluid up to a level that climbs the chest wall."""
  tilt = rng.uniform(0.8, 1.2)
  deep = 44 + 116 * finding.severity
  out = chest.outward(finding.side)
  climb = (8 + 36 * finding.severity) * tilt
  if chest.view.frontal:
    level = deep + climb * (out**3 - 0.25)
  else:
    level = deep - 10 + climb * (np.abs(2 * out - 1) ** 3 * (0.5 + out) - 0.25)
  soft = (3 + 4 * finding.severity) * (1.6 if chest.view.name == "AP" else 1)
  weight = sigmoid((level - chest.height()) / soft)
  chest.fill(SIDES[finding.side], weight)


def pneumothorax(chest: Chest, finding: Finding, rng: np.random.Generator) -> None:
  """Air without markings along ribs and apex, the lung's edge a white line."""
  tilt = rng.uniform(0.3, 0.5)
  lung = chest.view.lungs[finding.side]
  up = np.clip((lung.floor - chest.row) / (lung.floor - lung.apex), 0, 1)
  rim = (18 + 42 * finding.severity) * (tilt + (1 - tilt) * up)
  if not chest.view.frontal:
    rim = rim * (1 - 0.55 * chest.outward(finding.side))
  part = SIDES[finding.side]
  here = np.clip(chest.length[part].sum(0) / 20, 0, 1)
  depth = chest.wall[finding.side] - rim
  air = sigmoid(-depth / max(0.6, 0.35 * chest.mm)) * here
  line = np.exp(-((depth / max(1.1, 0.6 * chest.mm)) ** 2)) * here
  # The collapsed lung holds the same tissue in less room.
  denser = 1 + (0.1 + finding.severity) * np.exp(-np.clip(depth, 0, None) / 60)
  chest.lung[part] *= (1 - air) * denser + 0.05 * air
  chest.extra += (0.26 if chest.view.frontal else 0.34) * line


# In the order of drawing: fluid covers what lies in the lung, air goes last.
DRAW: dict[str, Callable] = {
  "cardiomegaly": cardiomegaly,
  "mediastinum": mediastinum,
  "edema": parenchyma.edema,
  "opacity": parenchyma.opacity,
  "consolidation": parenchyma.consolidation,
  "atelectasis": parenchyma.atelectasis,
  "pleural_thickening": pleural_thickening,
  "nodule": parenchyma.nodule,
  "fracture": fracture,
  "effusion": effusion,
  "pneumothorax": pneumothorax,
}
