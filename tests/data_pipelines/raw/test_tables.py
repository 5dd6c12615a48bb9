import gzip

import pytest

from data_pipelines.raw import tables

COLUMNS = ("study_id", "view")
TABLE = b"study_id,done,view\n50,x,PA\n51,y,AP\n"


def write(path, content=TABLE):
  path.write_bytes(content)
  return path


def read(path, oddities=None):
  return [tuple(row.values()) for row in tables.rows(path, COLUMNS, oddities)]


@pytest.mark.parametrize(
  "content",
  [
    TABLE,
    gzip.compress(TABLE),
    b"\xef\xbb\xbf" + TABLE.replace(b"\n", b"\r\n"),
    TABLE.removesuffix(b"\n"),
    TABLE.replace(b"\n", b"\n\n"),
    b' study_id ,"done",view\n50,"x, ""z""",PA\n"51",y, AP \n',
  ],
  ids=["plain", "gzip", "BOM and CRLF", "no last line end", "blank lines", "quotes"],
)
def test_rows(tmp_path, content):
  # By content: some browsers unpack a download and leave its name.
  path = write(tmp_path / "table.csv.gz", content)
  assert read(path) == [("50", "PA"), ("51", "AP")]


def test_damaged_lines_are_named_and_damage_no_other(tmp_path):
  lines = b"50,x\n50,x,PA,9\n" + b'50,"x,PA\n' + b"5\0,x,PA\n" + b"5\xff,x,PA\n"
  path = write(tmp_path / "table.csv", TABLE + lines + b"52,z,LL\n")
  oddities = []
  assert [study for study, _ in read(path, oddities)] == ["50", "51", "52"]
  assert {oddity.kind for oddity in oddities} == {"line damaged"}
  assert [o.where for o in oddities] == [f"table.csv:{line}" for line in range(4, 9)]
  with pytest.raises(ValueError, match=r"table\.csv: line 4 does not fit"):
    read(path)


@pytest.mark.parametrize("kept", [-6, 30, 12], ids=["no sum", "cut", "hardly begun"])
def test_cut_gzip(tmp_path, kept):
  path = write(tmp_path / "t.csv.gz", gzip.compress(TABLE)[:kept])
  with pytest.raises(ValueError, match=r"t\.csv\.gz: .*interrupted download"):
    read(path)


def test_damaged_gzip(tmp_path):
  content = bytearray(gzip.compress(TABLE))
  content[-6] ^= 1
  path = write(tmp_path / "t.csv.gz", bytes(content))
  with pytest.raises(ValueError, match="damaged"):
    read(path)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"subject_id,view\n", "has no column study_id; its columns are subject_id, view"),
    (b"", "has no column study_id, view; its columns are none"),
    (b"<!DOCTYPE html>\n<p>Sign in</p>\n", "is a web page, not a table"),
  ],
)
def test_wrong_columns(tmp_path, content, message):
  with pytest.raises(ValueError, match=message) as raised:
    read(write(tmp_path / "t.csv", content))
  assert "t.csv" in str(raised.value)
  assert "\n" not in str(raised.value)


def test_newest_version_is_found(tmp_path):
  pattern = "mimic-cxr-*split.csv"
  assert tables.search(tmp_path, pattern) is None
  for name in (
    "2.9.0-split.csv",
    "2.10.0-split.csv.gz",
    "split.csv",
    "3.0-split.csv.x",
  ):
    write(tmp_path / f"mimic-cxr-{name}")
  newest = tmp_path / "mimic-cxr-2.10.0-split.csv.gz"
  assert tables.find(tmp_path, pattern, "table") == newest
  plain = write(newest.with_suffix(""))
  assert tables.find(tmp_path, pattern, "table") == plain


def test_what_is_not_found_is_named(tmp_path):
  with pytest.raises(
    OSError, match=r"has no table of films: films\.csv or films.csv.gz"
  ):
    tables.find(tmp_path, "films.csv", "table of films")
  with pytest.raises(OSError, match="is no folder"):
    tables.find(tmp_path / "nowhere", "films.csv", "table of films")
  with pytest.raises(OSError, match="nowhere: cannot be read"):
    read(tmp_path / "nowhere")
