"""The verb that prepares real data, seen from outside, and given what is wrong."""

import gzip
import shutil
import subprocess
import sys
import zipfile

import pytest

import fake_mimic


def prepare(root, *arguments, dataset="mimic_cxr"):
  command = [sys.executable, "-m", "data_pipelines.prepare", dataset, *arguments]
  run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
  return run.returncode, run.stdout, run.stderr


@pytest.fixture(scope="module")
def download(tmp_path_factory):
  root = tmp_path_factory.mktemp("mimic")
  fake_mimic.build(root, studies=20)
  return root


@pytest.fixture
def copy(download, tmp_path):
  return shutil.copytree(download, tmp_path / "download")


def test_a_dry_run_tells_all_and_writes_nothing(download, tmp_path, request):
  before = sorted(download.rglob("*"))
  status, told, errors = prepare(
    request.config.rootpath,
    *(f"--root={download}", f"--out={tmp_path / 'out'}", "--dry_run"),
  )
  assert status == 0
  assert "about 0.00" in told.splitlines()[0]
  for part in ("What is left, step by step", "Whether priors are earlier", "Labels"):
    assert part in told
  assert max(map(len, told.splitlines()[1:])) <= 88
  assert "Traceback" not in errors
  assert not (tmp_path / "out").exists()
  assert sorted(download.rglob("*")) == before


def test_it_ends_with_how_to_train(download, tmp_path, request):
  status, told, errors = prepare(
    request.config.rootpath,
    *(f"--root={download}", f"--out={tmp_path}", "--size=32", "--min_words=4"),
  )
  assert status == 0, errors
  name = "mimic_cxr/ours-min_words-4_32"
  assert f"--config.data.name={name} --config.data.data_dir={tmp_path}" in told
  assert (tmp_path / name / "audit.json").exists()
  assert "warning" not in errors.lower()


def test_faults_of_the_command_line_are_one_line(download, tmp_path, request):
  """Wrong flags, in one process each: what follows is tried without a process."""
  for arguments, message in (
    ((), "--root"),
    ((f"--root={tmp_path / 'none'}",), "there is no such folder"),
    (
      (f"--root={download}", "--preset=best"),
      "no preset 'best'; known: ours, r2gen, priorrg",
    ),
    ((f"--root={download}", "--views=PA,OBLIQUE"), "known are PA, AP, LATERAL"),
  ):
    status, told, errors = prepare(request.config.rootpath, *arguments)
    assert status == 1
    assert message in errors
    assert "Traceback" not in errors
    assert not told
  status, _, errors = prepare(
    request.config.rootpath, f"--root={download}", dataset="chexpert"
  )
  assert (status, errors.count("\n")) == (1, 1)
  assert "one of mimic_cxr, mimic_abn, iu_xray, not chexpert" in errors


@pytest.mark.parametrize(
  ("spoil", "message"),
  [
    (lambda root: shutil.rmtree(root / "files"), "has no folder files/"),
    (
      lambda root: next(root.glob("*metadata.csv.gz")).unlink(),
      "mimic-cxr-*metadata.csv or mimic-cxr-*metadata.csv.gz was expected right in it",
    ),
    (
      lambda root: next(root.glob("*split.csv.gz")).write_bytes(
        gzip.compress(b"dicom_id,study_id,subject_id\na,b,c\n")
      ),
      "has no column split",
    ),
    (
      lambda root: cut(next(root.glob("*metadata.csv.gz"))),
      "is a damaged or cut gzip file",
    ),
    (lambda root: shutil.rmtree(root / "mimic-cxr-reports"), "has no reports"),
    (
      lambda root: (
        shutil.rmtree(root / "mimic-cxr-reports"),
        (root / "mimic-cxr-reports.zip").write_bytes(b"PK\3\4 cut"),
      ),
      "is a damaged zip archive",
    ),
    (
      lambda root: [path.unlink() for path in root.glob("files/**/*.jpg")],
      "of the images none is there",
    ),
  ],
)
def test_a_wrong_or_cut_download_is_one_line(copy, request, tmp_path, spoil, message):
  spoil(copy)
  status, _, errors = prepare(
    request.config.rootpath, f"--root={copy}", f"--out={tmp_path / 'out'}"
  )
  assert status == 1
  last = errors.splitlines()[-1]
  assert last.startswith("error: ")
  assert message in last
  assert str(copy) in last
  assert "Traceback" not in errors
  assert not (tmp_path / "out").exists()


def cut(path):
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])


def test_a_zip_bomb_costs_a_report_and_no_memory(copy, request, tmp_path):
  archive = copy / "mimic-cxr-reports.zip"
  reports = sorted((copy / "mimic-cxr-reports").rglob("*.txt"))
  with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
    for number, path in enumerate(reports):
      name = str(path.relative_to(copy / "mimic-cxr-reports"))
      out.writestr(name, b"\0" * 2**28 if number == 0 else path.read_bytes())
  shutil.rmtree(copy / "mimic-cxr-reports")
  assert archive.stat().st_size < 2**20
  status, told, errors = prepare(request.config.rootpath, f"--root={copy}", "--dry_run")
  assert status == 0, errors
  assert "report too large" in told
