"""A small file is replaced whole, or left as it was."""

import pytest

from data_pipelines import files


def test_a_file_is_replaced(tmp_path):
  path = tmp_path / "a.json"
  files.write(path, "old")
  files.write(path, "new")
  assert path.read_text() == "new"
  files.write(path, b"\x89PNG")
  assert path.read_bytes() == b"\x89PNG"
  assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_named(tmp_path, monkeypatch):
  path = tmp_path / "a.json"
  files.write(path, "old")

  def full(self, target):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(files.epath.Path(path).__class__, "replace", full)
  with pytest.raises(OSError, match="No space left") as info:
    files.write(path, "new")
  assert info.value.filename == str(path)
  assert path.read_text() == "old"
  assert list(tmp_path.iterdir()) == [path]
