"""How well images find their reports, and reports their images, by embeddings.

Both scores count every query for itself, so that any subset or resample is a sum, and
both break ties by chance, of which the expectation is counted: embeddings that are all
alike score what guessing does. A row of nan is like nothing.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np

from data_pipelines.records import ABSENT, LABELS, PRESENT, UNMENTIONED
from jaxrg.metrics import intervals

RANKS = (1, 5, 10)  # Of instances.
DEPTHS = (5, 10, 50, 100)  # Of categories.
# CheXpert's competition classes, the five of CheXpert-5x200 and MIMIC-5x200.
CLASSES = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
PROTOCOLS = {
  "instances": (
    "by cosine; reports of equal text are one candidate, and so are their images, as "
    "near as the nearest of them; ties broken by chance"
  ),
  "categories": (
    "by cosine; share of the first K of the other side, the query's own pair among "
    "them, that have the query's class; ties broken by chance"
  ),
}
IMAGE_TO_REPORT, REPORT_TO_IMAGE = "image_to_report", "report_to_image"
_BLOCK = 512  # Queries compared at once.
_DECIMALS = 6  # Of a similarity: what differs by less is rounding, and a tie.


def recall(
  queries: np.ndarray,
  candidates: np.ndarray,
  texts: Sequence[str],
  ranks: Sequence[int] = RANKS,
) -> np.ndarray:
  """Whether each query (n d) finds its own among the first k: 0..1, n len(ranks).

  Query i belongs to candidate i (n d). Candidates of equal text are one, as near as
  the nearest of them; only different ones count as ahead.
  """
  _, own = np.unique(np.asarray(texts), return_inverse=True)
  order = np.argsort(own, kind="stable")
  starts = np.searchsorted(own[order], np.arange(own.max() + 1))
  blocks = []
  for rows, similarity in similarities(queries, candidates):
    nearest = np.maximum.reduceat(similarity[:, order], starts, axis=1)
    mine = nearest[np.arange(len(nearest)), own[rows]][:, None]
    ahead = (nearest > mine).sum(1, keepdims=True)
    equal = (nearest == mine).sum(1, keepdims=True)  # At least itself.
    blocks.append(np.clip((np.asarray(ranks) - ahead) / equal, 0, 1))
  return np.concatenate(blocks)


def precision(
  queries: np.ndarray,
  candidates: np.ndarray,
  classes: Sequence[Hashable],
  depths: Sequence[int] = DEPTHS,
) -> np.ndarray:
  """Share of each query's first K candidates that are of its class: n len(depths).

  Query i and candidate i (n d) are of class i. Raises ValueError where there are fewer
  candidates than K.
  """
  if max(depths) > len(candidates):
    raise ValueError(
      f"The first {max(depths)} of {len(candidates)} candidates cannot be told."
    )
  _, of = np.unique(np.asarray(classes), return_inverse=True)
  blocks = []
  for rows, similarity in similarities(queries, candidates):
    relevant = of[rows][:, None] == of[None, :]
    ranked = -np.sort(-similarity, axis=1)
    shares = []
    for depth in depths:
      last = ranked[:, depth - 1 : depth]
      ahead, equal = similarity > last, similarity == last
      # Of the candidates that tie for the last places, the share that has room.
      room = (depth - ahead.sum(1)) / equal.sum(1)
      hits = (ahead & relevant).sum(1) + room * (equal & relevant).sum(1)
      shares.append(hits / depth)
    blocks.append(np.stack(shares, axis=1))
  return np.concatenate(blocks)


def score_instances(
  image: np.ndarray,
  report: np.ndarray,
  texts: Sequence[str],
  *,
  patients: Sequence[str] | None = None,
  ranks: Sequence[int] = RANKS,
  resamples: int = 1000,
  seed: int = 0,
) -> dict:
  """Recall of pairs of embeddings (n d) in both directions, as one nested dict.

  protocol (name, n, n_candidates, chance), then direction -> recall_at_k -> {value,
  low, high}. Intervals are over the `patients` of the queries.
  """
  _check(image, report, texts)
  distinct = len(set(texts))
  options = {"clusters": patients, "resamples": resamples, "seed": seed}
  protocol = {
    "name": PROTOCOLS["instances"],
    "n": len(texts),
    "n_candidates": distinct,
    "chance": {f"recall_at_{k}": min(k / distinct, 1.0) for k in ranks},
  }
  names = [f"recall_at_{k}" for k in ranks]
  return {"protocol": protocol} | {
    direction: _means(names, recall(*sides, texts, ranks), options)
    for direction, sides in directions(image, report)
  }


def score_categories(
  image: np.ndarray,
  report: np.ndarray,
  classes: Sequence[str],
  *,
  patients: Sequence[str] | None = None,
  depths: Sequence[int] = DEPTHS,
  resamples: int = 1000,
  seed: int = 0,
) -> dict:
  """Category precision of pairs of embeddings (n d) in both directions (MIMIC-5x200).

  protocol (name, n, classes: name -> n, chance), then direction -> precision_at_k ->
  {value, low, high}. Intervals are over the `patients` of the queries.
  """
  _check(image, report, classes)
  counts = {str(name): list(classes).count(name) for name in sorted(set(classes))}
  options = {"clusters": patients, "resamples": resamples, "seed": seed}
  protocol = {
    "name": PROTOCOLS["categories"],
    "n": len(classes),
    "classes": counts,
    "chance": sum(count**2 for count in counts.values()) / len(classes) ** 2,
  }
  names = [f"precision_at_{k}" for k in depths]
  return {"protocol": protocol} | {
    direction: _means(names, precision(*sides, classes, depths), options)
    for direction, sides in directions(image, report)
  }


def exclusive_class(labels: Sequence[int]) -> str:
  """The one of CLASSES that is all that labels (14) say is there; else "".

  As CheXpert-5x200 draws its studies: nothing else is positive or uncertain, not even
  a support device.
  """
  said = {
    name: state
    for name, state in zip(LABELS, labels)
    if state not in (ABSENT, UNMENTIONED)
  }
  name = next(iter(said), "")
  return name if said == {name: PRESENT} and name in CLASSES else ""


def directions(image: np.ndarray, report: np.ndarray):
  """Each direction's name, with its queries and candidates."""
  return (IMAGE_TO_REPORT, (image, report)), (REPORT_TO_IMAGE, (report, image))


def similarities(
  queries: np.ndarray, candidates: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
  """Which queries (n d), and their cosines with all candidates (m d), in blocks.

  Rounded, so that what ties can be told; of rows of nan -2.
  """
  queries, candidates = _unit(queries), _unit(candidates)
  for start in range(0, len(queries), _BLOCK):
    rows = slice(start, min(start + _BLOCK, len(queries)))
    similarity = np.round(queries[rows] @ candidates.T, _DECIMALS)
    yield rows, np.nan_to_num(similarity, nan=-2.0)


def _means(names: Sequence[str], values: np.ndarray, options: Mapping) -> dict:
  ones = np.ones(len(values))
  return {
    name: intervals.bootstrap(
      np.stack([column, ones], axis=1), intervals.mean, **options
    )._asdict()
    for name, column in zip(names, values.T)
  }


def _check(image: np.ndarray, report: np.ndarray, of: Sequence) -> None:
  if not len(image) == len(report) == len(of) > 0:
    raise ValueError(
      "Retrieval needs pairs, and what each is of: there are "
      f"{len(image)} images, {len(report)} reports, {len(of)} texts or classes."
    )


def _unit(x: np.ndarray) -> np.ndarray:
  x = np.asarray(x, np.float64)
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
