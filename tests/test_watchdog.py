"""A run that hangs ends, and says who was late."""

import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest

from jaxrg import watchdog

HANG = """
import sys, threading
from jaxrg import watchdog
with watchdog.Watchdog({folder!r}, {timeout}, 3) as dog:
  dog.beat(4)
  {then}
"""


def run(tmp_path, then, timeout=0.5):
  program = HANG.format(folder=str(tmp_path), timeout=timeout, then=then)
  return subprocess.run(
    [sys.executable, "-c", program],
    cwd=pathlib.Path(__file__).parents[1],
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    timeout=120,
  )


def test_a_step_that_never_ends_ends_the_process(tmp_path):
  ended = run(tmp_path, "threading.Event().wait()")
  assert ended.returncode == watchdog.STATUS
  assert "error: no step for 0.5 s after step 4: all processes wait" in ended.stderr
  assert json.loads((tmp_path / "heartbeats/0.json").read_text())["step"] == 4


def test_the_late_one_is_named(tmp_path):
  """Another process's beat lies there, of a step before."""
  beats = tmp_path / "heartbeats"
  beats.mkdir()
  (beats / "1.json").write_text('{"step": 4, "time": 1e12, "host": "b"}')
  then = "import jax; jax.process_count = lambda: 2; dog.beat(3); "
  ended = run(tmp_path, then + "threading.Event().wait()")
  assert ended.returncode == watchdog.STATUS
  assert f"process 0 on {os.uname().nodename} is at step 3, others at 4" in ended.stderr


def test_validation_takes_what_it_takes(tmp_path):
  """The wait is as long as it takes two beats to be told, more than a timeout."""
  then = (
    "import time\n"
    "  with dog.paused():\n"
    "    end = time.monotonic() + 1.5\n"
    "    while time.monotonic() < end: pass\n"
    "  print('done')"
  )
  ended = run(tmp_path, then)
  assert (ended.returncode, ended.stdout) == (0, "done\n")


def beat(step, time=100.0, host="h"):
  return {"step": step, "time": time, "host": host}


@pytest.mark.parametrize(
  ("beats", "said"),
  [
    ({0: beat(5), 1: beat(5)}, "all processes wait"),
    ({0: beat(5), 1: beat(4, host="b")}, "process 1 on b is at step 4, others at 5"),
    ({0: beat(5)}, "process 1 no longer told of itself"),
    ({0: beat(5), 1: beat(5, time=1.0)}, "process 1 on h no longer told of itself"),
    # Of a run with more processes, before.
    ({0: beat(5), 1: beat(4), 2: beat(1, time=1.0)}, "process 1 on h is at step 4"),
  ],
)
def test_who_is_late(beats, said):
  assert watchdog.late(beats, 2, 110.0, 30.0).startswith(said)


def test_what_is_torn_is_not_read(tmp_path):
  (tmp_path / "0.json").write_text('{"step"')
  (tmp_path / "1.json").write_text('{"step": 2, "time": 1, "host": "a"}')
  assert watchdog.read(tmp_path) == {1: {"step": 2, "time": 1, "host": "a"}}


def test_no_thread_is_left(tmp_path):
  before = threading.active_count()
  with watchdog.Watchdog(tmp_path, 60, 0):
    assert threading.active_count() == before + 1
  assert threading.active_count() == before
