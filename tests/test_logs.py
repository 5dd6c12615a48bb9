"""What is logged: every step once, whatever happened to the process before."""

import json

import jax.numpy as jnp
import pytest

from jaxrg import logs


def open_log(directory, step=0, **kwargs):
  return logs.MetricsLog(directory / "stage", step, num_steps=9, batch_size=4, **kwargs)


def add(log, *steps):
  for step in steps:
    log.add(step, {"loss": jnp.float32(step / 2)}, waited=0.0)


def rows(directory):
  text = (directory / "stage/metrics.jsonl").read_text()
  return list(map(json.loads, text.splitlines()))


def test_steps_are_written_when_flushed(tmp_path):
  with open_log(tmp_path) as log:
    add(log, 1, 2)
    assert rows(tmp_path) == []
    log.flush()
    add(log, 3)
    log.flush({"validation_score": 0.25})
    log.flush()
    told = rows(tmp_path)
  assert [(row["step"], row["loss"]) for row in told] == [(1, 0.5), (2, 1), (3, 1.5)]
  assert [row.get("validation_score") for row in told] == [None, None, 0.25]
  # Of the steps since the last flush.
  assert "examples_per_second" not in told[0]
  assert told[1]["examples_per_second"] > 0
  assert 0 <= told[1]["data_wait"] <= 1


def test_a_log_goes_on_from_the_restored_step(tmp_path):
  with open_log(tmp_path) as log:
    add(log, 1, 2, 3)
    log.flush()
  with (tmp_path / "stage/metrics.jsonl").open("a") as file:
    file.write('{"step": 4, "lo')
  with open_log(tmp_path, step=2) as log:
    add(log, 3, 4)
    log.flush()
  assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4]


@pytest.mark.parametrize("torn", ['{"step": 3, "loss": 1}', "[]\n", "nonsense\n", "\n"])
def test_lines_that_are_not_whole_are_dropped(tmp_path, torn):
  with open_log(tmp_path) as log:
    add(log, 1)
    log.flush()
  with (tmp_path / "stage/metrics.jsonl").open("a") as file:
    file.write(torn)
  with open_log(tmp_path, step=3):
    pass
  assert [row["step"] for row in rows(tmp_path)] == [1]


def test_a_log_that_cannot_be_cut_stays_as_it_was(tmp_path):
  with open_log(tmp_path) as log:
    add(log, 1, 2)
    log.flush()
  (tmp_path / "stage/metrics.jsonl.unfinished").mkdir()  # In the way.
  with pytest.raises(OSError, match=r"metrics\.jsonl"):
    open_log(tmp_path, step=2)
  assert [row["step"] for row in rows(tmp_path)] == [1, 2]


def test_one_process_writes(tmp_path):
  with open_log(tmp_path, writes=False) as log:
    add(log, 1)
    log.flush()
  assert list(tmp_path.iterdir()) == []


def test_plain_lines_in_a_log_file(tmp_path, capsys):
  with open_log(tmp_path) as log:
    add(log, 1, 2)
    log.flush()
  line = capsys.readouterr().out
  assert line.startswith("stage 2/9 loss=1 ")
  assert line.count("\n") == 1


def test_a_bar_on_a_terminal(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr("sys.stderr.isatty", lambda: True)
  with open_log(tmp_path, step=2) as log:
    add(log, 3)
    log.flush()
  out, bar = capsys.readouterr()
  assert out == ""
  assert "stage" in bar
  assert "3/9" in bar
  assert "loss=1.5" in bar
