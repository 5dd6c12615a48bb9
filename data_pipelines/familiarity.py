"""Whether a picture resembles the films that a model was trained on.

A report generator writes a chest report for anything, a tibia included. The guard is
deliberately coarse: a 16 x 16 thumbnail of grey-level *ranks*, which do not change
with exposure, window or display curve, correlated with the mean thumbnail of each
view. What a model carries along is therefore an average of many films, never one.
"""

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

GRID = 16
MIN_FILMS = 10  # A mean of fewer would show too much of each.
BLANK = 6  # Grey levels; a border that varies less is padding.
MARGIN = 0.05  # By which upright must fit better than turned or inverted.

FAMILIAR, DOUBTFUL, REFUSED = "familiar", "doubtful", "refused"


@dataclasses.dataclass(frozen=True)
class Statistics:
  """Aggregates of the training films, and the two thresholds drawn from them."""

  views: tuple[str, ...]
  means: np.ndarray  # view, pixel: of unit length, as `_thumbnail`.
  familiar: float  # What 99 % of the training films reach.
  refused: float  # Below it, a picture is no film of these views.

  def to_bytes(self) -> bytes:
    """The content of an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **dataclasses.asdict(self))
    return buffer.getvalue()

  @classmethod
  def from_bytes(cls, data: bytes) -> "Statistics":
    """What `to_bytes` gave."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
      return cls(
        views=tuple(str(view) for view in stored["views"]),
        means=stored["means"],
        familiar=float(stored["familiar"]),
        refused=float(stored["refused"]),
      )


@dataclasses.dataclass(frozen=True)
class Judgement:
  """One picture against the statistics; `reason` is empty where it is familiar."""

  verdict: str  # FAMILIAR, DOUBTFUL or REFUSED.
  score: float  # As `score`.
  view: str  # The view that it resembles most.
  reason: str


def measure(images: Sequence[np.ndarray], views: Sequence[str]) -> Statistics:
  """The statistics of training films, each uint8 (height, width[, 1]), and their views.

  A thousand films suffice. Views with fewer than MIN_FILMS are left out. Refused
  lies half-way between the films as they are (lowest 1 %) and the same films turned by
  a quarter (highest 1 %), which have their histogram but not their shape.
  """
  thumbnails = np.stack([_thumbnail(image) for image in images])
  views = np.asarray(views)
  kept = [view for view in np.unique(views) if (views == view).sum() >= MIN_FILMS]
  if not kept:
    raise ValueError(f"no view has the {MIN_FILMS} films that familiarity needs")
  means = np.stack([thumbnails[views == view].mean(0) for view in kept])
  means /= np.linalg.norm(means, axis=-1, keepdims=True)
  upright = _fit(thumbnails, means).max(-1)
  quarter = np.maximum(*(_fit(_turn(thumbnails, k), means).max(-1) for k in (1, 3)))
  familiar = float(np.quantile(upright, 0.01))
  refused = (familiar + float(np.quantile(quarter, 0.99))) / 2
  return Statistics(tuple(map(str, kept)), means.astype(np.float32), familiar, refused)


def score(image: np.ndarray, statistics: Statistics) -> float:
  """The rank correlation, in -1..1, with the mean film of the view that fits best."""
  return float(_fit(_thumbnail(image), statistics.means).max())


def judge(image: np.ndarray, statistics: Statistics) -> Judgement:
  """Whether a report on this picture, uint8 (height, width[, 1]), means anything."""
  thumbnail = _thumbnail(image)
  fits = _fit(thumbnail, statistics.means)
  best = float(fits.max())
  view = statistics.views[int(fits.argmax())]
  altered = {f"turned by {90 * k} degrees": _turn(thumbnail, k) for k in (1, 2, 3)} | {
    "inverted": -thumbnail
  }
  rivals = {how: float(_fit(x, statistics.means).max()) for how, x in altered.items()}
  how = max(rivals, key=rivals.get)
  if best < statistics.refused:
    verdict, reason = REFUSED, "it does not look like a film of the trained views"
    if rivals[how] >= statistics.familiar:
      reason += f"; {how} it would"
  elif best - rivals[how] < MARGIN:
    verdict, reason = DOUBTFUL, f"{how} it would fit the trained views no worse"
  elif best < statistics.familiar:
    verdict, reason = DOUBTFUL, "it differs from nearly all training films"
  else:
    verdict, reason = FAMILIAR, ""
  return Judgement(verdict, best, view, reason)


def _fit(thumbnails: np.ndarray, means: np.ndarray) -> np.ndarray:
  """Correlations (..., view); a film that faces the other way is no stranger."""
  mirrored = means.reshape(-1, GRID, GRID)[..., ::-1].reshape(means.shape)
  return np.maximum(thumbnails @ means.T, thumbnails @ mirrored.T)


def _turn(thumbnails: np.ndarray, quarters: int) -> np.ndarray:
  """Counter-clockwise."""
  square = thumbnails.reshape(*thumbnails.shape[:-1], GRID, GRID)
  return np.rot90(square, quarters, axes=(-2, -1)).reshape(thumbnails.shape)


def _thumbnail(image: np.ndarray) -> np.ndarray:
  """The picture within its padding as GRID x GRID ranks: flat, mean 0, length 1.

  All zero where there is nothing to see.
  """
  image = image.reshape(image.shape[:2])
  image = image[_inside(np.ptp(image, axis=1))]
  if image.size:
    image = image[:, _inside(np.ptp(image, axis=0))]
  if not image.size:
    return np.zeros(GRID * GRID)
  small = Image.fromarray(np.ascontiguousarray(image)).resize(
    (GRID, GRID), Image.Resampling.BOX
  )
  _, level, counts = np.unique(
    np.asarray(small), return_inverse=True, return_counts=True
  )
  ranks = (counts.cumsum() - (counts - 1) / 2)[level.reshape(-1)]
  ranks -= ranks.mean()
  return ranks / max(np.linalg.norm(ranks), 1e-9)


def _inside(spread: np.ndarray) -> slice:
  """From the first to the last line that is not padding."""
  lines = np.flatnonzero(spread > BLANK)
  return slice(lines[0], lines[-1] + 1) if lines.size else slice(0)
