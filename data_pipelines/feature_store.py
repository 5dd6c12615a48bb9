"""What a frozen image encoder makes of films, computed once: an array a film.

A folder of `features-00000.array_record`, ...; beside each shard a `.json` tells which
records' films are in it, and `features.json` sums them up when all are there.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from etils import epath

from data_pipelines import files, film_store

INDEX = "features.json"
DTYPE = np.dtype(ml_dtypes.bfloat16)


def shard_path(folder: os.PathLike, number: int, ending: str) -> epath.Path:
  """The file of shard `number`."""
  return epath.Path(folder) / f"features-{number:05d}.{ending}"


def write_shard(
  folder: os.PathLike, number: int, features: Mapping[str, np.ndarray], digest: str
) -> None:
  """Writes features (s c), bfloat16, by the ids of records, then the account of them.

  `digest` is of all that they depend on. Raises OSError where they cannot be written.
  """
  path = shard_path(folder, number, "array_record")
  account = shard_path(folder, number, "json")
  account.unlink(missing_ok=True)
  # In a bucket an object is there when it is whole; only on a disk a draft is needed.
  draft = path if "://" in os.fspath(path) else path.with_suffix(".unfinished")
  data = (array.astype(DTYPE).tobytes() for array in features.values())
  # Bits of floats hardly pack.
  film_store.write_records(draft, data, "group_size:1,uncompressed")
  if draft != path:
    draft.replace(path)
  told = {"digest": digest, "bytes": path.stat().length, "ids": list(features)}
  files.write(account, json.dumps(told) + "\n")


def written(folder: os.PathLike, number: int, digest: str) -> list[str] | None:
  """The ids of the records in a shard that is whole and of this digest, else None."""
  account = film_store.read_account(shard_path(folder, number, "array_record"), digest)
  return account and account["ids"]


def write_index(
  folder: os.PathLike,
  shards: Sequence[Sequence[str]],
  shape: Sequence[int],
  facts: Mapping[str, Any],
) -> None:
  """Says that the store is whole: ids by shard, the shape of all, what made them."""
  told = {"shape": list(shape), "facts": dict(facts), "shards": list(map(list, shards))}
  files.write(epath.Path(folder) / INDEX, json.dumps(told) + "\n")


class FeatureStore(Mapping):
  """The features of films, (s c) bfloat16 each, by the ids of their records."""

  def __init__(self, folder: os.PathLike):
    """Raises ValueError where the folder holds no whole store."""
    path = epath.Path(folder) / INDEX
    if not path.exists():
      raise ValueError(
        f"{folder} holds no whole store of features ({INDEX} is missing); run `python "
        "-m jaxrg.precompute` until it has ended."
      )
    index = json.loads(path.read_text())
    self.folder, self.facts = epath.Path(folder), index["facts"]
    self._shape = tuple(index["shape"])
    ids = [name for shard in index["shards"] for name in shard]
    self._places = {name: place for place, name in enumerate(ids)}
    self._features = ArrayRecordDataSource(
      [
        os.fspath(shard_path(folder, number, "array_record"))
        for number in range(len(index["shards"]))
      ]
    )
    if len(self._features) != len(ids):
      raise ValueError(
        f"{folder}: {len(ids)} features were written, {len(self._features)} are there; "
        "compute them again."
      )

  def __len__(self) -> int:
    return len(self._places)

  def __iter__(self) -> Iterator[str]:
    return iter(self._places)

  def __getitem__(self, name: str) -> np.ndarray:
    """Raises ValueError for a record whose film was not encoded."""
    if name not in self._places:
      raise ValueError(f"{self.folder} has no features of record {name}")
    data = self._features[self._places[name]]
    return np.frombuffer(data, DTYPE).reshape(self._shape)
