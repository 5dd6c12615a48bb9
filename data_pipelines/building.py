"""What the builders of tfds data sets have in common: how records are written."""

import contextlib
import fcntl
import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from data_pipelines import records

# How often a job reports to a log: at most so many times, and after so many seconds.
LINES, SECONDS = 40, 5


def cores() -> int:
  """The cores that this process may use, where the system tells."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def free_bytes(folder: os.PathLike) -> float:
  """What is free where a folder is, or is to be; in a bucket there is no end."""
  if "://" in os.fspath(folder):
    return float("inf")
  path = Path(folder).absolute()
  while not path.exists():
    path = path.parent
  return shutil.disk_usage(path).free


def features(**special: Any) -> tfds.features.FeaturesDict:
  """The features of `records.FIELDS`, plain texts and numbers but for the `special`."""
  labels = tfds.features.Tensor(shape=(len(records.LABELS),), dtype=np.int8)
  plain = lambda dtype: tfds.features.Text() if dtype is str else dtype
  fields = {name: plain(dtype) for name, (dtype, _) in records.FIELDS.items()}
  return tfds.features.FeaturesDict(fields | {"labels": labels} | special)


def progress(
  iterable: Iterable,
  total: int,
  name: str,
  unit: str,
  weigh: Callable[[Any], int] = lambda item: 1,
) -> Iterator:
  """The items, with a bar on a terminal; elsewhere a line now and then.

  Both tell the rate and the time left, in units; `weigh` says how many an item is.
  """
  is_terminal = sys.stderr.isatty()
  bar = tqdm(desc=name, total=total, unit=unit, leave=False, disable=not is_terminal)
  start, done, told = time.monotonic(), 0, 0
  last = start
  with bar:
    for item in iterable:
      yield item
      done += weigh(item)
      bar.update(weigh(item))
      now = time.monotonic()
      is_due = done >= told + total / LINES and now >= last + SECONDS
      if not is_terminal and (is_due or done == total):
        told, last, rate = done, now, done / max(now - start, 1e-9)
        left = tqdm.format_interval((total - done) / rate)
        line = f"{name}: {done} of {total} {unit}s, {rate:.3g}/s, {left} left"
        print(line, file=sys.stderr, flush=True)


def is_built(builder: tfds.core.DatasetBuilder) -> bool:
  """tfds renames a folder to its name when all is in it; its own check is loud."""
  return (builder.data_path / "dataset_info.json").exists()


def prepare(builder: tfds.core.DatasetBuilder) -> None:
  """Builds the set as ArrayRecord, unless another process has done so meanwhile.

  Raises OSError where it cannot be written.
  """
  with alone(builder.data_path.parent), _quiet(), _reproducible():
    if is_built(builder):
      return
    try:
      builder.download_and_prepare(file_format=tfds.core.FileFormat.ARRAY_RECORD)
    except RuntimeError as error:
      if "write() failed" not in str(error):
        raise
      raise OSError(str(error)) from error  # ArrayRecord, of a full disk.


@contextlib.contextmanager
def alone(folder: os.PathLike) -> Iterator[None]:
  """One builder at a time; whatever a killed one left behind is removed.

  A bucket knows no locks: there, builders that race each do the work.
  """
  if "://" in str(folder):
    yield
    return
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  with (folder / ".lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # The kernel frees it, even after kill -9.
    for leftover in folder.glob("incomplete.*"):
      shutil.rmtree(leftover, ignore_errors=True)
    yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Without the bars and the banner of tfds, which speak of downloads."""
  tfds.disable_progress_bar()
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    tfds.enable_progress_bar()


@contextlib.contextmanager
def _reproducible() -> Iterator[None]:
  """The fields of a record in one order, which protobuf draws anew in every process."""
  serializer = tfds.core.example_serializer.ExampleSerializer
  original = serializer.serialize_example
  serializer.serialize_example = lambda self, example: self.get_tf_example(
    example
  ).SerializeToString(deterministic=True)
  try:
    yield
  finally:
    serializer.serialize_example = original
