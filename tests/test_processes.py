"""Runs of several processes: the same as one process's, told to end and gone on.

Each trains the tiny config on eight devices, however these are spread.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import micro

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
FLAGS = (
  "--config=configs/priorrg.py:tiny",
  "--config.pretrain.num_epochs=1",
  "--config.finetune.num_epochs=1",
  "--config.finetune.validation_studies=16",
  "--config.text.report_length=32",
  "--config.checkpoint.every=4",
  "--config.log_every=1",
)
DEVICES = 8


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
  """Starts `main` as so many processes; all runs read the same data."""
  folder = tmp_path_factory.mktemp("processes")

  def start(workdir, processes):
    shared = {"TFDS_DATA_DIR": str(folder / "data"), "XLA_FLAGS": ""}
    command = [sys.executable, "launch/local.py", str(processes)]
    command += [f"--devices={DEVICES // processes}", "--", *FLAGS]
    # To a file: a pipe that nobody reads holds up who writes.
    said = pathlib.Path(f"{workdir}.{processes}.log")
    with said.open("w") as output:
      process = subprocess.Popen(
        [*command, f"--workdir={workdir}"],
        cwd=ROOT,
        env=os.environ | shared,
        stdout=output,
        stderr=subprocess.STDOUT,
      )
    process.said = said
    return process

  return start


def finish(process):
  status, output = process.wait(), process.said.read_text()
  assert status == 0, output[-3000:]
  return output


@pytest.fixture(scope="module")
def alone(launch, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("alone") / "run"
  finish(launch(workdir, 1))
  return workdir


def assert_alike(workdir, other):
  """The same steps, reports and scores; losses may differ by rounding."""
  for stage in ("pretrain", "finetune"):
    mine, theirs = micro.rows(workdir / stage), micro.rows(other / stage)
    assert [row["step"] for row in mine] == [row["step"] for row in theirs]
    for key in ("loss", "grad_norm"):
      np.testing.assert_allclose(
        [row[key] for row in mine], [row[key] for row in theirs], rtol=1e-4
      )
  told = [
    list(map(json.loads, (run / "eval/predictions.jsonl").read_text().splitlines()))
    for run in (workdir, other)
  ]
  assert told[0] == told[1]  # Every study, and each once.
  assert len({row["id"] for row in told[0]}) == len(told[0])
  scores = ((run / "eval/metrics.json").read_bytes() for run in (workdir, other))
  assert len(set(scores)) == 1


def test_two_processes_are_as_one(launch, alone, tmp_path):
  output = finish(launch(tmp_path / "run", 2))
  assert_alike(tmp_path / "run", alone)
  # One of them tells, and writes.
  assert not [s for s in output.splitlines() if s.startswith("[1] pretrain ")]


def test_told_to_end_they_save_and_others_go_on(launch, alone, tmp_path):
  """Two processes begin, all of which get the notice; four go on, then one does."""
  workdir = tmp_path / "run"
  for processes, stage, least in ((2, "pretrain", 1), (4, "finetune", 2)):
    process = launch(workdir, processes)
    while micro.steps(workdir / stage) < least:
      assert process.poll() is None, process.said.read_text()[-3000:]
      time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert "which is saved: the same command goes on" in finish(process)
    assert micro.steps(workdir / stage) < micro.steps(alone / stage)
  finish(launch(workdir, 1))
  assert_alike(workdir, alone)
