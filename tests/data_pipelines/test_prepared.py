import numpy as np
import pytest
from PIL import Image

from data_pipelines import datasets, loader, prepared, records
from data_pipelines.film_store import FilmStore
from data_pipelines.raw import shards

SIZE = 16


def record(number, **parts):
  empty = {name: "" for name, (dtype, _) in records.FIELDS.items() if dtype is str}
  return empty | {
    "id": f"p{number}_s{number}_f{number}",
    "patient_id": f"p{number}",
    "study_id": f"s{number}",
    "view": "PA",
    "image": number,
    "prior": -1,
    "findings": f"Report {number}.",
    "labels": np.full(len(records.LABELS), records.UNMENTIONED, np.int8),
    **parts,
  }


@pytest.fixture
def films(tmp_path):
  return make_films(tmp_path, 6)


def make_films(folder, count):
  pictures = folder / "pictures"
  pictures.mkdir(exist_ok=True)
  for number in range(count):
    Image.new("L", (20, 20), 10 * number).save(pictures / f"{number}.png")
  sources = [(f"f{number}", f"{number}.png") for number in range(count)]
  store = prepared.films_folder(folder, "iu_xray", SIZE)
  shards.prepare(sources, pictures, store, shards.Recipe(SIZE), workers=1)
  return FilmStore(store)


SPLITS = {
  # The second example's prior is nobody's example, and follows them.
  "train": [record(3), record(1, prior=2, prior_view="AP"), record(5, findings="")],
  "test": [record(0)],
}
COUNTS = {"train": 2, "test": 1}


def write(folder, films, splits=SPLITS):
  return prepared.write(folder, "iu_xray", "ours_16", splits, COUNTS, films)


def test_records_come_back_in_order_joined_with_their_films(tmp_path, films):
  write(tmp_path, films)
  train = datasets.load("iu_xray/ours_16", "train", tmp_path)
  assert len(train) == 2
  parsed = [loader.parse(train, index) for index in range(3)]
  assert [r["id"] for r in parsed] == ["p3_s3_f3", "p1_s1_f1", "p5_s5_f5"]
  assert [int(r["image"].mean()) for r in parsed] == [30, 10, 50]
  assert parsed[0]["image"].shape == (SIZE, SIZE, 1)
  assert parsed[1]["prior"] == 2
  assert len(datasets.load("iu_xray/ours_16", "test", tmp_path)) == 1


def test_a_prior_that_is_no_example_is_seen_and_never_learnt_from(tmp_path, films):
  write(tmp_path, films)
  train = datasets.load("iu_xray/ours_16", "train", tmp_path)
  studies = loader.Studies(
    train, lambda record: {}, image_size=SIZE, views=("PA", "AP", "unk")
  )
  assert len(studies) == 2
  assert studies[1]["has_prior"]
  assert int(studies[1]["prior_image"].mean()) == 50
  seen = loader.parse_texts(train, skip_damaged=False)
  assert [r["findings"] for r in seen] == ["Report 3.", "Report 1."]


def test_texts_are_read_without_a_film(tmp_path, films):
  write(tmp_path, films)
  train = datasets.load("iu_xray/ours_16", "train", tmp_path)
  train._films = None
  assert loader.parse_text(train, 1)["findings"] == "Report 1."
  assert "image" not in loader.parse_text(train, 1)


def test_written_again_the_same_stays_and_another_replaces_it(tmp_path, films):
  folder = write(tmp_path, films)
  before = {path.name: path.stat().mtime for path in folder.iterdir()}
  write(tmp_path, films)
  assert {path.name: path.stat().mtime for path in folder.iterdir()} == before
  write(tmp_path, films, SPLITS | {"test": [record(0, findings="Another.")]})
  (test,) = loader.parse_texts(
    datasets.load("iu_xray/ours_16", "test", tmp_path), skip_damaged=False
  )
  assert test["findings"] == "Another."


def test_the_same_records_are_the_same_bytes(tmp_path, films):
  first = write(tmp_path, films)
  made = {path.name: path.read_bytes() for path in first.glob("*array_record*")}
  first.rmtree()
  write(tmp_path, films)
  assert {p.name: p.read_bytes() for p in first.glob("*array_record*")} == made
  assert made


def test_what_is_not_prepared_says_what_is(tmp_path, films):
  with pytest.raises(ValueError, match="nothing is prepared"):
    datasets.load("iu_xray/ours_16", "train", tmp_path)
  write(tmp_path, films)
  for name in ("iu_xray", "iu_xray/r2gen_16"):
    with pytest.raises(ValueError, match="prepared there: ours_16"):
      datasets.load(name, "train", tmp_path)
  with pytest.raises(ValueError, match="no split 'val': one of train, test"):
    datasets.load("iu_xray/ours_16", "val", tmp_path)


def test_films_of_another_preparation_are_refused(tmp_path, films):
  write(tmp_path, films)
  make_films(tmp_path, 5)
  with pytest.raises(ValueError, match="was prepared again since ours_16 was"):
    datasets.load("iu_xray/ours_16", "train", tmp_path)
