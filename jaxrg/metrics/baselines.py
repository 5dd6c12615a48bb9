"""What needs no model: answers that a generator must beat to have read the image."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set

import numpy as np
from PIL import Image

from data_pipelines.findings import CHANGED
from jaxrg.metrics.clinical import Change

SIDE = 32  # Images are compared at SIDE x SIDE.
_BLOCK = 512  # Queries compared at once.


def most_common_report(reports: Iterable[str]) -> str:
  """The report that occurs most often; of equals, the first in the alphabet."""
  counts = Counter(report for report in reports if report.strip())
  if not counts:
    raise ValueError("The most common report needs at least one report.")
  return min(counts, key=lambda report: (-counts[report], report))


def thumbnails(images: Iterable[np.ndarray]) -> np.ndarray:
  """Images (height width [1], uint8) as n SIDE*SIDE floats of mean 0, deviation 1."""
  rows = []
  for image in images:
    picture = Image.fromarray(np.asarray(image, np.uint8).squeeze())
    small = picture.resize((SIDE, SIDE), Image.Resampling.BOX)
    row = np.asarray(small, np.float32).ravel()
    rows.append((row - row.mean()) / max(row.std(), 1e-6))
  return np.array(rows, np.float32).reshape(-1, SIDE * SIDE)


def nearest(queries: np.ndarray, library: np.ndarray) -> np.ndarray:
  """For each query (n d) the row of its nearest in the library (m d); exact search.

  Of equals, the first.
  """
  if len(library) == 0:
    raise ValueError("The nearest image needs at least one image to choose from.")
  half_squares = (library.astype(np.float64) ** 2).sum(1) / 2
  rows = [
    np.argmin(half_squares - queries[start : start + _BLOCK] @ library.T, axis=1)
    for start in range(0, len(queries), _BLOCK)
  ]
  return np.concatenate(rows) if rows else np.zeros(0, np.int64)


def with_reports(predictions: Sequence[Mapping], reports: Sequence[str]) -> list[dict]:
  """The same studies with other reports: a baseline's predictions."""
  if len(predictions) != len(reports):
    raise ValueError(f"{len(predictions)} studies but {len(reports)} reports.")
  return [{**row, "prediction": text} for row, text in zip(predictions, reports)]


def constant_changes(changes: Sequence[Set[Change]]) -> Set[Change]:
  """The one set of changes that, said of every study, has the highest F1 on these.

  That set holds the k most frequent changes for some k, so trying every k finds
  it. (The most frequent *set* is mostly the empty one, which scores nothing.)
  """
  counts = Counter(c for study in changes for c in study if c[2] in CHANGED)
  ranked = sorted(counts, key=lambda change: (-counts[change], change))
  total, hits, best, size = sum(counts.values()), 0, 0.0, 0
  for k, change in enumerate(ranked, 1):
    hits += counts[change]
    score = 2 * hits / (k * len(changes) + total)
    if score > best:
      best, size = score, k
  return frozenset(ranked[:size])
