"""The shell scripts of launch/: what they would run, and what they refuse."""

import os
import pathlib
import shlex
import shutil
import subprocess

import pytest

LAUNCH = pathlib.Path(__file__).parents[1] / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
RUN = ("--", "--config=configs/priorrg.py:mimic_cxr", "--workdir=gs://bucket/a run")

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def script(name, *arguments, **variables):
  env = {"PATH": os.environ["PATH"]} | variables
  command = ["bash", str(LAUNCH / name), *arguments]
  run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
  return run.returncode, run.stdout, run.stderr


def commands(stdout):
  """Each command that would have run, as its words."""
  return [shlex.split(line[2:]) for line in stdout.splitlines() if line[:2] == "+ "]


@pytest.mark.parametrize(
  ("command", "verbs"),
  [
    ("create", ["create"]),
    ("queue", ["create"]),
    ("copy", [".", "scp", "ssh"]),
    ("install", ["ssh"]),
    ("run", ["ssh"]),
    ("logs", ["ssh"]),
    ("resume", ["describe", "delete", "create", ".", "scp", "ssh", "ssh", "ssh"]),
    ("delete", ["delete"]),
  ],
)
def test_a_slice_by_steps(command, verbs):
  status, stdout, _ = script("tpu.sh", command, "--dry_run", *RUN, NAME="mine")
  assert status == 0
  found = commands(stdout)
  assert [words[4] if words[0] == "gcloud" else words[-1] for words in found] == verbs
  assert all("mine" in " ".join(words) for words in found)


def test_the_workers_get_the_flags_as_they_were_given(tmp_path):
  """Through two shells: what the worker's would run is run here."""
  *_, words = commands(script("tpu.sh", "run", "--dry_run", *RUN)[1])
  remote = words[-1].removeprefix("--command=")
  python = tmp_path / "venv/bin/python"
  python.parent.mkdir(parents=True)
  python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
  python.chmod(0o755)
  (tmp_path / "jaxrg").mkdir()
  remote = remote.replace(" &)", ")")  # To be waited for.
  subprocess.run(["bash", "-c", remote], cwd=tmp_path, check=True, timeout=60)
  assert (tmp_path / "run.log").read_text().splitlines() == [
    "-m",
    "jaxrg.main",
    "--multihost",
    *RUN[1:],
    "status 0",
  ]


def test_spot_is_asked_for():
  _, stdout, _ = script("tpu.sh", "create", "--dry_run", SPOT="true")
  assert "--spot" in commands(stdout)[0]


def test_a_job_set_quotes_its_flags():
  _, stdout, _ = script("gke.sh", "apply", "--dry_run", "--", "--a=it's", IMAGE="i:1")
  assert "- '--a=it''s'" in stdout
  assert commands(stdout) == [["kubectl", "apply", "-f", "-"]]


def test_slurm_is_told_before_the_end_and_queues_again():
  _, stdout, _ = script("slurm.sh", "--dry_run", *RUN, NODES="4", GPUS="2")
  (words,) = commands(stdout)
  assert {"--nodes=4", "--ntasks-per-node=2", "--requeue"} <= set(words)
  assert "--signal=B:USR1@300" in words
  assert "scancel --signal=TERM" in stdout
  assert "--workdir=gs://bucket/a\\ run" in stdout


def test_a_node_tries_again(tmp_path):
  """The second try ends well, so there is no third."""
  python = tmp_path / "python"
  python.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/said\n[ -e {tmp_path}/once ]\n')
  python.chmod(0o755)
  status, *_ = script("gpu.sh", *RUN, PYTHON=str(python), TRIES="3")
  assert (status, (tmp_path / "said").read_text().count("jaxrg.main")) == (1, 3)
  (tmp_path / "once").touch()
  assert script("gpu.sh", *RUN, PYTHON=str(python))[0] == 0
  assert (tmp_path / "said").read_text().count("jaxrg.main") == 4


@pytest.mark.parametrize(
  ("name", "arguments", "message"),
  [
    ("tpu.sh", (), "COMMAND is create"),
    ("tpu.sh", ("run", "--dry_run"), "needs the flags of jaxrg.main"),
    ("tpu.sh", ("run", "--config=a"), "unknown argument --config=a"),
    ("gke.sh", ("apply", *RUN), "IMAGE"),
    ("slurm.sh", (), "flags of jaxrg.main are needed"),
    ("gpu.sh", ("--dry-run",), "unknown argument --dry-run"),
  ],
)
def test_what_they_refuse(name, arguments, message):
  status, _, stderr = script(name, *arguments)
  assert status == 1
  assert stderr.startswith("error: ")
  assert message in stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_shellcheck():
  command = ["shellcheck", "-x", *map(str, SCRIPTS)]
  run = subprocess.run(
    command, cwd=LAUNCH.parent, capture_output=True, text=True, timeout=60
  )
  assert (run.returncode, run.stdout) == (0, "")
