from collections import Counter

import pytest

from data_pipelines.raw import splits
from data_pipelines.raw.studies import SPLITS, Study


def studies(count, per_patient=1):
  return [
    Study(f"p{number // per_patient:05d}", f"s{number:05d}", ())
    for number in range(count)
  ]


def sizes(found):
  counts = Counter(found.values())
  return counts["train"], counts["validation"], counts["test"]


def test_splits_of_nguyen_have_the_published_sizes():
  assert sizes(splits.nguyen_open_i(studies(3337))) == (2335, 334, 668)


def test_splits_like_those_of_r2gen_have_their_sizes():
  assert sizes(splits.r2gen_open_i(studies(2955))) == (2069, 296, 590)


@pytest.mark.parametrize("kind", ["nguyen_mimic", "nguyen_open_i", "r2gen_open_i"])
def test_a_drawn_split_depends_on_the_ids_and_not_on_their_order(kind):
  given = studies(300, per_patient=3)
  found = splits.KINDS[kind](given)
  assert found == splits.KINDS[kind](given[::-1])
  assert len(found) == 300
  in_order = [SPLITS.index(found[s.study_id]) for s in given]
  assert in_order != sorted(in_order)


def test_permutations_are_numpys():
  found = splits.nguyen_open_i(studies(10))
  # RandomState(123).permutation(10) is 4 0 7 5 8 3 1 6 9 2.
  assert [s for s in found if found[s] == "validation"] == ["s00006"]
  assert [s for s in found if found[s] == "test"] == ["s00009", "s00002"]


def test_a_patient_is_in_one_split_of_nguyen():
  given = studies(1000, per_patient=4)
  found = splits.nguyen_mimic(given)
  placed = [Study(s.patient_id, s.study_id, (), split=found[s.study_id]) for s in given]
  assert not splits.straddling(placed)
  assert sizes(found) == (720, 80, 200)


def test_an_official_split_is_what_is_stated():
  given = [Study("p", "s1", (), split="test"), Study("p", "s2", ())]
  assert splits.official(given) == {"s1": "test"}


def test_patients_in_several_splits_are_found():
  given = [
    Study("a", "s1", (), split="test"),
    Study("a", "s2", (), split="train"),
    Study("b", "s3", (), split="train"),
    Study("b", "s4", ()),
  ]
  assert splits.straddling(given) == {"a": {"test", "train"}}
