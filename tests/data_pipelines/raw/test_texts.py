import zipfile

import pytest

from data_pipelines.raw import texts

PATIENT, STUDY = "10000032", "50414267"
NAME = f"files/p10/p{PATIENT}/s{STUDY}.txt"


def archive(tmp_path, *named):
  path = tmp_path / "mimic-cxr-reports.zip"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
    for name, content in named:
      file.writestr(name, content)
  return path


def unpacked(tmp_path, *named):
  for name, content in named:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  return tmp_path


def read(path):
  with texts.Reports(path) as reports:
    return reports.read(PATIENT, STUDY), reports.oddities


@pytest.fixture(params=[archive, unpacked], ids=["zip", "folder"])
def make(request, tmp_path):
  return lambda *named: request.param(tmp_path, *named)


def test_report(make):
  with texts.Reports(make((NAME, b"\xef\xbb\xbfThe lungs\r\nare clear.\r"))) as reports:
    assert reports.read(PATIENT, STUDY) == "The lungs\nare clear.\n"
    assert reports.read(PATIENT, "50000000") is None
    assert reports.read("12345678", STUDY) is None
    assert list(reports.keys()) == [(PATIENT, STUDY)]
    assert not reports.oddities


@pytest.mark.parametrize(
  ("content", "text", "kind"),
  [
    (b"", "", "empty report"),
    (b" \n\0", "", "empty report"),
    (b"x" * (texts.MAX_BYTES + 1), "", "report too large"),
    (b"Caf\xe9.", "Caf\xe9.", "report not UTF-8"),
    (b"No\0 acute\x07 process\x1b[31m.\t", "No acute process[31m.\t", ""),
  ],
)
def test_odd_report(make, content, text, kind):
  found, oddities = read(make((NAME, content)))
  assert found == text
  assert [(o.kind, o.where) for o in oddities] == ([(kind, STUDY)] if kind else [])


def test_nothing_is_opened_before_it_is_asked_for(tmp_path):
  reports = texts.Reports(tmp_path / "nowhere.zip")
  with pytest.raises(OSError, match=r"nowhere\.zip: cannot be read"):
    reports.read(PATIENT, STUDY)


@pytest.mark.parametrize("inner", ["", "files", "mimic-cxr-reports/files"])
def test_folder_is_found_wherever_it_was_unpacked(tmp_path, inner):
  (tmp_path / inner).mkdir(parents=True, exist_ok=True)
  unpacked(tmp_path / inner, (NAME.removeprefix("files/"), b"Clear."))
  assert texts.has_reports(tmp_path)
  assert read(tmp_path)[0] == "Clear."


def test_folder_of_images_has_no_reports(tmp_path):
  unpacked(
    tmp_path, (NAME.replace(".txt", "/image.jpg"), b""), ("files/p10/notes", b"")
  )
  assert not texts.has_reports(tmp_path)
  assert not texts.has_reports(tmp_path / "files" / "p10")


def test_members_outside_the_root_are_left_alone(tmp_path):
  outside = (f"../{NAME}", f"/{NAME}", f"files/../../{NAME}")
  other = (NAME.replace("/s", "/._s"), "files/p10/index.html", NAME.replace("/", "\\"))
  named = [(name, b"not this") for name in outside + other]
  text, oddities = read(archive(tmp_path, *named, (NAME, b"Clear.")))
  assert text == "Clear."
  assert [oddity.kind for oddity in oddities] == ["path outside the root"] * 3


@pytest.mark.parametrize("keep", [0, 30, -30], ids=["empty", "begun", "cut"])
def test_cut_archive(tmp_path, keep):
  path = archive(tmp_path, (NAME, b"Clear."))
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(ValueError, match="damaged zip archive") as raised:
    read(path)
  assert "\n" not in str(raised.value)


def test_damaged_member(tmp_path):
  path = archive(tmp_path, (NAME, b"The lungs are clear."))
  content = bytearray(path.read_bytes())
  content[30 + len(NAME) + 4] ^= 0xFF
  path.write_bytes(bytes(content))
  with pytest.raises(ValueError, match=f"damaged zip archive at {NAME}"):
    read(path)


def test_no_reports_at_all(make):
  path = make(("files/index.html", b"x"))
  with pytest.raises((OSError, ValueError), match="holds no reports like files/p10/"):
    read(path)
