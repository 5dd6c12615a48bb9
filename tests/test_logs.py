"""What is logged: every step once, whatever happened to the process before."""

import json

import jax
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


def test_saving_is_told_beside_the_steps(tmp_path):
  with open_log(tmp_path) as log:
    add(log, 1)
    log.flush()
    with log.saving():
      pass
    add(log, 2)
    log.flush()
    first, second = rows(tmp_path)
  assert first["checkpoint_seconds"] == 0
  assert second["checkpoint_seconds"] > 0
  assert second["compute"] + second["data_wait"] == pytest.approx(1)
  assert second["memory_gb"] > 0.01


def test_utilisation_is_of_the_devices_peak(monkeypatch):
  assert "mfu" not in logs.utilisation(1e12)
  monkeypatch.setattr(logs.peaks, "peak", lambda kind: 1e12)
  told = logs.utilisation(2e12)
  assert told["tflops_per_second"] == 2
  assert told["mfu"] == pytest.approx(2 / jax.device_count())


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_trace_is_of_so_many_steps_once_all_is_compiled(tmp_path, monkeypatch, steps):
  told = []
  monkeypatch.setattr(jax.profiler, "start_trace", lambda path: told.append("start"))
  monkeypatch.setattr(jax.profiler, "stop_trace", lambda: told.append("stop"))
  trace = logs.Trace(tmp_path, steps)
  for step in range(9):
    trace.step({"loss": jnp.float32(step)})
    told.append(step)
  assert told[:2] == [0, *(["start"] if steps else [1])]
  inside = told[told.index("start") + 1 : told.index("stop")] if steps else []
  assert inside == [1 + i for i in range(steps)]
  assert told.count("start") == told.count("stop") == bool(steps)
