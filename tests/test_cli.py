"""How a verb ends, seen from outside."""

import subprocess
import sys

import pytest


def end_of(statement, *arguments, root):
  head = "from data_pipelines import cli\ndef main(argv):"
  program = f"{head}\n  {statement}\ncli.run(main)\n"
  command = [sys.executable, "-c", program, *arguments]
  run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
  return run.returncode, run.stderr


@pytest.mark.parametrize(
  ("statement", "message"),
  [
    ("raise ValueError('steps: 3 expected,\\n  got 2.')", "steps: 3 expected, got 2."),
    ("open('no/such/file')", "no/such/file: No such file or directory."),
    ("raise OSError(28, 'No space left on device')", "No space left on device."),
    ("raise OSError('odd')", "odd"),
  ],
)
def test_errors_a_user_can_mend(statement, message, request):
  root = request.config.rootpath
  assert end_of(statement, root=root) == (1, f"error: {message}\n")


def test_faults_of_ours_keep_their_traceback(request):
  status, stderr = end_of("{}['x']", root=request.config.rootpath)
  assert status == 1
  assert "KeyError" in stderr
  status, stderr = end_of(
    "raise ValueError('x')", "--verbosity=1", root=request.config.rootpath
  )
  assert status == 1
  assert "Traceback" in stderr


def test_status(request):
  assert end_of("pass", root=request.config.rootpath) == (0, "")
  assert end_of("return 3", root=request.config.rootpath) == (3, "")


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
@pytest.mark.parametrize(
  ("given", "seen"),
  [
    (None, ["", "glibc.malloc.hugetlb=1"]),  # Started anew, with the same arguments.
    ("glibc.malloc.check=0", ["glibc.malloc.check=0"]),
  ],
)
def test_a_verb_asks_for_huge_pages_once_unless_the_user_says_otherwise(
  request, monkeypatch, tmp_path, given, seen
):
  """What a Python sees that says so as it starts."""
  spy = "import os, sys\nprint(os.environ.get('GLIBC_TUNABLES', ''), file=sys.stderr)\n"
  (tmp_path / "sitecustomize.py").write_text(spy)
  monkeypatch.setenv("PYTHONPATH", str(tmp_path))
  monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
  if given:
    monkeypatch.setenv("GLIBC_TUNABLES", given)
  command = [sys.executable, "-m", "jaxrg.score", "no such file"]
  root = request.config.rootpath
  run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
  *starts, error = run.stderr.splitlines()
  assert starts == seen
  assert "no such file" in error


def test_a_program_that_runs_a_verb_is_not_started_anew(request, monkeypatch):
  monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
  show = "import os; raise ValueError(os.environ.get('GLIBC_TUNABLES'))"
  assert end_of(show, root=request.config.rootpath) == (1, "error: None\n")
