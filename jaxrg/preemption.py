"""Ends a run that is told to end, by SIGTERM: of a cluster, or of a spot machine.

What is under way in a step is finished and saved first. A stage that is not stepping
is left at once, as a kill would leave it: what is whole on disk is used again.
"""

import contextlib
import signal
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

AT_ONCE = "Stopped: the same command goes on."


class Preempted(BaseException):
  """The run was told to end, and did; its message says how far it had come.

  No Exception: no library's own recovery is to hold it up.
  """


class _Notice:
  """Whether one process, alone, was told to end, and whether it is to wait."""

  given = False
  waits = False


@contextlib.contextmanager
def heeded() -> Iterator[None]:
  """Within it SIGTERM raises Preempted, in `deferred` code only when that is done.

  Of several processes that have joined, JAX itself takes the signal, whichever of them
  is told, so that all end after the same step.
  """
  if jax.process_count() > 1:
    yield
    return
  before = signal.signal(signal.SIGTERM, _note)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)
    _Notice.given = False


def _note(number, frame) -> None:
  _Notice.given = True
  if not _Notice.waits:
    raise Preempted(AT_ONCE)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """Within it a notice raises nothing; `reached` tells of it."""
  _Notice.waits = True
  try:
    yield
  finally:
    _Notice.waits = False
  if _Notice.given:  # Too late for `reached` to tell.
    raise Preempted(AT_ONCE)


def reached(step: int) -> bool:
  """Whether the run is to end after `step`: on all processes the same answer."""
  if jax.process_count() > 1:
    return multihost_utils.reached_preemption_sync_point(step)
  return _Notice.given
