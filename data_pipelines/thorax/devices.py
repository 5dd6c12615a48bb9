"""Tubes, lines and generators, drawn on the output grid along the CT's own anatomy."""

from collections.abc import Callable

import numpy as np

from data_pipelines.thorax.anatomy import PIXEL_MM, Chest
from data_pipelines.thorax.finding import Finding

THINNEST_PX = 1.3  # Whatever the size of the image, no tube is narrower.


def _curve(points: np.ndarray, step: float) -> np.ndarray:
  """Points `step` apart on a smooth curve (Catmull-Rom) through those given."""
  before, after = 2 * points[:1] - points[1:2], 2 * points[-1:] - points[-2:-1]
  p = np.concatenate([before, points, after])
  pieces = []
  for a, b, c, d in zip(p[:-3], p[1:-2], p[2:-1], p[3:], strict=True):
    count = max(2, int(np.hypot(*(c - b)) / step))
    t = np.linspace(0, 1, count, endpoint=False)[:, None]
    bend = (2 * a - 5 * b + 4 * c - d) * t + (3 * b - a - 3 * c + d) * t**2
    pieces.append(b + 0.5 * t * (c - a + bend))
  return np.concatenate([*pieces, points[-1:]])


def _distance(curve: np.ndarray, size: int, reach: float) -> np.ndarray:
  """Pixels from every pixel to the curve, exact up to `reach`."""
  span = np.arange(-int(reach) - 1, int(reach) + 2)
  y, x = (g.ravel() for g in np.meshgrid(span, span, indexing="ij"))
  near = np.rint(curve).astype(int)
  rows, cols = near[:, :1] + y, near[:, 1:] + x
  away = np.hypot(rows - curve[:, :1], cols - curve[:, 1:])
  inside = (rows >= 0) & (rows < size) & (cols >= 0) & (cols < size)
  distance = np.full(size * size, np.inf)
  np.minimum.at(distance, (rows * size + cols)[inside], away[inside])
  return distance.reshape(size, size)


def _tube(chest: Chest, points, width_mm: float, density: float, hollow=False):
  """The tube's path integral; a hollow one has dense walls and a marked stripe."""
  width = max(width_mm / chest.mm, THINNEST_PX)
  curve = _curve(chest.place(np.asarray(points, np.float64)), 0.3)
  size = len(chest.row)
  distance = _distance(curve, size, width / 2 + 1)
  body = np.clip(width / 2 - distance + 0.5, 0, 1)
  if hollow and width > 3:
    wall = np.clip(1.3 - np.abs(distance - width / 2 + 0.7), 0, 1)
    body = 0.45 * body + 0.55 * np.maximum(wall, np.clip(1.2 - distance, 0, 1))
  return (density * body).astype(np.float32)


def _airway(chest: Chest) -> np.ndarray:
  """The windpipe from the top of the image to where it divides."""
  line = chest.view.paths["trachea"]
  jump = np.abs(np.diff(line[:, 1])) > 2.5
  jump[: len(jump) // 2] = False
  return line[: np.argmax(jump) if jump.any() else len(line)]


def _vein(chest: Chest, side: str) -> np.ndarray:
  """From the arm to the mouth of the right atrium, through that side's veins."""
  collar = chest.view.paths[f"clavicle_{side}"]
  inner = chest.view.paths[f"brachiocephalic_vein_{side}"]
  cava = chest.view.paths["superior_vena_cava"]
  cava = cava[cava[:, 0] > inner[-1, 0] + 2]
  start = collar[len(collar) // 2] + (14, 0)
  if not chest.view.frontal:
    start = inner[0] + (-6, -2)
  return np.concatenate([start[None], inner[2:-1:6], cava[3:-5:6]])


def ett(chest: Chest, finding: Finding, rng: np.random.Generator) -> np.ndarray:
  """Ends 2 to 6 cm above the carina."""
  tip = rng.uniform(20, 60) / PIXEL_MM
  airway = _airway(chest)
  airway = airway[airway[:, 0] < airway[-1, 0] - tip]
  top = airway[:1] - (40, 0)
  return _tube(chest, np.concatenate([top, airway[::5], airway[-1:]]), 8, 1.2, True)


def ngt(chest: Chest, finding: Finding, rng: np.random.Generator) -> np.ndarray:
  """Down the gullet into the stomach."""
  aside = rng.uniform(18, 34)
  gullet = chest.view.paths["esophagus"][::9]
  stomach = gullet[-1] + [(8, aside * 0.4), (22, aside), (34, aside + 6)]
  top = gullet[:1] - (40, 0)
  return _tube(chest, np.concatenate([top, gullet, stomach]), 4.5, 0.8)


def central_line(chest: Chest, finding: Finding, rng) -> np.ndarray:
  vein = _vein(chest, finding.side)
  return _tube(chest, vein[: len(vein) - rng.integers(0, 2)], 2.8, 1.0)


def pacemaker(chest: Chest, finding: Finding, rng: np.random.Generator) -> np.ndarray:
  """A generator below the collar bone and two leads."""
  low, out, turn = rng.uniform(14, 24), rng.uniform(-4, 6), rng.normal(0, 0.15)
  collar = chest.view.paths[f"clavicle_{finding.side}"]
  outside = 1 if finding.side == "left" else -1
  if chest.view.frontal:
    at = collar[int(0.6 * len(collar))] + (low + 26, outside * out)
  else:
    at = collar[0] + (low + 22, 4)
  vein = _vein(chest, finding.side)
  heart = chest.view.paths["heart"][0]
  route = np.concatenate([[at - (8, 0)], vein])
  if chest.view.frontal:
    ends = (heart + (28, 22), heart + (2, -30))
    mid = (heart + (20, -22), heart + (14, -34))
  else:
    ends, mid = (heart + (26, 22), heart + (-6, 14)), (heart + (14, -4), heart + (6, 2))
  leads = [
    _tube(chest, np.concatenate([route, [m], [e]]), 2.4, 1.0)
    for m, e in zip(mid, ends, strict=True)
  ]
  y, x = (chest.row - at[0]) * PIXEL_MM, (chest.col - at[1]) * PIXEL_MM
  y, x = y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)
  half = (21, 24) if chest.view.frontal else (21, 6)
  corner = 10
  away = np.hypot(
    np.clip(np.abs(y) - half[0] + corner, 0, None),
    np.clip(np.abs(x) - half[1] + corner, 0, None),
  )
  can = 2.2 * np.clip((corner - away) / chest.mm + 0.5, 0, 1)
  return np.maximum(can, np.maximum(*leads)).astype(np.float32)


def chest_tube(chest: Chest, finding: Finding, rng) -> np.ndarray:
  """Enters between the lower ribs and climbs the wall towards the apex."""
  lung = chest.view.lungs[finding.side]
  entry, tip = rng.uniform(0.62, 0.78), rng.uniform(0.14, 0.26)
  tall, wide = lung.floor - lung.apex, lung.far - lung.near
  levels = np.array([entry + 0.06, entry, (entry + tip) / 2, tip + 0.08, tip])
  if chest.view.frontal:
    out = np.array([1.22, 0.96, 0.84, 0.62, 0.50])
  else:
    out = np.array([0.35, 0.45, 0.70, 0.72, 0.60])
  points = np.stack([lung.apex + levels * tall, lung.near + out * wide], 1)
  return _tube(chest, points, 8, 0.9, True)


DRAW: dict[str, Callable] = {
  "ett": ett,
  "ngt": ngt,
  "central_line": central_line,
  "pacemaker": pacemaker,
  "chest_tube": chest_tube,
}
