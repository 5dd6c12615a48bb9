"""Streams records to training and evaluation.

The training stream is a pure function of (seed, step): a whole epoch is shuffled the
same way everywhere, and process p of P reads rows p*B/P to (p+1)*B/P of each global
batch of B. No iterator state exists; a run resumes by starting at its step.
"""

import collections
import functools
import hashlib
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from data_pipelines import images, records

Record = dict[str, Any]
Encode = Callable[[Record], dict[str, np.ndarray]]
Edit = Callable[[int, Record], Record]

REMEDY = (
  "Rebuild the data set, or leave such records out of training with "
  "--config.data.skip_damaged=True."
)


class Examples:
  """A split as a sequence of examples, which `_example` makes of the records.

  Images come in `image_size`, whatever they are stored in. `views` name the views that
  a model knows; a film with another one is read as unk, and `unknown_views` notes it by
  its index. With `in_memory` an example is made once and kept.
  """

  def __init__(
    self,
    source: Sequence[Record],
    *,
    image_size: int,
    views: Sequence[str],
    in_memory: bool = False,
  ):
    self._source = source
    self._image_size, self._views = image_size, tuple(views)
    self._in_memory, self._kept = in_memory, {}
    self.unknown_views: dict[int, str] = {}

  def __len__(self) -> int:
    return len(self._source)

  def first_film(self, index: int) -> int:
    """Where in the split the first film of an example is."""
    return index

  def readable(self) -> tuple[list[int], list[int]]:
    """Indices of the examples that can be read, and of those that cannot."""
    good, bad = [], []
    for index in range(len(self)):
      try:
        self[index]
        good.append(index)
      except ValueError:
        bad.append(index)
    return good, bad

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    if (example := self._kept.get(index)) is None:
      example = self._example(index)
      if self._in_memory:
        self._kept[index] = example
    return example

  def _example(self, index: int) -> dict[str, np.ndarray]:
    raise NotImplementedError

  def _film(self, index: int, record: Record) -> tuple[np.ndarray, int]:
    """The film of record `index`, and the row of its view."""
    image, view = record["image"], record["view"]
    if view and view not in self._views:
      self.unknown_views[index] = view
    # Features of a film are a matrix, and of no size in pixels.
    if image.ndim == 3 and image.shape[:2] != (self._image_size,) * 2:
      image = images.process(image, self._image_size)
    return image, records.view_row(view, self._views)


class Studies(Examples):
  """Examples of one film each: the record, joined by its prior's image.

  `edit` gets the index and the record of a study and returns the record as the model
  shall see it (`interventions` has some). A prior, the edited record's too, is the film
  of its own record as it is stored, whatever `edit` makes of that one. `features` (s c)
  are seen in place of films, by the ids of their records.
  """

  def __init__(
    self,
    source: Sequence[Record],
    encode: Encode,
    *,
    image_size: int,
    views: Sequence[str],
    edit: Edit | None = None,
    in_memory: bool = False,
    features: Mapping[str, np.ndarray] | None = None,
  ):
    super().__init__(source, image_size=image_size, views=views, in_memory=in_memory)
    self._encode, self._edit, self._features = encode, edit, features

  def _record(self, index: int) -> Record:
    if self._features is None:
      return parse(self._source, index)
    record = parse_text(self._source, index)
    return record | {"image": self._features[record["id"]]}

  def _example(self, index: int) -> dict[str, np.ndarray]:
    record = with_report(self._record(index))
    if self._edit is not None:
      record = self._edit(index, record)
    prior = int(record["prior"])
    has_prior = prior >= 0
    image, view = self._film(index, record)
    prior_image, prior_view = np.zeros_like(image), self._views.index("unk")
    if has_prior:
      prior_image, prior_view = self._film(prior, self._record(prior))
    return {
      **ids(index, record),
      "image": image,
      "view": np.int32(view),
      "prior_image": prior_image,
      "prior_view": np.int32(prior_view),
      "has_prior": np.bool_(has_prior),
      **self._encode(record),
    }


def parse(source: Sequence[Record], index: int) -> Record:
  """Record `index` as `records.FIELDS` types it.

  Raises ValueError naming the record where it cannot be read.
  """
  return _parse(source, index, records.FIELDS)


def _parse(source: Sequence[Record], index: int, names: Iterable[str]) -> Record:
  try:
    raw = source[index]
    types = {name: records.FIELDS[name][0] for name in names}
    return {
      name: _text(raw[name]) if dtype is str else np.asarray(raw[name], dtype)
      for name, dtype in types.items()
    }
  except (KeyError, ValueError, OSError, RuntimeError, TypeError) as error:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ValueError(
      f"Record {index} of the split is damaged: {reason}. {REMEDY}"
    ) from error


def parse_text(source: Sequence[Record], index: int) -> Record:
  """Record `index` without its image, as `parse`; quick where a source has `texts`."""
  texts = getattr(source, "texts", source)
  return _parse(texts, index, [name for name in records.FIELDS if name != "image"])


def parse_all(source: Sequence[Record], *, skip_damaged: bool) -> Iterator[Record]:
  """The records in order; damaged ones raise ValueError or are left out."""
  return _all(parse, source, skip_damaged)


def parse_texts(source: Sequence[Record], *, skip_damaged: bool) -> Iterator[Record]:
  """The same without their images."""
  return _all(parse_text, source, skip_damaged)


def _all(
  parse_one: Callable[[Sequence[Record], int], Record],
  source: Sequence[Record],
  skip_damaged: bool,
) -> Iterator[Record]:
  for index in range(len(source)):
    try:
      yield with_report(parse_one(source, index))
    except ValueError:
      if not skip_damaged:
        raise


def with_report(record: Record) -> Record:
  """The record; raises ValueError, naming it, where it has no findings."""
  if not record["findings"].strip():
    raise ValueError(f"Record {record['id']} has an empty report. {REMEDY}")
  return record


def ids(index: int, record: Record) -> dict[str, np.ndarray]:
  """What tells an example, its study and its patient from others."""
  return {
    "index": np.int32(index),
    "study": key(record["study_id"]),
    "patient": key(record["patient_id"]),
  }


def _text(value: Any) -> str:
  return value.decode() if isinstance(value, bytes) else str(value)


def key(name: str) -> np.ndarray:
  """Two words that are equal for equal names, on every process."""
  digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
  return np.frombuffer(digest, np.uint32).copy()


def train_stream(
  studies: Examples,
  *,
  batch_size: int,
  seed: int,
  start_step: int = 0,
  indices: Sequence[int] | None = None,
  groups: Sequence[Hashable] | None = None,
  process_index: int = 0,
  process_count: int = 1,
  num_threads: int = 4,
) -> Iterator[Mapping[str, np.ndarray]]:
  """This process's rows of the endless global batches, from `start_step` on.

  With `groups`, one of each of the `indices`, an epoch shuffles the groups, and those
  of one group stay side by side. A group that meets the end of a batch is cut there,
  and the next batch begins with the rest of it: no row is padding, none comes twice.
  """
  rows = _rows_per_process(batch_size, process_count)
  order = range(len(studies)) if indices is None else [int(i) for i in indices]
  if len(order) < batch_size:
    raise ValueError(
      f"A batch of {batch_size} needs as many records, but the split has "
      f"{len(order)}; lower batch_size."
    )
  if groups is None:
    shuffled = grain.MapDataset.source(order).seed(seed).shuffle().repeat()
  else:
    positions = grain.MapDataset.range(sys.maxsize)
    shuffled = positions.map(_grouped(order, groups, seed))
  dataset = shuffled.map(studies.__getitem__)
  blocks = dataset.batch(rows, drop_remainder=True)[process_index::process_count]
  options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=8)
  return iter(blocks[start_step:].to_iter_dataset(options))


def _grouped(
  order: Sequence[int], groups: Sequence[Hashable], seed: int
) -> Callable[[int], int]:
  """From a position in the endless stream to an index, groups side by side."""
  members = collections.defaultdict(list)
  for index, group in zip(order, groups, strict=True):
    members[group].append(index)
  members = list(members.values())

  @functools.lru_cache(maxsize=2)  # At the end of an epoch the next is read ahead.
  def epoch(number: int) -> list[int]:
    shuffled = np.random.default_rng((seed, number)).permutation(len(members))
    return [index for place in shuffled for index in members[place]]

  def index_at(position: int) -> int:
    number, place = divmod(int(position), len(order))
    return epoch(number)[place]

  return index_at


def eval_batches(
  studies: Examples,
  *,
  batch_size: int,
  indices: Sequence[int] | None = None,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[Mapping[str, np.ndarray]]:
  """Every example once, in order; the last batch is filled up and `valid` says so."""
  rows = _rows_per_process(batch_size, process_count)
  order = range(len(studies)) if indices is None else indices
  padded = -(-len(order) // batch_size) * batch_size

  def example(row):
    index = order[min(row, len(order) - 1)]
    return studies[int(index)] | {"valid": np.bool_(row < len(order))}

  dataset = grain.MapDataset.range(padded).map(example)
  blocks = dataset.batch(rows)[process_index::process_count]
  options = grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)
  return iter(blocks.to_iter_dataset(options))


def spread(length: int, count: int) -> list[int]:
  """At most `count` indices, evenly over a split: neighbours are of one patient."""
  return np.linspace(0, length - 1, min(count, length)).round().astype(int).tolist()


def _rows_per_process(batch_size: int, process_count: int) -> int:
  if batch_size % process_count:
    raise ValueError(
      f"batch_size={batch_size} does not divide over {process_count} processes."
    )
  return batch_size // process_count
