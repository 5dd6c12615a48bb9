"""Films by themselves, and studies with all their films (spec eir 2.7)."""

import numpy as np
import pytest

from data_pipelines import films, interventions, loader, records

VIEWS = ("PA", "AP", "LATERAL", "unk")


def record(study, view, grey, **changes):
  values = {
    name: "" if dtype is str else np.zeros(14 if name == "labels" else (), dtype)
    for name, (dtype, _) in records.FIELDS.items()
  }
  image = np.full((8, 8, 1), grey, np.uint8)
  return values | {
    "id": f"{study}_{grey}",
    "patient_id": study[0],
    "study_id": study,
    "view": view,
    "image": image,
    "findings": f"Findings of {study}.",
    **changes,
  }


SOURCE = [
  record("a1", "LATERAL", 1),
  record("a1", "PA", 2),
  record("b1", "AP", 3),
  record("a2", "LATERAL", 4),
  record("a2", "SPINE", 5),
  record("a2", "AP", 6),
]


def cases(source=SOURCE, **changes):
  fields = dict(image_size=8, views=VIEWS, max_films=2) | changes
  encode = lambda record: {"words": np.int32(len(record["findings"]))}
  graph_of = lambda study: {"graph": np.array(study)}
  return films.Cases(source, encode, graph_of, **fields)


def greys(example):
  return example["image"][:, 0, 0, 0].tolist()


def test_films_are_the_records_one_by_one():
  examples = films.Films(SOURCE, image_size=8, views=VIEWS)
  assert len(examples) == 6
  assert [int(examples[i]["image"][0, 0, 0]) for i in range(6)] == [1, 2, 3, 4, 5, 6]
  assert [int(examples[i]["view"]) for i in range(6)] == [2, 0, 1, 2, 3, 1]
  assert examples.unknown_views == {4: "SPINE"}
  same = lambda i, j: (examples[i]["study"] == examples[j]["study"]).all()
  assert same(0, 1)
  assert not same(0, 2)


def test_studies_have_their_films_in_the_order_of_the_views():
  examples = cases()
  assert len(examples) == 3
  assert greys(examples[0]) == [2, 1]  # PA before the lateral film.
  assert examples[0]["view"].tolist() == [0, 2]
  assert greys(examples[2]) == [6, 4]  # Of three films the first two views.
  assert str(examples[2]["graph"]) == "a2"
  assert [examples.first_film(i) for i in range(3)] == [0, 2, 3]


def test_what_is_absent_is_zero_and_says_so():
  example = cases()[1]
  assert greys(example) == [3, 0]
  assert example["view"].tolist() == [1, films.ABSENT]
  assert example["has_view"].tolist() == [True, False]


def test_one_film_a_study_is_the_first_of_two():
  two, one = cases(), cases(max_films=1)
  for i in range(3):
    assert greys(one[i]) == greys(two[i])[:1]
    assert one[i]["has_view"].all()


def test_another_view_goes_before_a_second_film_of_one():
  source = [record("a1", view, i) for i, view in enumerate(("PA", "PA", "LATERAL"))]
  assert greys(cases(source)[0]) == [0, 2]
  assert greys(cases(source, max_films=3)[0]) == [0, 2, 1]


def test_an_edit_is_of_records_and_changes_films_too():
  def edit(index, record):
    return record | {"findings": "x" * index, "image": record["image"] + np.uint8(10)}

  edited = cases(edit=edit)
  assert [int(edited[i]["words"]) for i in range(3)] == [0, 2, 3]
  assert greys(edited[0]) == [12, 11]


def test_interventions_find_their_study():
  meta = [{k: v for k, v in r.items() if k != "image"} for r in SOURCE]
  for r in meta:
    r["history"] = f"History of {r['study_id']}."
  masked = interventions.masked_context(meta, 0.5, "study", seed=0)
  source = [r | {"history": m["history"]} for r, m in zip(SOURCE, meta)]
  encode = lambda record: {"history": np.array(record["history"])}
  options = dict(image_size=8, views=VIEWS, max_films=2, edit=masked.edit)
  edited = films.Cases(source, encode, lambda study: {}, **options)
  for i in range(3):
    place = edited.first_film(i)
    kept = "" if masked.applies[place] else meta[place]["history"]
    assert str(edited[i]["history"]) == kept


def test_a_study_without_a_report_is_named():
  source = [record("a1", "PA", 1, findings=" ")]
  with pytest.raises(ValueError, match="a1_1 has an empty report"):
    cases(source)[0]


class Damaged(list):
  def __getitem__(self, index):
    if index == 2:
      raise ValueError("crc mismatch")
    return super().__getitem__(index)


def test_a_damaged_record_is_a_study_that_cannot_be_read():
  examples = cases(Damaged(SOURCE))
  assert len(examples) == 3
  assert examples.readable() == ([0, 2], [1])


def test_the_stream_serves_studies():
  batch = next(loader.train_stream(cases(), batch_size=3, seed=0))
  assert batch["image"].shape == (3, 2, 8, 8, 1)
  assert batch["image"].dtype == np.uint8
  assert sorted(batch["index"]) == [0, 1, 2]
