"""The file of similar cases: who is in it, and when it is refused."""

import io

import numpy as np
import pytest

from jaxrg import indexing, neighbours, sharding
from jaxrg.embedding import Embedded

ENCODER = "0123456789abcdef" * 4
SPLITS = {"train": 60, "validation": 9, "test": 12}


def split(name, count):
  """Three studies a patient; patients of a split are in no other, as a rule."""
  rng = np.random.default_rng(count)
  rows = rng.normal(size=(count, 8)).astype(np.float32)
  rows /= np.linalg.norm(rows, axis=1, keepdims=True)
  ids = np.array([f"{name}-{i:03}" for i in range(count)])
  return Embedded(ids, np.array([f"{name}-p{i // 3}" for i in range(count)]), rows)


@pytest.fixture(scope="module")
def embedded():
  return {name: split(name, count) for name, count in SPLITS.items()}


def make(splits, **changes):
  options = {"k": 4, "encoder": ENCODER, "data_name": "thorax/tiny"}
  mesh = sharding.make_mesh((-1, 1, 1))
  return indexing.make(splits, **options | {"mesh": mesh} | changes)


@pytest.fixture(scope="module")
def found(embedded):
  return make(embedded)


@pytest.fixture
def path(found, tmp_path):
  found.write(tmp_path / "neighbours.npz")
  return tmp_path / "neighbours.npz"


def test_neighbours_are_of_the_training_split_and_another_patient(embedded, found):
  """Spec eir 12, 13: no self, no same patient, training split only."""
  patient = dict(zip(embedded["train"].study_ids, embedded["train"].patient_ids))
  for part in embedded.values():
    for study_id, own in zip(part.study_ids, part.patient_ids):
      near = found.of(study_id)
      assert len(near) == 4
      assert all(patient[name] != own for name, _ in near)
      assert [score for _, score in near] == sorted((s for _, s in near), reverse=True)


def test_the_nearest_by_hand():
  """Of three films a few degrees apart two are of one patient; so are test's."""
  angle = np.deg2rad([0, 1, 10, 90, 180])
  rows = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
  train = Embedded(np.array(list("abcde")), np.array(list("ppqrs")), rows)
  # That a patient is in two splits should not be, and must do no harm.
  test = Embedded(np.array(["t"]), np.array(["q"]), rows[2:3])
  found = make({"train": train, "test": test}, k=2)
  names = lambda study_id: [name for name, _ in found.of(study_id)]
  assert names("a") == names("b") == ["c", "d"]
  assert names("c") == names("t") == ["b", "a"]
  assert names("e") == ["d", "c"]
  assert found.of("a")[0][1] == pytest.approx(np.cos(angle[2]), abs=1e-5)


def test_of_equals_the_first_by_id():
  """Spec eir 12, 13: deterministic ties."""
  rows = np.tile(np.float32([[1, 0]]), (6, 1))
  ids = np.array(["s1", "s10", "s2", "s3", "s4", "s5"])
  found = make({"train": Embedded(ids, ids, rows)}, k=3)
  assert [name for name, _ in found.of("s2")] == ["s1", "s10", "s3"]
  assert [name for name, _ in found.of("s1")] == ["s10", "s2", "s3"]
  backwards = Embedded(ids[::-1], ids[::-1], rows)
  with pytest.raises(ValueError, match="studies of train must be sorted"):
    make({"train": backwards})


def test_fewer_neighbours_than_k(embedded, tmp_path):
  few = {name: split(name, 6) for name in ("train", "test")}
  found = make(few, k=4)
  assert {len(found.of(study)) for study in few["train"].study_ids} == {3}
  assert {len(found.of(study)) for study in few["test"].study_ids} == {4}
  found.write(tmp_path / "few.npz")
  assert neighbours.read(tmp_path / "few.npz").of("train-000") == found.of("train-000")


def test_what_is_read_is_what_was_written(found, path, tmp_path):
  wanted = {"encoder": ENCODER, "data_name": "thorax/tiny", "splits": tuple(SPLITS)}
  again = neighbours.read(path, **wanted, least=4)
  assert (again.data_name, again.encoder, again.k) == ("thorax/tiny", ENCODER, 4)
  for name, count in SPLITS.items():
    for i in range(count):
      study_id = f"{name}-{i:03}"
      assert again.of(study_id) == found.of(study_id)
  again.write(tmp_path / "again.npz")
  assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
  ("wanted", "message"),
  [
    (
      {"encoder": "fedcba98765432100000"},
      "index built by another encoder: by 0123456789ab, and this one is fedcba987654; "
      "write it anew with python -m jaxrg.retrieve",
    ),
    ({"data_name": "mimic_cxr"}, "of the data set thorax/tiny, and .* is mimic_cxr"),
    ({"splits": ("test", "retrieval")}, "lacks the split retrieval; it has test, tra"),
    ({"least": 5}, "holds 4 neighbours of a study, and 5 are asked for; .* --k=5"),
  ],
)
def test_a_file_of_something_else_is_refused(path, wanted, message):
  with pytest.raises(ValueError, match=f"neighbours.npz.*{message}"):
    neighbours.read(path, **wanted)


def test_no_file(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"none.npz.*jaxrg\.retrieve"):
    neighbours.read(tmp_path / "none.npz")


def npz(**arrays):
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  return buffer.getvalue()


def with_changes(data, **changes):
  with np.load(io.BytesIO(data)) as stored:
    arrays = dict(stored) | {k.replace("__", "/"): v for k, v in changes.items()}
  return npz(**{name: x for name, x in arrays.items() if x is not None})


@pytest.mark.parametrize(
  "damage",
  [
    lambda data: data[:-50],
    lambda data: data[: len(data) // 2] + b"?" + data[len(data) // 2 + 1 :],
    lambda data: b"",
    lambda data: b"no archive",
    lambda data: with_changes(data, encoder=None),
    lambda data: with_changes(data, corpus=None),
    lambda data: with_changes(data, test__scores=None),
    lambda data: with_changes(data, corpus=np.array(["train-000"])),
    lambda data: with_changes(data, test__indices=np.zeros((11, 4), np.int32)),
    lambda data: with_changes(data, test__study_ids=np.array(["a"] * 13)),
    lambda data: npz(encoder="x", data_name="y", corpus=np.array(["z"])),
  ],
)
def test_damage_is_refused(path, damage):
  path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(ValueError, match=r"neighbours.npz is damaged: .*jaxrg\.retrieve"):
    neighbours.read(path)


def test_what_was_there_survives_a_failure(found, path, monkeypatch):
  before = path.read_bytes()

  def full(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(type(neighbours.epath.Path(path)), "replace", full)
  with pytest.raises(OSError, match="No space left"):
    found.write(path)
  assert path.read_bytes() == before
  assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_rules_of_a_corpus(embedded, found):
  with pytest.raises(ValueError, match=r"come from the split train, .* only test"):
    make({"test": embedded["test"]})
  with pytest.raises(ValueError, match="Study test-000 is in test and again in other"):
    make(embedded | {"other": embedded["test"]})
  with pytest.raises(ValueError, match=r"Study x has no neighbours: .*train, val"):
    found.of("x")


def encoder(**changes):
  arrays = {
    "params": {
      "vision": {"conv": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}},
      "head": {"bias": np.zeros(3, np.float32)},
      "classifier": {"bias": np.ones(2, np.float32)},
    },
    "batch_stats": {"vision": {"mean": np.full(3, 0.5, np.float32)}},
  }
  for path, value in changes.items():
    *outer, last = path.split("__")
    inner = arrays
    for key in outer:
      inner = inner[key]
    inner[last] = value
  return arrays


@pytest.mark.parametrize(
  ("change", "same"),
  [
    ({"params__classifier__bias": np.zeros(2, np.float32)}, True),
    ({"params__head": {"bias": np.zeros(3, np.float32)}}, True),
    ({"params__head__bias": np.float32([0, 0, 1e-30])}, False),
    ({"params__head__bias": np.zeros(3, np.int32)}, False),
    ({"params__head": {"scale": np.zeros(3, np.float32)}}, False),
    ({"params__vision__conv__kernel": np.arange(6, dtype=np.float32)}, False),
    ({"batch_stats__vision__mean": np.full(3, 0.25, np.float32)}, False),
  ],
)
def test_the_checksum_is_of_what_makes_an_embedding(change, same):
  first, second = (neighbours.checksum(encoder(**x)) for x in ({}, change))
  assert (first == second) is same
  assert len(first) == 64


def test_a_checksum_needs_an_encoder():
  with pytest.raises(ValueError, match="no params/vision"):
    neighbours.checksum({"params": {"decoder": {"bias": np.zeros(2)}}})
