"""Examples of a film each, and of a study with all its films."""

import collections
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data_pipelines import loader
from data_pipelines.loader import Edit, Encode, Examples, Record, parse, parse_text

ABSENT = -1  # The view of a film that is not there.


class Films(Examples):
  """Examples of one film each and no text: `image`, `view` and whose they are."""

  def _example(self, index: int) -> dict[str, np.ndarray]:
    record = parse(self._source, index)
    image, view = self._film(index, record)
    return loader.ids(index, record) | {"image": image, "view": np.int32(view)}


class Texts(Examples):
  """Examples of one study each, by what is written of it.

  `edit` changes records, as in `Studies`; then `encode` makes arrays of that of the
  study's first film.
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
  ):
    super().__init__(source, image_size=image_size, views=views, in_memory=in_memory)
    self._encode, self._edit = encode, edit
    self._films = list(studies(source).values())

  def __len__(self) -> int:
    return len(self._films)

  def first_film(self, index: int) -> int:
    return self._films[index][0]

  def _example(self, index: int) -> dict[str, np.ndarray]:
    record = self._record(self.first_film(index))
    return loader.ids(index, record) | self._encode(record)

  def _record(self, place: int) -> Record:
    record = loader.with_report(parse(self._source, place))
    return record if self._edit is None else self._edit(place, record)


class Cases(Texts):
  """As `Texts`, with a graph and up to `max_films` of the study's films (spec eir 2.7).

  Films of different views come first, in the order of `views`; where there are fewer
  than asked for, `image` is zero, `view` ABSENT and `has_view` false. `graph_of` makes
  arrays of the study's id.
  """

  def __init__(
    self,
    source: Sequence[Record],
    encode: Encode,
    graph_of: Callable[[str], dict[str, np.ndarray]],
    *,
    max_films: int,
    **options: Any,
  ):
    super().__init__(source, encode, **options)
    self._graph_of, self._max_films = graph_of, max_films

  def _example(self, index: int) -> dict[str, np.ndarray]:
    places = self._films[index]
    records = [self._record(place) for place in places]
    record = records[0]
    films = _chosen([self._film(*both) for both in zip(places, records)])
    films = films[: self._max_films]
    missing = self._max_films - len(films)
    image = np.zeros((self._max_films, *films[0][0].shape), np.uint8)
    image[: len(films)] = [image for image, _ in films]
    return {
      **loader.ids(index, record),
      "image": image,
      "view": np.int32([view for _, view in films] + [ABSENT] * missing),
      "has_view": np.arange(self._max_films) < len(films),
      **self._encode(record),
      **self._graph_of(record["study_id"]),
    }


def _chosen(films: list[tuple[np.ndarray, int]]) -> list[tuple[np.ndarray, int]]:
  """Films and their views in the order of choice: one of each view, then the rest."""
  before = lambda i: sum(view == films[i][1] for _, view in films[:i])
  order = sorted(range(len(films)), key=lambda i: (before(i), films[i][1], i))
  return [films[i] for i in order]


def studies(source: Sequence[Record]) -> dict[str | int, list[int]]:
  """The films of each study, by its id, in the order of the split.

  A record that cannot be read is a study of its own, by its index.
  """
  found = collections.defaultdict(list)
  for index in range(len(source)):
    try:
      study = parse_text(source, index)["study_id"]
    except ValueError:
      study = index
    found[study].append(index)
  return dict(found)
