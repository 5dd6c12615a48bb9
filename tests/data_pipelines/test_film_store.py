import json

import numpy as np
import pytest

from data_pipelines import film_store
from data_pipelines.film_store import FilmStore


def films(count, size=20, seed=0):
  rng = np.random.default_rng(seed)
  return list(rng.integers(0, 256, (count, size, size, 1), np.uint8))


def store(folder, counts, encoding="packed", size=20):
  made, start = films(sum(counts), size), 0
  for number, count in enumerate(counts):
    path = folder / f"{film_store.shard_name(number)}.array_record"
    if count:
      film_store.write(path, made[start : start + count], encoding)
    start += count
  index = {"size": size, "encoding": encoding, "counts": counts, "digest": "d"}
  (folder / film_store.INDEX).write_text(json.dumps(index))
  return made


@pytest.mark.parametrize("encoding", film_store.ENCODINGS)
def test_films_come_back_as_they_were_and_by_their_numbers(tmp_path, encoding):
  made = store(tmp_path, [3, 0, 2], encoding)
  read = FilmStore(tmp_path)
  assert len(read) == 5
  assert (read.size, read.digest) == (20, "d")
  for number in (4, 0, 2, 3, 1):
    assert read[number].dtype == np.uint8
    np.testing.assert_array_equal(read[number], made[number])


def test_packing_makes_smooth_films_smaller_than_their_pixels(tmp_path):
  ramp = np.add.outer(np.arange(256), np.arange(256)).astype(np.uint8)[..., None]
  film_store.write(tmp_path / "a", [ramp] * 60, "packed")
  film_store.write(tmp_path / "b", [ramp] * 60, "raw")
  sizes = [(tmp_path / name).stat().st_size for name in "ab"]
  assert sizes[0] < sizes[1] / 20


def test_the_same_films_are_the_same_bytes(tmp_path):
  for name in "ab":
    film_store.write(tmp_path / name, films(5), "packed")
  assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_not_whole_is_refused(tmp_path):
  with pytest.raises(ValueError, match="no whole store of films"):
    FilmStore(tmp_path)
  store(tmp_path, [2])
  index = json.loads((tmp_path / film_store.INDEX).read_text())
  (tmp_path / film_store.INDEX).write_text(json.dumps(index | {"counts": [3]}))
  with pytest.raises(ValueError, match="3 films were written, 2 are there"):
    FilmStore(tmp_path)


def test_an_empty_store_has_no_films(tmp_path):
  store(tmp_path, [0])
  assert len(FilmStore(tmp_path)) == 0


def test_a_folder_that_is_not_there_is_named(tmp_path):
  with pytest.raises(OSError, match="missing"):
    film_store.write(tmp_path / "missing" / "a", films(1), "packed")
