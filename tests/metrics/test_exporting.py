"""Files for other programs, read back as what was written."""

import json

import pytest

from jaxrg.metrics import exporting, layouts

ROWS = [
  {"id": "s1", "reference": 'A, "quoted"\nline.', "prediction": "é"},
  {"id": "s2", "reference": "Clear.", "prediction": ""},
]


def test_csv_comes_back(tmp_path):
  path = tmp_path / "out.csv"
  assert exporting.export(f"csv:{path}", ROWS) == str(path)
  assert layouts.read(path).rows == ROWS
  assert path.stat().st_mode & 0o077 == 0


def test_rexrank_s_own_script_would_read_it(tmp_path):
  path = tmp_path / "out.json"
  exporting.export(f"rexrank:{path}", ROWS)
  for row, back in zip(ROWS, layouts.read(path).rows):
    assert back["reference"] == f"Findings: {row['reference']} Impression: None"
    assert (back["id"], back["prediction"]) == (row["id"], row["prediction"])


def test_radeval_has_its_lists(tmp_path):
  path = tmp_path / "out.json"
  exporting.export(f"radeval:{path}", ROWS)
  told = json.loads(path.read_text())
  assert told["hyps"] == [row["prediction"] for row in ROWS]
  assert told["refs"] == [row["reference"] for row in ROWS]


@pytest.mark.parametrize("asked", ["xml:a", "csv", "csv:", ""])
def test_formats_that_are_none(asked):
  with pytest.raises(ValueError, match="one of csv, rexrank, radeval"):
    exporting.export(asked, ROWS)
