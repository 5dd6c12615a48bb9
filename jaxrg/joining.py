"""How the processes of a run meet, and make sure that they are of one run."""

import json
import socket
import time
import zlib
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

SKEW = 60  # Seconds by which clocks may differ: heartbeats are compared by them.


def join(
  coordinator: str | None = None, count: int | None = None, process: int | None = None
) -> None:
  """Joins the other processes; raises ValueError where they do not meet."""
  if coordinator and process == 0:
    _check_port(coordinator)
  try:
    jax.distributed.initialize(coordinator, count, process)
  except (RuntimeError, ValueError) as error:
    reason = str(error).splitlines()[0]
    raise ValueError(
      f"--multihost: no run at --coordinator={coordinator}, as process {process} of "
      f"{count}: {reason}."
    ) from error


def _check_port(coordinator: str) -> None:
  """Raises ValueError where process 0 cannot listen there: jaxlib might crash."""
  port = coordinator.rpartition(":")[2]
  if not port.isdecimal():
    raise ValueError(f"--coordinator={coordinator}: HOST:PORT is needed.")
  with socket.socket() as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      server.bind(("", int(port)))
    except (OSError, OverflowError) as error:
      raise ValueError(
        f"--coordinator={coordinator}: port {port} cannot be listened at ({error}); "
        "another program has it, or it may not be had. Give another one."
      ) from error


def check(config: Any) -> None:
  """Raises ValueError, naming processes, unless all have one config and the time."""
  if jax.process_count() == 1:
    return
  text = json.dumps(json.loads(config.to_json()), sort_keys=True)
  mine = np.array([zlib.crc32(text.encode()) >> 1, int(time.time())], np.int32)
  configs, clocks = multihost_utils.process_allgather(mine).T
  if others := np.flatnonzero(configs != configs[0]).tolist():
    raise ValueError(
      f"Processes {others} have another config than process 0: give all one command."
    )
  late = clocks - np.median(clocks)
  if others := np.flatnonzero(np.abs(late) > SKEW).tolist():
    raise ValueError(
      f"The clocks of processes {others} are {late[others].astype(int).tolist()} s "
      "from the others': set them by NTP."
    )
