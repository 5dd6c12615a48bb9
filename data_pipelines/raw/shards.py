"""Image files made films of a store: by many processes, and again after a kill.

Which films a shard holds depends on the list alone, so that any number of workers
writes the same bytes. A shard counts as written when the account of it, a JSON file
beside it, is there; that comes last.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool

import numpy as np
from etils import epath

from data_pipelines import building, files, film_store, images

FILMS_PER_SHARD = 500  # 62 MB at 518 px, and at most a minute's work to lose.
# Of a film as stored, a pixel: measured on films at 518 px, and rounded up.
BYTES_PER_PIXEL = {"packed": 0.5, "raw": 1.0}

Source = tuple[str, str]  # A film's id, and its path relative to the images' folder.


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What every film of a store has in common."""

  size: int
  encoding: str = "packed"  # One of film_store.ENCODINGS.
  dicom_window: str = "display"  # As `images.read` takes it.


@dataclasses.dataclass(frozen=True)
class Shard:
  """A shard to be written."""

  number: int
  sources: tuple[Source, ...]
  image_root: str
  folder: str
  recipe: Recipe

  def path(self, ending: str) -> epath.Path:
    name = film_store.shard_name(self.number)
    return epath.Path(self.folder) / f"{name}.{ending}"

  def digest(self) -> str:
    """Of all that its bytes depend on, but the files themselves."""
    told = json.dumps([self.sources, dataclasses.asdict(self.recipe)])
    return hashlib.sha256(told.encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Films:
  """A store that is whole: each film's number, and why others are not in it."""

  numbers: Mapping[str, int]
  unreadable: Mapping[str, str]  # The reason by the film's id.


def prepare(
  sources: Sequence[Source],
  image_root: os.PathLike,
  folder: epath.Path,
  recipe: Recipe,
  *,
  workers: int,
  retry: bool = False,
) -> Films:
  """The store of the films that can be read; what is written already stays.

  With `retry`, shards with films that could not be read are made anew. Raises OSError
  where the disk is too small or cannot be written.
  """
  folder.mkdir(parents=True, exist_ok=True)
  with building.alone(folder):
    shards = _shards(sources, os.fspath(image_root), os.fspath(folder), recipe)
    accounts = {shard.number: _account(shard, retry) for shard in shards}
    missing = [shard for shard in shards if accounts[shard.number] is None]
    _check_space(folder, sum(len(s.sources) for s in missing), recipe)
    if missing:  # Until it is whole again, nobody shall read it.
      (folder / film_store.INDEX).unlink(missing_ok=True)
    for shard, account in _written(missing, workers, folder.name):
      accounts[shard.number] = account
    in_order = [accounts[shard.number] for shard in shards]
    _write_index(folder, recipe, in_order)
  numbers = (film for account in in_order for film in account["films"])
  return Films(
    numbers={film: number for number, film in enumerate(numbers)},
    unreadable={f: why for account in in_order for f, why in account["not"].items()},
  )


def missing(sources: Iterable[Source], image_root: os.PathLike) -> list[str]:
  """The films without a file, found by one listing of each folder."""
  gone, folder, names = [], None, frozenset()
  for film, path in sources:
    parent, _, name = path.rpartition("/")
    if parent != folder:
      folder, names = parent, _names(os.path.join(image_root, parent))
    if name not in names:
      gone.append(film)
  return gone


def _names(folder: str) -> frozenset[str]:
  try:
    with os.scandir(folder) as entries:
      return frozenset(entry.name for entry in entries if entry.is_file())
  except (FileNotFoundError, NotADirectoryError):
    return frozenset()
  except OSError as error:
    raise type(error)(f"{folder}: cannot be read ({error.strerror})") from None


def bytes_needed(count: int, recipe: Recipe) -> int:
  """About how much disk a store of `count` films takes."""
  return int(count * recipe.size**2 * BYTES_PER_PIXEL[recipe.encoding])


def _shards(
  sources: Sequence[Source], image_root: str, folder: str, recipe: Recipe
) -> list[Shard]:
  return [
    Shard(
      number=start // FILMS_PER_SHARD,
      sources=tuple(sources[start : start + FILMS_PER_SHARD]),
      image_root=image_root,
      folder=folder,
      recipe=recipe,
    )
    for start in range(0, len(sources), FILMS_PER_SHARD)
  ]


def _account(shard: Shard, retry: bool) -> Mapping | None:
  """What is told of a shard that is written; None where it is to be."""
  account = film_store.read_account(shard.path("array_record"), shard.digest())
  return None if account and retry and account["not"] else account


def _check_space(folder: epath.Path, count: int, recipe: Recipe) -> None:
  needed, free = bytes_needed(count, recipe), building.free_bytes(folder)
  if needed > free:
    raise OSError(
      f"{folder}: {count} films at {recipe.size} px need about {needed / 1e9:.1f} GB, "
      f"{free / 1e9:.1f} GB are free; give another --out, or make room."
    )


def _written(
  shards: Sequence[Shard], workers: int, name: str
) -> Iterator[tuple[Shard, Mapping]]:
  """The shards as they become ready, with the account of each."""
  total = sum(len(shard.sources) for shard in shards)
  weigh = lambda done: len(done[0].sources)
  if workers <= 1:
    made = ((shard, write_shard(shard)) for shard in shards)
    yield from building.progress(made, total, name, "film", weigh)
    return
  pool = concurrent.futures.ProcessPoolExecutor(
    workers,
    multiprocessing.get_context("spawn"),
    initializer=_end_with_parent,
  )
  try:
    jobs = {pool.submit(write_shard, shard): shard for shard in shards}
    ready = concurrent.futures.as_completed(jobs)
    made = ((jobs[job], job.result()) for job in ready)
    yield from building.progress(made, total, name, "film", weigh)
  except BrokenProcessPool:
    raise OSError(
      "a worker was killed, as systems do when memory ends; run the command again with "
      "fewer --workers: it goes on where it was."
    ) from None
  finally:
    pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
  """So that no worker outlives a parent that is killed."""

  def end() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=end, daemon=True).start()


def write_shard(shard: Shard) -> Mapping:
  """Writes a shard, then the account of it, which is returned."""
  kept, unreadable = [], {}

  def films() -> Iterator[np.ndarray]:
    for film, path in shard.sources:
      whole = os.path.join(shard.image_root, path)
      try:
        image = images.read(whole, shard.recipe.dicom_window)
        image = images.process(image, shard.recipe.size)
      except (OSError, ValueError) as error:
        unreadable[film] = str(error).removeprefix(f"{whole}: ")
      else:
        kept.append(film)
        yield image

  path = shard.path("array_record")
  shard.path("json").unlink(missing_ok=True)
  # In a bucket an object is there when it is whole; only on a disk a draft is needed.
  draft = path if "://" in shard.folder else shard.path("unfinished")
  film_store.write(draft, films(), shard.recipe.encoding)
  if not kept:
    draft.unlink()
  elif draft != path:
    draft.replace(path)
  account = {
    "digest": shard.digest(),
    "bytes": path.stat().length if kept else 0,
    "films": kept,
    "not": unreadable,
  }
  files.write(shard.path("json"), json.dumps(account) + "\n")
  return account


def _write_index(
  folder: epath.Path, recipe: Recipe, accounts: Sequence[Mapping]
) -> None:
  told = json.dumps([dataclasses.asdict(recipe), [a["films"] for a in accounts]])
  index = {
    "size": recipe.size,
    "encoding": recipe.encoding,
    "dicom_window": recipe.dicom_window,
    "counts": [len(account["films"]) for account in accounts],
    "digest": hashlib.sha256(told.encode()).hexdigest(),
  }
  files.write(folder / film_store.INDEX, json.dumps(index) + "\n")
