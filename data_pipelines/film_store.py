"""Films at the encoder's size, in ArrayRecord shards, each read by its number.

A folder of `films-00000.array_record`, ...; beside each shard a `.json` tells which
films are in it, and `films.json` sums them up when all are there.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from array_record.python import array_record_module
from array_record.python.array_record_data_source import ArrayRecordDataSource
from etils import epath

INDEX = "films.json"


def _differences(image: np.ndarray) -> bytes:
  """Each row less the one above, modulo 256: what neighbours share is gone."""
  return np.diff(image[..., 0], axis=0, prepend=np.uint8(0)).tobytes()


def _sums(data: bytes, size: int) -> np.ndarray:
  differences = np.frombuffer(data, np.uint8).reshape(size, size)
  return np.add.accumulate(differences, axis=0, dtype=np.uint8)[..., None]


@dataclasses.dataclass(frozen=True)
class Encoding:
  """How a film becomes bytes, without loss, and how ArrayRecord packs them."""

  encode: Callable[[np.ndarray], bytes]
  decode: Callable[[bytes, int], np.ndarray]  # Of the bytes and the size.
  options: str  # ArrayRecord's; one record a group, so that reading is random access.


# Compared in `tests/benchmarks/stream.py`.
ENCODINGS = {
  "packed": Encoding(_differences, _sums, "group_size:1,zstd:1"),
  "raw": Encoding(
    lambda image: image.tobytes(),
    lambda data, size: np.frombuffer(data, np.uint8).reshape(size, size, 1),
    "group_size:1,uncompressed",
  ),
}


def shard_name(number: int) -> str:
  """The file name of shard `number`, without the ending."""
  return f"films-{number:05d}"


def write(path: os.PathLike, films: Iterable[np.ndarray], encoding: str) -> None:
  """Writes films (size size 1), uint8, as one shard; holds one at a time.

  Raises OSError where it cannot be written.
  """
  how = ENCODINGS[encoding]
  write_records(path, map(how.encode, films), how.options)


def write_records(path: os.PathLike, data: Iterable[bytes], options: str) -> None:
  """Writes records of bytes as ArrayRecord, with its options, one held at a time.

  Raises OSError where they cannot be written.
  """
  try:
    writer = array_record_module.ArrayRecordWriter(os.fspath(path), options)
    for record in data:
      writer.write(record)
    writer.close()
  except RuntimeError as error:
    reason = str(error).splitlines()[0]
    raise OSError(f"{path}: cannot be written ({reason})") from error


def read_account(shard: epath.Path, digest: str) -> Mapping | None:
  """What the JSON beside a shard tells, if both are whole and of this digest."""
  try:
    account = json.loads(shard.with_suffix(".json").read_text())
    there = shard.stat().length if shard.exists() else 0
    is_same = account["digest"] == digest and account["bytes"] == there
  except (FileNotFoundError, ValueError, KeyError):
    return None
  return account if is_same else None


class FilmStore(Sequence):
  """The films of a folder, (size size 1) uint8 each, by their numbers."""

  def __init__(self, folder: os.PathLike):
    """Raises ValueError where the folder holds no whole store."""
    self.folder = epath.Path(folder)
    index = read_index(self.folder)
    self.size, self.digest = index["size"], index["digest"]
    self._decode = ENCODINGS[index["encoding"]].decode
    paths = [
      os.fspath(self.folder / f"{shard_name(number)}.array_record")
      for number, count in enumerate(index["counts"])
      if count  # A shard none of whose films could be read is no file.
    ]
    self._count = sum(index["counts"])
    self._films = ArrayRecordDataSource(paths) if paths else []
    if len(self._films) != self._count:
      raise ValueError(
        f"{self.folder}: {self._count} films were written, {len(self._films)} are "
        "there; prepare the data set again."
      )

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, index: int) -> np.ndarray:
    return self._decode(self._films[index], self.size)


def read_index(folder: epath.Path) -> Mapping:
  """What a store's index says: size, encoding, counts of its shards, and a digest.

  Raises ValueError where there is none.
  """
  path = folder / INDEX
  if not path.exists():
    raise ValueError(
      f"{folder} holds no whole store of films ({INDEX} is missing); run "
      "`python -m data_pipelines.prepare` until it has ended."
    )
  return json.loads(path.read_text())
