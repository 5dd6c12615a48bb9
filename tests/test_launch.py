"""Several processes of one machine, started and ended together."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

LOCAL = pathlib.Path(__file__).parents[1] / "launch/local.py"


def launch(folder, program, *arguments):
  (folder / "verb.py").write_text(f"import os, sys, time\n{program}\n")
  command = [sys.executable, str(LOCAL), *arguments]
  path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
  env = os.environ | {"PYTHONPATH": path}
  run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
  return run.returncode, run.stdout.splitlines(), run.stderr


def test_each_is_told_who_it_is(tmp_path):
  program = "print(os.environ['JAX_PLATFORMS'], os.environ['XLA_FLAGS'], *sys.argv[1:])"
  status, lines, _ = launch(
    *(tmp_path, program, "2", "--devices=4", "--verb=verb", "--", "--config=a")
  )
  assert status == 0
  first, second = sorted(lines)
  for number, line in enumerate((first, second)):
    prefix, platform, *_, devices, multihost, coordinator, count, own, config = (
      line.split()
    )
    assert (prefix, platform, multihost) == (f"[{number}]", "cpu", "--multihost")
    assert devices == "--xla_force_host_platform_device_count=4"
    assert (count, own) == ("--num_processes=2", f"--process_id={number}")
    assert config == "--config=a"
    assert coordinator in second


def test_one_that_fails_ends_all_with_its_status(tmp_path):
  program = "sys.exit(3) if '--process_id=1' in sys.argv else time.sleep(100)"
  began = time.monotonic()
  status, _, _ = launch(tmp_path, program, "3", "--verb=verb")
  assert status == 3
  assert time.monotonic() - began < 60


@pytest.mark.parametrize("arguments", [("0",), ("2", "--devices=0"), ("two",)])
def test_what_cannot_be_counted_is_refused(tmp_path, arguments):
  status, lines, errors = launch(tmp_path, "", *arguments)
  assert (status, lines) == (2, [])
  assert "Traceback" not in errors
