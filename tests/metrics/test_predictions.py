import json
import os
import stat

import numpy as np
import pytest
from stubs import labels, study

from jaxrg.metrics import predictions

ROW = study("a", "No effusion.", "Effusion.")


def line(**changes):
  return json.dumps({**ROW, **changes})


def test_round_trip(tmp_path):
  path = tmp_path / "predictions.jsonl"
  rows = [ROW, study("b", "Größe: 3 µm", "", labels=labels(edema=1), truth=[])]
  predictions.write(path, rows)
  assert predictions.read(path) == rows


def test_only_the_owner_reads_it_and_it_is_whole(tmp_path, monkeypatch):
  path = tmp_path / "predictions.jsonl"
  old = os.umask(0)
  try:
    predictions.write(path, [ROW])
  finally:
    os.umask(old)
  assert stat.S_IMODE(path.stat().st_mode) == 0o600

  def full_disk(descriptor):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "fsync", full_disk)
  with pytest.raises(OSError, match="No space"):
    predictions.write(path, [ROW, study("b", "x", "y")])
  assert predictions.read(path) == [ROW]
  assert os.listdir(tmp_path) == ["predictions.jsonl"]


def test_arrays_are_written_as_lists(tmp_path):
  path = tmp_path / "predictions.jsonl"
  row = ROW | {"labels": np.array(labels(), np.int8), "has_prior": np.bool_(True)}
  predictions.write(path, [row])
  assert predictions.read(path) == [ROW | {"labels": labels(), "has_prior": True}]


def test_unwritable_places_are_named(tmp_path):
  path = tmp_path / "missing" / "predictions.jsonl"
  with pytest.raises(FileNotFoundError) as error:
    predictions.write(path, [ROW])
  assert error.value.filename == str(path)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "no predictions in it"),
    ("\n\n", "no predictions in it"),
    (line() + '\n{"id": "b", ', "line 2: not JSON"),
    (line() + "\n[1]", "line 2: a JSON object is needed"),
    ('{"id": "a", "text": ""}', "line 1: no reference, prediction; .* id, text"),
    (line(prediction=None), "line 1: prediction must be text, not NoneType"),
    (line() + "\n" + line(), "1 ids occur twice, among them 'a'"),
    (line(reference="  "), "the reference of id 'a' is empty"),
    (line(labels=[1, 0]), "labels of id 'a' must be 14 integers"),
    (line(labels=[7] * 14), "labels of id 'a' must be 14 integers"),
    (line(labels=3), "labels of id 'a' must be 14 integers"),
    (line(truth=["new"]), "truth of id 'a' must be a list of facts"),
    (line(truth="new"), "truth of id 'a' must be a list of facts"),
  ],
)
def test_bad_files(tmp_path, text, message):
  path = tmp_path / "bad.jsonl"
  path.write_text(text)
  with pytest.raises(ValueError, match=message) as error:
    predictions.read(path)
  assert "bad.jsonl" in str(error.value)


def test_other_encodings(tmp_path):
  path = tmp_path / "bad.jsonl"
  path.write_bytes(b'{"id": "\xe9"}')
  with pytest.raises(ValueError, match="line 1: not UTF-8"):
    predictions.read(path)


def test_who_has_a_prior():
  unknown = [{"id": "a"}, {"id": "b"}]
  np.testing.assert_array_equal(predictions.with_prior(unknown), [True, True])
  unknown[0]["prior_report"] = "edema."
  np.testing.assert_array_equal(predictions.with_prior(unknown), [True, False])


def test_a_study_without_a_patient_is_its_own():
  rows = [{"id": "a", "patient_id": 7}, {"id": "b", "patient_id": ""}, {"id": "c"}]
  assert predictions.patients(rows) == ["7", "b", "c"]


def test_a_link_is_followed_and_what_is_no_file_is_left_alone(tmp_path):
  (tmp_path / "link").symlink_to(tmp_path / "target")
  predictions.write_private(tmp_path / "link", "text")
  assert (tmp_path / "link").is_symlink()
  assert (tmp_path / "target").read_text() == "text"
  os.mkfifo(tmp_path / "pipe")
  with pytest.raises(OSError, match="is there already, and is no file"):
    predictions.write_private(tmp_path / "pipe", "text")
  assert not (tmp_path / "pipe").is_file()
