"""Which studies are similar to which: found once, kept in a file with who found them.

The rules of spec eir 4.4: neighbours are of the training split and of another patient,
whichever split the query is of.
"""

import dataclasses
import functools
import io
import zipfile
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from etils import epath
from flax import traverse_util

from data_pipelines import files
from jaxrg import checkpoint

CORPUS = "train"
ENCODER = ("vision", "head")  # What of a model makes embeddings.
VECTORS = ("features", "head")  # What of an encoder films are compared by.
UNREADABLE = (
  ValueError,
  KeyError,
  TypeError,
  AttributeError,
  EOFError,
  zipfile.BadZipFile,
)
ANEW = "write it anew with python -m jaxrg.retrieve"


@dataclasses.dataclass(frozen=True)
class Found:
  """The neighbours of a split's studies, best first."""

  study_ids: np.ndarray  # n
  indices: np.ndarray  # n k, int32: rows of the corpus, -1 where there are no more.
  scores: np.ndarray  # n k, float32.


@dataclasses.dataclass(frozen=True)
class Neighbours:
  """The neighbours of all studies of a data set."""

  data_name: str
  encoder: str  # Its `checksum`.
  corpus: np.ndarray  # m: study ids, sorted.
  splits: Mapping[str, Found]

  @property
  def k(self) -> int:
    """How many neighbours a study has at most."""
    return next(iter(self.splits.values())).indices.shape[1]

  def of(self, study_id: str) -> list[tuple[str, float]]:
    """The studies like this one and how much, best first.

    Raises ValueError for a study that is in no split.
    """
    try:
      split, row = self._rows[study_id]
    except KeyError:
      raise ValueError(
        f"Study {study_id} has no neighbours: it is in none of the splits "
        f"{', '.join(self.splits)} of {self.data_name} that were searched; {ANEW}."
      ) from None
    found = self.splits[split]
    return [
      (str(self.corpus[index]), float(score))
      for index, score in zip(found.indices[row], found.scores[row])
      if index >= 0
    ]

  @functools.cached_property
  def _rows(self) -> dict[str, tuple[str, int]]:
    return {
      str(study_id): (split, row)
      for split, found in self.splits.items()
      for row, study_id in enumerate(found.study_ids)
    }

  def write(self, path: epath.PathLike) -> None:
    """Writes an npz, whole or not at all."""
    arrays = {"data_name": self.data_name, "encoder": self.encoder}
    arrays["corpus"] = self.corpus
    for split, found in sorted(self.splits.items()):
      arrays |= {f"{split}/{k}": v for k, v in dataclasses.asdict(found).items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    files.write(path, buffer.getvalue())


def read(
  path: epath.PathLike,
  *,
  encoder: str | None = None,
  data_name: str | None = None,
  splits: Collection[str] = (),
  least: int = 0,
) -> Neighbours:
  """What was written.

  Raises FileNotFoundError where there is none; ValueError where it is damaged, is not
  of the `encoder` (a checksum) or data set that are given, lacks one of the `splits`,
  or has room for fewer than `least` neighbours a study.
  """
  path = epath.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"{path}: there are no neighbours; {ANEW}.")
  try:
    found = _parse(path.read_bytes())
  except UNREADABLE as error:
    raise ValueError(f"{path} is damaged: {error}; {ANEW}.") from error
  if encoder not in (None, found.encoder):
    raise ValueError(
      f"{path} is an index built by another encoder: by {found.encoder[:12]}, and this "
      f"one is {encoder[:12]}; {ANEW} from this encoder's export."
    )
  if data_name not in (None, found.data_name):
    raise ValueError(
      f"{path} is of the data set {found.data_name}, and config.data.name is "
      f"{data_name}; {ANEW}."
    )
  if missing := [name for name in splits if name not in found.splits]:
    raise ValueError(
      f"{path} lacks the split {', '.join(missing)}; it has "
      f"{', '.join(found.splits)}: {ANEW}."
    )
  if least > found.k:
    raise ValueError(
      f"{path} holds {found.k} neighbours of a study, and {least} are asked for; "
      f"{ANEW} --k={least}."
    )
  return found


def _parse(data: bytes) -> Neighbours:
  with np.load(io.BytesIO(data), allow_pickle=False) as stored:
    arrays = {name: stored[name] for name in stored.files}
  facts = {name: str(arrays.pop(name)) for name in ("data_name", "encoder")}
  corpus = arrays.pop("corpus")
  names = sorted({name.rpartition("/")[0] for name in arrays})
  fields = [field.name for field in dataclasses.fields(Found)]
  splits = {
    name: Found(*(arrays[f"{name}/{field}"] for field in fields)) for name in names
  }
  for name, found in splits.items():
    shape = len(found.study_ids), *found.indices.shape[1:]
    if not shape == found.indices.shape == found.scores.shape or len(shape) != 2:
      raise ValueError(f"the arrays of {name} do not fit one another")
    if found.indices.size and found.indices.max() >= len(corpus):
      raise ValueError(f"{name} points beyond the corpus")
  if len({found.indices.shape[1] for found in splits.values()}) != 1:
    raise ValueError("its splits have different numbers of neighbours, or are none")
  return Neighbours(**facts, corpus=corpus, splits=splits)


def checksum(variables: Mapping[str, Any]) -> str:
  """Of the arrays that make an embedding, those of `vision` and `head`; hexadecimal.

  `variables` has `params` and `batch_stats` as nested dicts, whole on this process
  (`checkpoint.load_arrays`). Raises ValueError where they hold no vision.
  """
  flat = traverse_util.flatten_dict(
    {
      f"{kind}/{part}": variables[kind][part]
      for kind in ("params", "batch_stats")
      for part in ENCODER
      if part in variables.get(kind, {})
    },
    sep="/",
  )
  if not any(path.startswith("params/vision/") for path in flat):
    raise ValueError(
      "These variables have no params/vision, so they are no image encoder; give the "
      "export of an EIR stage."
    )
  return checkpoint.digest(flat)
