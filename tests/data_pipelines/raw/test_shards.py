import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from etils import epath
from PIL import Image

from data_pipelines import building, film_store, images
from data_pipelines.film_store import FilmStore
from data_pipelines.raw import shards
from data_pipelines.raw.shards import Recipe

COUNT, SIZE = 26, 24


@pytest.fixture(autouse=True)
def few_films_a_shard(monkeypatch):
  monkeypatch.setattr(shards, "FILMS_PER_SHARD", 4)


@pytest.fixture
def root(tmp_path):
  folder = tmp_path / "images"
  folder.mkdir()
  rng = np.random.default_rng(0)
  for number in range(COUNT):
    pixels = rng.integers(0, 256, (30, 40), np.uint8)
    Image.fromarray(pixels).save(folder / f"{number}.png")
  return folder


def sources(count=COUNT):
  return [(f"film{number}", f"{number}.png") for number in range(count)]


def prepare(root, out, workers=1, count=COUNT, **options):
  recipe = Recipe(SIZE, encoding=options.pop("encoding", "packed"))
  folder = epath.Path(out)
  return shards.prepare(
    sources(count), root, folder, recipe, workers=workers, **options
  )


def content(folder):
  return {
    path.name: path.read_bytes()
    for path in pathlib.Path(folder).iterdir()
    if path.name != ".lock"
  }


def test_every_film_is_stored_as_the_processor_yields_it(root, tmp_path):
  made = prepare(root, tmp_path / "out")
  store = FilmStore(tmp_path / "out")
  assert list(made.numbers) == [film for film, _ in sources()]
  assert not made.unreadable
  for film, path in sources():
    want = images.process(images.read(root / path), SIZE)
    np.testing.assert_array_equal(store[made.numbers[film]], want)


def test_any_number_of_workers_writes_the_same_bytes(root, tmp_path):
  alone = prepare(root, tmp_path / "one")
  assert prepare(root, tmp_path / "two", workers=2) == alone
  assert content(tmp_path / "one") == content(tmp_path / "two")


def test_what_is_written_stays_and_what_is_lost_is_made_again(
  root, tmp_path, monkeypatch
):
  out = tmp_path / "out"
  before, made = prepare(root, out), content(out)
  (out / "films-00001.array_record").unlink()
  (out / "films-00003.json").write_text("{")
  (out / "films-00004.array_record").write_bytes(b"half")
  done, write = [], shards.write_shard
  monkeypatch.setattr(
    shards, "write_shard", lambda shard: done.append(shard.number) or write(shard)
  )
  assert prepare(root, out) == before
  assert done == [1, 3, 4]
  assert content(out) == made


def test_another_list_or_size_is_made_anew(root, tmp_path):
  prepare(root, tmp_path / "out", count=10)
  made = prepare(root, tmp_path / "out")
  assert len(made.numbers) == len(FilmStore(tmp_path / "out")) == COUNT
  prepare(root, tmp_path / "fresh")
  assert content(tmp_path / "out") == content(tmp_path / "fresh")


def test_what_cannot_be_read_is_named_and_tried_again_when_asked(root, tmp_path):
  out, whole = tmp_path / "out", (root / "5.png").read_bytes()
  (root / "5.png").write_bytes(whole[:200])
  (root / "9.png").write_bytes(b"")
  (root / "11.png").unlink()
  for number in range(20, 24):  # A shard without a single film.
    (root / f"{number}.png").write_bytes(b"no picture")
  made = prepare(root, out)
  assert made.unreadable == {
    "film5": "is a truncated or damaged PNG or JPEG file",
    "film9": "is an empty file",
    "film11": "cannot be read (No such file or directory)",
    **{f"film{n}": "is neither PNG, JPEG nor DICOM" for n in range(20, 24)},
  }
  store = FilmStore(out)
  assert len(store) == COUNT - 7
  want = images.process(images.read(root / "25.png"), SIZE)
  np.testing.assert_array_equal(store[made.numbers["film25"]], want)

  (root / "5.png").write_bytes(whole)
  assert "film5" in prepare(root, out).unreadable
  mended = prepare(root, out, retry=True)
  assert "film5" in mended.numbers
  assert len(FilmStore(out)) == COUNT - 6


def test_a_disk_too_small_is_told_before_the_first_film(root, tmp_path, monkeypatch):
  monkeypatch.setattr(building, "free_bytes", lambda folder: 1000)
  with pytest.raises(OSError, match=r"26 films at 24 px need about 0\.0 GB, 0\.0 GB"):
    prepare(root, tmp_path / "out")
  assert not list((tmp_path / "out").glob("*.array_record"))


def test_a_store_in_the_making_cannot_be_read(root, tmp_path, monkeypatch):
  out = tmp_path / "out"
  prepare(root, out, count=10)

  def fail(shard):
    raise OSError("no space left")

  monkeypatch.setattr(shards, "write_shard", fail)
  with pytest.raises(OSError, match="no space"):
    prepare(root, out)
  with pytest.raises(ValueError, match="no whole store"):
    FilmStore(out)


_PREPARE = """
from etils import epath
from data_pipelines.raw import shards
shards.FILMS_PER_SHARD = 4
if __name__ == "__main__":
  sources = [(f"film{n}", f"{n}.png") for n in range(%d)]
  recipe = shards.Recipe(%d)
  shards.prepare(sources, %r, epath.Path(%r), recipe, workers=2)
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self").exists(), reason="needs /proc")
def test_killed_and_run_again_it_writes_the_same_bytes(root, tmp_path):
  rng = np.random.default_rng(1)
  for number in range(60):  # Large enough to be killed among them.
    Image.fromarray(rng.integers(0, 256, (900, 900), np.uint8)).save(
      root / f"{number}.png"
    )
  out, script = tmp_path / "out", tmp_path / "run.py"
  script.write_text(_PREPARE % (60, SIZE, str(root), str(out)))
  repository = pathlib.Path(shards.__file__).parents[2]
  process = subprocess.Popen(
    [sys.executable, str(script)],
    env=os.environ | {"PYTHONPATH": str(repository)},
    stderr=subprocess.PIPE,
  )
  deadline = time.monotonic() + 60
  while not list(out.glob("films-*.json")):
    assert process.poll() is None, process.stderr.read().decode()
    assert time.monotonic() < deadline
    time.sleep(0.005)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert not (out / film_store.INDEX).exists()

  made = prepare(root, out, count=60)
  assert made == prepare(root, tmp_path / "unhurt", count=60)
  left = {name for name in content(out) if name.endswith(".unfinished")}
  assert {n: b for n, b in content(out).items() if n not in left} == content(
    tmp_path / "unhurt"
  )
