"""compose: the radiograph of one study, a pure function of its arguments.

The logarithm of a radiograph is linear in the path integrals, so anatomy, findings
and devices are summed there; noise and display follow.
"""

import functools
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from data_pipelines.thorax import (
  anatomy,
  devices,
  habitus,
  interpolation,
  parenchyma,
  pathology,
)
from data_pipelines.thorax.anatomy import Chest
from data_pipelines.thorax.finding import Finding

_VIEW_IDS = {name: i for i, name in enumerate(anatomy.VIEWS)}
NOISE = {"PA": 0.008, "AP": 0.018, "LATERAL": 0.010}  # At the mean exposure.
SMOOTH_NODES = 14

NAMES = (*pathology.DRAW, *devices.DRAW)
SIDELESS = ("cardiomegaly", "mediastinum", "edema", "ett", "ngt")
LOBAR = ("opacity", "consolidation", "atelectasis", "nodule", "pleural_thickening")


def check(finding: Finding) -> None:
  """Raises ValueError, in one line, for a finding that cannot be drawn."""
  name, side, location = finding.name, finding.side, finding.location
  if name not in NAMES:
    raise ValueError(f"finding {name!r} is not one of {', '.join(NAMES)}")
  sides = ("",) if name in SIDELESS else ("left", "right")
  if side not in sides:
    raise ValueError(f"{name}: side {side!r} is not one of {sides}")
  lobes = [lobe.split("_")[1] for lobe in anatomy.LOBES if lobe.startswith(side)]
  if location and (name not in LOBAR or location not in lobes):
    raise ValueError(f"{name} {side}: no location {location!r}")
  if not 0 <= finding.severity <= 1:
    raise ValueError(f"{name}: severity {finding.severity} is not in 0..1")


def _order(finding: Finding) -> tuple:
  """Order of drawing, whatever the order of the argument."""
  return NAMES.index(finding.name), finding.side, finding.location, finding.seed


def compose(
  patient: int,
  findings: Sequence[Finding],
  view: str,
  *,
  study: int,
  seed: int = 0,
  size: int = 128,
) -> np.ndarray:
  """The image, uint8 (size, size), of that patient with those findings.

  `patient` decides the body, `study` the exposure; the same arguments give the same
  bytes.  Raises ValueError for an unknown view, finding, side or location.
  """
  for finding in findings:
    check(finding)
  shown = anatomy.view_of(view, size)
  body = np.random.default_rng([seed, patient, 1])
  exposure = np.random.default_rng([seed, patient, study, _VIEW_IDS[view], 2])
  row, col, scale = anatomy.warp(shown, body, exposure)
  build = habitus.Build.draw(np.random.default_rng([seed, patient, 3]))
  findings = sorted(findings, key=_order)
  places = [[seed, patient, f.seed, NAMES.index(f.name), 4] for f in findings]
  for finding, place in zip(findings, places, strict=True):
    if finding.name == "atelectasis":
      lobe = parenchyma.lobe_of(finding, np.random.default_rng(place))
      row, col = parenchyma.contract(shown, row, col, lobe, finding.severity)
  chest = Chest(shown, row, col, scale)
  habitus.healthy(chest, build)
  window = _window(_log(chest, build))
  tubes = []
  for finding, place in zip(findings, places, strict=True):
    rng = np.random.default_rng(place)
    if finding.name in devices.DRAW:
      tubes.append(devices.DRAW[finding.name](chest, finding, rng))
    else:
      pathology.DRAW[finding.name](chest, finding, rng)
  image = sum(tubes, _log(chest, build))
  return _display(image, window, view, exposure)


def _log(chest: Chest, build: habitus.Build) -> np.ndarray:
  return (
    build.fat * chest.soft
    + build.bone * chest.bone
    + chest.organs
    + chest.lung.sum(0)
    + chest.extra
  )


@functools.cache
def _averages(size: int) -> sparse.csr_matrix:
  """Means over parts of a row of pixels, overlapping as splines do."""
  weights = interpolation.spline(size, SMOOTH_NODES).toarray()
  return sparse.csr_matrix((weights / weights.sum(0)).T)


def _smooth(image: np.ndarray) -> np.ndarray:
  """The image without what is finer than about a tenth of its side."""
  shrink = _averages(len(image))
  return interpolation.enlarge((shrink @ (shrink @ image).T).T, image.shape)


def _process(image: np.ndarray) -> np.ndarray:
  """Evens out the slow differences, as digital radiography does before display."""
  slow = _smooth(image)
  return 0.62 * slow + 1.15 * (image - slow)


def _window(image: np.ndarray) -> tuple[float, float]:
  """What is shown black and white, from the chest without its findings."""
  n = len(image)
  core = np.s_[n // 16 : -n // 10, n // 10 : -n // 10]
  body = _process(image)[core][image[core] > 0.8]
  low, high = np.quantile(body, [0.01, 0.99])
  return float(low), float(high)


def _display(
  image: np.ndarray,
  window: tuple[float, float],
  view: str,
  exposure: np.random.Generator,
) -> np.ndarray:
  gain, offset = np.exp(exposure.normal(0, 0.04)), exposure.normal(0, 0.02)
  noise = exposure.standard_normal(image.shape, dtype=np.float32)
  image = image + noise * NOISE[view] * np.exp((np.clip(image, 0, 8) - 3) / 4)
  low, high = window
  x = (_process(image) - low) / (high - low)
  x = 0.5 + (x - 0.5) * gain + offset
  x = 0.12 + 0.74 * x  # Room for air outside the body, and for metal.
  return np.rint(255 * np.clip(x, 0, 1)).astype(np.uint8)
