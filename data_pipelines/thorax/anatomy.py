"""The chest of one patient in one exposure: the CT's layers, warped and named.

Coordinates are (row, col) of the layers, `PIXEL_MM` apart, rows from head to foot;
on frontal views columns run to the patient's left, on the lateral one to the front.
What does not depend on the patient is made once per view and size.
"""

import dataclasses
import functools
import pathlib

import numpy as np
from scipy import ndimage as ndi

from data_pipelines.thorax.interpolation import bilinear, enlarge, read_at

PIXEL_MM = 1.40625
FIELD_MM = 322.0  # The detector's side, as far as it is shown.
MU_WATER = 0.0195  # Attenuation per mm; blood, pus, fluid and muscle are all near it.
VIEWS = {"PA": "pa", "AP": "ap", "LATERAL": "lateral"}
LOBES = ("right_upper", "right_middle", "right_lower", "left_upper", "left_lower")
SIDES = {"right": slice(0, 3), "left": slice(3, 5)}
CHEST = slice(0, 5)
ABOVE = 24  # Rows added at the top, for tall patients.
NODES = 6  # A free-form warp is a cubic spline over as many nodes a side.
_CHANNELS = ("soft", "organs", "bone", "heart", "vessels", "wall_right", "wall_left")


@functools.cache
def _arrays() -> dict[str, np.ndarray]:
  """layers.npz in its own units, every layer `ABOVE` rows taller."""
  with np.load(pathlib.Path(__file__).with_name("layers.npz")) as file:
    stored = dict(file)
  arrays = {}
  for key, array in stored.items():
    if "/path/" in key:
      arrays[key] = array + np.float32([ABOVE, 0])
    elif not key.endswith("/scale"):
      arrays[key] = _extend(key, array * stored[f"{key}/scale"])
  return arrays


def _extend(key: str, layer: np.ndarray) -> np.ndarray:
  """The CT ends at the collar bones; above, the last row blurs, and lung ends."""
  k = np.arange(ABOVE, 0, -1)
  rows = np.stack([ndi.gaussian_filter1d(layer[0], 0.7 * float(i)) for i in k])
  if key.split("/")[1] in LOBES:
    rows *= np.exp(-((k / 4.0) ** 2))[:, None]
  return np.concatenate([rows, layer]).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Lung:
  """Where one lung lies in a view, in layer coordinates.

  `medial` is the column of its visible inner border in every row; `near` and `far`
  are its inner and outer column (on the lateral view its front and its back).
  """

  apex: float
  floor: float
  near: float
  far: float
  medial: np.ndarray


@dataclasses.dataclass(frozen=True)
class View:
  """The layers of one view, smoothed for one output size, and their geometry."""

  name: str
  size: int
  shape: tuple[int, int]
  layers: np.ndarray  # (rows * cols) by channel: _CHANNELS, lobe mu, lobe len.
  air: np.ndarray  # Mm of lung, both sides.
  lungs: dict[str, Lung]
  clear: np.ndarray  # Lobe by row by col: mm of lung, 0 where an organ hides it.
  paths: dict[str, np.ndarray]
  centre: tuple[float, float]

  @property
  def frontal(self) -> bool:
    return self.name != "LATERAL"

  def point(self, name: str, i: int = 0) -> tuple[float, float]:
    """(row, col) of the i-th point of that path; Python floats keep float32."""
    row, col = self.paths[name][i]
    return float(row), float(col)


def _lung(length: np.ndarray, heart: np.ndarray, side: str, frontal: bool) -> Lung:
  on = length > 4
  rows, cols = np.flatnonzero(on.any(1)), np.flatnonzero(on.any(0))
  left_to_right = side == "left" or not frontal
  near, far = (cols[0], cols[-1]) if left_to_right else (cols[-1], cols[0])
  if not frontal:
    near, far = far, near
  seen = (length > 30) & (heart < 5)
  edge = [np.flatnonzero(row) for row in seen]
  inner = 0 if left_to_right else -1
  medial = np.array([e[inner] if e.size else near for e in edge], np.float32)
  medial = ndi.gaussian_filter1d(ndi.median_filter(medial, 9), 3)
  return Lung(float(rows[0]), float(rows[-1]), float(near), float(far), medial)


def _wall(length: np.ndarray, side: str, frontal: bool) -> np.ndarray:
  """Millimetres to the chest wall; diaphragm and mediastinum are not part of it."""
  on = length > 4
  row, col = np.indices(on.shape)
  lowest = np.where(on.any(0), on.shape[0] - 1 - np.argmax(on[::-1], 0), on.shape[0])
  outside = ~on & (row <= lowest)
  if frontal:
    apex = np.flatnonzero(on.any(1))[0]
    peak = np.flatnonzero(on[apex + 4]).mean()
    outside &= (col > peak) if side == "left" else (col < peak)
  return ndi.distance_transform_edt(~outside) * PIXEL_MM


@functools.cache
def view_of(name: str, size: int) -> View:
  """The view of that name for square images of `size` pixels."""
  if name not in VIEWS:
    raise ValueError(f"view {name!r} is not one of {', '.join(VIEWS)}")
  prefix, arrays = VIEWS[name], _arrays()
  mu = [arrays[f"{prefix}/{lobe}/mu"] for lobe in LOBES]
  length = [arrays[f"{prefix}/{lobe}/len"] for lobe in LOBES]
  heart = arrays[f"{prefix}/heart/len"]
  soft, bone = arrays[f"{prefix}/soft/mu"], arrays[f"{prefix}/bone/mu"]
  organs = sum(arrays[f"{prefix}/{organ}/mu"] for organ in ("heart", "aorta"))
  organs = organs + arrays[f"{prefix}/trachea/mu"]
  total = {side: sum(length[part]) for side, part in SIDES.items()}
  frontal = name != "LATERAL"
  air = sum(mu)
  vessels = air - ndi.gaussian_filter(air, 4)
  walls = [_wall(total[side], side, frontal) for side in SIDES]
  channels = [soft, organs, bone, heart, vessels, *walls, *mu, *length]
  blur = 0.42 * FIELD_MM / size / PIXEL_MM  # In place of averaging over a pixel.
  if blur > 0.45:
    channels = [ndi.gaussian_filter(channel, blur) for channel in channels]
  seen = (heart < 4) & (soft < np.median(soft[sum(length) > 60]) + 0.35)
  paths = {
    key.rsplit("/", 1)[1]: array
    for key, array in arrays.items()
    if key.startswith(f"{prefix}/path/")
  }
  return View(
    name=name,
    size=size,
    shape=soft.shape,
    layers=np.stack(channels, -1).reshape(soft.size, -1).astype(np.float32),
    air=np.sum(channels[-5:], 0),
    lungs={side: _lung(total[side], heart, side, frontal) for side in SIDES},
    clear=np.stack(length) * seen,
    paths=paths,
    centre=_centre(sum(length)),
  )


def _centre(length: np.ndarray) -> tuple[float, float]:
  """The middle of both lungs, where the film is centred."""
  rows, cols = (np.flatnonzero((length > 8).any(axis)) for axis in (1, 0))
  return float(rows[0] + rows[-1]) / 2 + 3, float(cols[0] + cols[-1]) / 2


class Chest:
  """One patient in one exposure, sampled on the output grid; findings change it.

  `lung` holds each lobe's attenuation and `length` the mm of path through it, lobe
  by row by column; `row` and `col` say which layer point a pixel shows.
  """

  def __init__(self, view: View, row: np.ndarray, col: np.ndarray, scale: float):
    self.view, self.row, self.col = view, row, col
    self.scale = scale  # Layer pixels per output pixel.
    self.mm = scale * PIXEL_MM
    self._sampler = bilinear(row, col, view.shape)
    layers = (self._sampler @ view.layers).T.reshape(-1, *row.shape)
    layers = np.ascontiguousarray(layers)
    self.soft, self.organs, self.bone, self.heart, self.vessels = layers[:5]
    self.wall = {"right": layers[5], "left": layers[6]}
    self.lung, self.length = layers[7:12], layers[12:]
    self.extra = np.zeros_like(self.soft)

  def sample(self, image: np.ndarray) -> np.ndarray:
    """An image on the layers' grid, as this exposure shows it."""
    return (self._sampler @ image.reshape(-1)).reshape(self.row.shape)

  def fill(self, lobes: slice | int, weight: np.ndarray) -> None:
    """Replaces that share (0..1) of the air-filled lung by fluid or tissue."""
    lobes = slice(lobes, lobes + 1) if isinstance(lobes, int) else lobes
    self.lung[lobes] += weight * (MU_WATER * self.length[lobes] - self.lung[lobes])

  def move_bone(self, row: np.ndarray, col: np.ndarray) -> None:
    """Shows at every pixel the bone of that layer point."""
    bone = self.view.layers[:, _CHANNELS.index("bone")].reshape(self.view.shape)
    moved = (abs(row - self.row) > 0.02) | (abs(col - self.col) > 0.02)
    self.bone[moved] = read_at(bone, row[moved], col[moved])

  def texture(self, rng: np.random.Generator, cell_mm: float) -> np.ndarray:
    """Smooth noise of unit variance that moves with the anatomy."""
    nodes = [int(n * PIXEL_MM / cell_mm) + 4 for n in self.view.shape]
    noise = rng.standard_normal(nodes, dtype=np.float32) * 2.1
    return self.sample(enlarge(noise, self.view.shape))

  def distance(self, row: float, col: float) -> np.ndarray:
    """Millimetres from a layer point."""
    return np.hypot(self.row - row, self.col - col) * np.float32(PIXEL_MM)

  def height(self) -> np.ndarray:
    """Millimetres above the lungs' deepest points, the mean of right and left."""
    floors = [lung.floor for lung in self.view.lungs.values()]
    return (sum(floors) / 2 - self.row) * np.float32(PIXEL_MM)

  def outward(self, side: str) -> np.ndarray:
    """0 at the mediastinum to 1 at the ribs; on the lateral view front to back."""
    lung = self.view.lungs[side]
    return np.clip((self.col - lung.near) / (lung.far - lung.near), 0, 1)

  def place(self, points: np.ndarray) -> np.ndarray:
    """Layer points (n, 2) as output pixels: the inverse of (row, col)."""
    pixel = np.full(points.shape, self.row.shape[0] / 2)
    for _ in range(8):
      at = np.clip(np.rint(pixel).astype(int), 0, self.row.shape[0] - 1)
      here = np.stack([self.row[at[:, 0], at[:, 1]], self.col[at[:, 0], at[:, 1]]], 1)
      pixel = at + (points - here) / self.scale
    return pixel


def warp(view: View, patient: np.random.Generator, exposure: np.random.Generator):
  """(row, col, scale) of one patient's exposure; see `Chest`.

  The patient's own size, slant and free-form warp stay; position, small rotation
  and depth of breath are the exposure's.
  """
  size, centre = view.size, view.centre
  pitch = FIELD_MM / size / PIXEL_MM
  tall, wide = np.exp(patient.normal(0.0, 0.04, 2))
  shear, lean = patient.normal(0, 0.012), patient.normal(0, 0.015)
  nodes = patient.normal(0, 3.0, (2, NODES, NODES)).astype(np.float32)
  lean += exposure.normal(0, 0.012)
  shift = exposure.normal(0, 5.0, 2)
  zoom = np.exp(exposure.normal(0, 0.02))
  breath = np.exp(exposure.normal(-0.05 if view.name == "AP" else 0, 0.015))
  axis = ((np.arange(size) + 0.5 - size / 2) * pitch).astype(np.float32)
  y, x = axis[:, None] / (tall * zoom * breath), axis[None] / (wide * zoom)
  x = x + shear * y
  down, across = (enlarge(grid, (size, size)) for grid in nodes)
  row = centre[0] + shift[0] + y * np.cos(lean) + x * np.sin(lean) + down
  col = centre[1] + shift[1] - y * np.sin(lean) + x * np.cos(lean) + across
  return row.astype(np.float32), col.astype(np.float32), pitch
