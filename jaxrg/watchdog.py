"""Ends a run that hangs, and says who: a step of many processes waits for the slowest.

Every process tells in the run's folder how far it is. One that has not finished a step
in time reads what all have told, names who is behind or silent, and ends, as all do.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator

import jax
from etils import epath

from data_pipelines import files

STATUS = 75  # "Try again", by sysexits.h: the same command goes on.
PARTS = 10  # How often a beat is told in the time that a step may take.


class Watchdog:
  """Watches the steps of this process, between `beat`s; 0 seconds: it only tells."""

  def __init__(self, directory: epath.PathLike, timeout: float, step: int):
    self._folder = epath.Path(directory) / "heartbeats"
    self._timeout, self._step = timeout, step
    self._since: float | None = None  # None: nobody is to be waited for.
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)

  def beat(self, step: int) -> None:
    """Notes that `step` is done; from the first one on the next may be late."""
    self._step, self._since = step, time.monotonic()

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Within it nothing is late: validation takes what it takes."""
    since, self._since = self._since, None
    try:
      yield
    finally:
      self._since = since and time.monotonic()

  def _watch(self) -> None:
    self._tell()
    pause = min(self._timeout / PARTS, 30) if self._timeout else 30
    while not self._ended.wait(pause):
      self._tell()
      since = self._since
      if self._timeout and since and time.monotonic() - since > self._timeout:
        self._end()

  def _tell(self) -> None:
    mine = {"step": self._step, "time": time.time(), "host": os.uname().nodename}
    with contextlib.suppress(OSError):  # What cannot be told is no reason to end.
      self._folder.mkdir(parents=True, exist_ok=True)
      files.write(self._folder / f"{jax.process_index()}.json", json.dumps(mine))

  def _end(self) -> None:
    """Ends the process: what hangs would not hear of an exception."""
    beats = read(self._folder)
    silent = 3 * max(self._timeout / PARTS, 1)
    found = late(beats, jax.process_count(), time.time(), silent)
    print(
      f"error: no step for {self._timeout:g} s after step {self._step}: {found}. "
      "The same command goes on from the newest checkpoint.",
      file=sys.stderr,
      flush=True,
    )
    os._exit(STATUS)

  def __enter__(self) -> "Watchdog":
    self._thread.start()
    return self

  def __exit__(self, *_) -> None:
    self._ended.set()
    self._thread.join()


def read(folder: epath.Path) -> dict[int, dict]:
  """What each process has told last."""
  beats = {}
  for path in folder.glob("*.json"):
    with contextlib.suppress(OSError, ValueError):
      beats[int(path.stem)] = json.loads(path.read_text())
  return beats


def late(beats: dict[int, dict], count: int, now: float, silent: float) -> str:
  """Who is to blame: processes that are silent, or else those that are behind."""
  lost = [number for number in range(count) if number not in beats]
  lost += [n for n, beat in beats.items() if n < count and now - beat["time"] > silent]
  if lost:
    told = [_name(n, beats.get(n)) for n in sorted(lost)]
    return f"{', '.join(told)} no longer told of itself"
  steps = {n: beat["step"] for n, beat in beats.items() if n < count}
  least, most = min(steps.values()), max(steps.values())
  if least == most:
    return "all processes wait, none is behind"
  behind = [_name(n, beats[n]) for n, step in sorted(steps.items()) if step == least]
  return f"{', '.join(behind)} is at step {least}, others at {most}"


def _name(number: int, beat: dict | None) -> str:
  return f"process {number}" + (f" on {beat['host']}" if beat else "")
