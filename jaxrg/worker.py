"""Metrics that live in environments of their own, asked over a pipe.

RadGraph, RadCliQ, RaTEScore, GREEN and BERTScore need versions of torch, transformers
and numpy that exclude one another's, and some exclude JAX's: none is a dependency. A
user makes an environment from the lines that are shipped, and names its Python. What
dies, hangs or answers with something else is reported, never waited for.
"""

import contextlib
import json
import os
import pathlib
import queue
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxrg.metrics import intervals, predictions
from jaxrg.metrics.rendering import Table, number

FOLDER = pathlib.Path(__file__).parent / "workers"
IDLE = 900.0  # Seconds without a word after which a worker hangs; it may load a model.
POLL = 2.0  # Seconds after which a silent worker is asked if it still runs.
WORDS = 300  # Characters of its last line that are told.
# Whatever a line can be that is no answer; some of JSON's numbers are no float.
_RUBBISH = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
_RUBBISH += (OverflowError,)
LOWER = frozenset({"radcliq_v1"})  # All others are the better the higher.


class Worker(NamedTuple):
  """A script of `workers/`, and what its environment is made of."""

  script: str
  requirements: Sequence[str]
  note: str = ""


WORKERS: Mapping[str, Worker] = {
  "radgraph": Worker(
    "run_radgraph.py", ("radgraph==0.1.18", "transformers<5", "torch", "requests")
  ),
  "bertscore": Worker("run_bertscore.py", ("bert-score==0.3.13", "transformers<5")),
  "ratescore": Worker(
    "run_ratescore.py", ("ratescore==0.6.0", "medspacy==1.3.1", "numpy<2", "torch")
  ),
  "green": Worker(
    "run_green.py", ("green-score",), "Python 3.12.1 alone; 14 GB of GPU memory"
  ),
  "radcliq": Worker("run_radcliq.py", ("RadEval", "transformers>=5")),
}


def run(
  name: str,
  python: str | os.PathLike,
  rows: Sequence[Mapping],
  *,
  idle: float = IDLE,
  resamples: int = 1000,
  seed: int = 0,
) -> dict:
  """The scores of a worker: n, direction and {value, low, high} of each metric.

  Raises ValueError, with the worker's own last words, where it cannot be started,
  dies, says nothing for `idle` seconds, answers with anything else than scores, or
  leaves a report out; it is then no longer running.
  """
  worker = WORKERS[name]
  command = [python, FOLDER / "serving.py", FOLDER / worker.script]
  answers = _asked(name, list(map(str, command)), rows, idle)
  metrics = sorted({key for scores in answers.values() for key in scores})
  for row, scores in answers.items():
    if lacking := [metric for metric in metrics if metric not in scores]:
      raise ValueError(f"Worker {name} gives no {lacking[0]} for report {row!r}.")
  options = {"resamples": resamples, "seed": seed}
  options["clusters"] = predictions.patients(rows)
  told = {}
  for metric in metrics:
    each = np.array([answers[row["id"]][metric] for row in rows])
    sums = np.stack([each, np.ones_like(each)], axis=1)
    found = intervals.bootstrap(sums, intervals.mean, **options)._asdict()
    better = "lower" if metric in LOWER else "higher"
    told[metric] = found | {"n": len(rows), "better": better}
  return told


def _asked(
  name: str, command: Sequence[str], rows: Sequence[Mapping], idle: float
) -> dict[str, dict[str, float]]:
  """What a program answers about each row, by id."""
  asked = [{k: row[k] for k in ("id", "reference", "prediction")} for row in rows]
  try:
    program = subprocess.Popen(
      command,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      encoding="utf-8",
      errors="replace",
      start_new_session=True,  # So that what it starts can be ended with it.
    )
  except OSError as error:
    raise ValueError(f"Worker {name}: {command[0]}: {error.strerror}.") from error
  lines: queue.Queue[str | None] = queue.Queue()
  errors: list[str] = []
  threads = (
    threading.Thread(target=_feed, args=(program.stdin, asked), daemon=True),
    threading.Thread(target=_listen, args=(program.stdout, lines), daemon=True),
    threading.Thread(target=errors.extend, args=(program.stderr,), daemon=True),
  )
  for thread in threads:
    thread.start()
  found: dict[str, dict[str, float]] = {}
  wanted = {row["id"] for row in rows}
  try:
    while len(found) < len(wanted):
      line = _next_line(program, lines, idle)
      if line is None and program.poll() is None:
        raise _failure(name, f"said nothing for {idle:g} s", errors)
      if line is None:
        threads[-1].join(timeout=1)
        many = f"{len(found)} of {len(wanted)} reports"
        raise _failure(name, f"{_end(program.returncode)} after {many}", errors)
      found |= _answer(name, line, wanted - found.keys())
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(program.pid, signal.SIGKILL)
    program.wait()
  return found


def _next_line(
  program: subprocess.Popen, lines: queue.Queue, idle: float
) -> str | None:
  """A program's next line; None when it is silent for long, or has ended.

  Its end is asked for too: a process that it started may hold the pipe open.
  """
  deadline = time.monotonic() + idle
  while (left := deadline - time.monotonic()) > 0:
    ended = program.poll() is not None
    try:
      line = lines.get(timeout=min(left, POLL))
    except queue.Empty:
      if ended:
        return None
      continue
    if line is None:
      program.wait()
    return line
  return None


def _end(code: int) -> str:
  return f"ended with {code}" if code >= 0 else f"was killed by signal {-code}"


def _feed(stdin, rows: Sequence[Mapping]) -> None:
  try:
    with stdin:
      stdin.writelines(json.dumps(row) + "\n" for row in rows)
  except OSError:
    pass  # It has died; how, the other pipes tell.


def _listen(stdout, lines: queue.Queue) -> None:
  for line in stdout:
    lines.put(line)
  lines.put(None)


def _answer(name: str, line: str, wanted: set[str]) -> dict[str, dict[str, float]]:
  try:
    told = json.loads(line)
    scores = {str(k): float(v) for k, v in told["scores"].items()}
    row = str(told["id"])
  except _RUBBISH:
    raise ValueError(f"Worker {name} answers rubbish: {line.strip()[:80]!r}.") from None
  if row not in wanted:
    raise ValueError(f"Worker {name} answers {row[:80]!r}, twice or unasked.")
  if not scores or not all(map(np.isfinite, scores.values())):
    raise ValueError(f"Worker {name} answers rubbish: {line.strip()[:80]!r}.")
  return {row: scores}


def _failure(name: str, what: str, errors: Sequence[str]) -> ValueError:
  said = [line.strip()[:WORDS] for line in list(errors) if line.strip()]
  needs = shlex.join(WORKERS[name].requirements)  # "<" is a redirection, else.
  note = WORKERS[name].note and f" ({WORKERS[name].note})"
  return ValueError(
    f"Worker {name} {what}: {said[-1] if said else 'no word of why'}. Its environment: "
    f"pip install {needs}{note}."
  )


def table(name: str, told: Mapping[str, Mapping]) -> Table:
  """The table of what `run` gives."""
  rows = [
    (metric, number(row, interval=True), f"{row['better']} is better", str(row["n"]))
    for metric, row in told.items()
  ]
  note = f"By the worker's own environment: {' '.join(WORKERS[name].requirements)}."
  return Table(f"Worker {name}", note, ["mean [95 %]", "direction", "n"], rows)
