"""A run of processes that are killed with signal 9, against one that is left alone."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import micro
from data_pipelines import datasets
from test_runs import assert_same_run

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
FLAGS = (
  "--config=configs/priorrg.py:tiny",
  "--config.finetune.num_epochs=2",
  "--config.finetune.validation_studies=16",
  "--config.text.report_length=32",
  "--config.decode.num_beams=2",
  "--config.checkpoint.every=4",
  "--config.log_every=1",
)


class Run:
  """A workdir, a folder of data sets, and the processes that fill them."""

  def __init__(self, folder: pathlib.Path, compiled: pathlib.Path):
    self.workdir, self.data = folder / "run", folder / "data"
    self._log = folder / "log.txt"
    folder.mkdir()
    self._environment = os.environ | {
      "TFDS_DATA_DIR": str(self.data),
      "JAX_COMPILATION_CACHE_DIR": str(compiled),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "XLA_FLAGS": "",  # One device.
    }

  def start(self) -> subprocess.Popen:
    command = [sys.executable, "-m", "jaxrg.main", *FLAGS, f"--workdir={self.workdir}"]
    with self._log.open("a") as log:
      return subprocess.Popen(
        command, cwd=ROOT, env=self._environment, stdout=log, stderr=log
      )

  def finish(self) -> None:
    assert self.start().wait() == 0, self._log.read_text()[-2000:]

  def kill(self, when, delay=0.0) -> None:
    """Runs until `when` says so, and kills."""
    process = self.start()
    while not when(self):
      assert process.poll() is None, self._log.read_text()[-2000:]
      time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    assert process.wait() == -signal.SIGKILL

  def steps(self, stage) -> int:
    return micro.steps(self.workdir / stage)

  def has(self, pattern) -> bool:
    return any(self.workdir.glob(pattern))


def saving(stage, step):
  return lambda run: run.has(f"{stage}/checkpoints/{step}.*tmp*")


KILLS = (
  ("building", lambda run: any(run.data.glob("thorax/tiny/incomplete.*"))),
  ("writing the data", lambda run: any(run.data.glob("thorax/tiny/incomplete.*/*"))),
  ("tokenizing", lambda run: (run.workdir / "config.json").exists()),
  ("the first step", lambda run: run.steps("pretrain") >= 1),
  ("the first save", saving("pretrain", 4)),
  ("a step after a save", lambda run: run.steps("pretrain") >= 5),
  ("a save with a score", saving("pretrain", 6)),
  ("step 9", lambda run: run.steps("pretrain") >= 9),
  ("the last save", saving("pretrain", 12)),
  ("the first export", lambda run: run.has("pretrain/export.unfinished")),
  ("between the stages", lambda run: run.has("pretrain/export")),
  ("starting stage 2", lambda run: run.has("finetune")),
  ("step 3 of stage 2", lambda run: run.steps("finetune") >= 3),
  ("a save of stage 2", saving("finetune", 8)),
  ("step 10 of stage 2", lambda run: run.steps("finetune") >= 10),
  ("step 14 of stage 2", lambda run: run.steps("finetune") >= 14),
  ("step 20 of stage 2", lambda run: run.steps("finetune") >= 20),
  ("the last export", lambda run: run.has("export.unfinished/variables/*")),
  ("decoding", lambda run: run.has("export"), 1.0),
  ("scoring", lambda run: run.has("eval/predictions.jsonl")),
)


def test_killed_at_every_turn_and_run_again(tmp_path):
  alone = Run(tmp_path / "alone", tmp_path / "compiled")
  alone.finish()
  killed = Run(tmp_path / "killed", tmp_path / "compiled")
  for name, *how in KILLS:
    print(f"{time.strftime('%X')} {name}", flush=True)
    killed.kill(*how)
  killed.finish()
  assert_same_run(killed.workdir, alone.workdir)
  assert killed.steps("finetune") == 24
  for split in ("train", "validation", "test"):
    mine, theirs = (
      datasets.load("thorax/tiny", split, run.data) for run in (killed, alone)
    )
    assert len(mine) == len(theirs)
    for i in range(len(mine)):
      np.testing.assert_equal(mine[i], theirs[i])
