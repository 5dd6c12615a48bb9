r"""Runs jaxrg as several processes of one machine, on its CPUs, as a pod would.

  python launch/local.py 2 [--devices=4] [--verb=jaxrg.main] -- \
      --config=configs/priorrg.py:tiny --workdir=RUN

Each process has so many devices, and its output a prefix. What ends one of them ends
all: with its own status, where that is an error; SIGTERM is passed on to each.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time

GRACE = 30  # Seconds that the others have to end, when one has failed.


def free_port() -> int:
  """A port that was free just now."""
  with socket.socket() as server:
    server.bind(("localhost", 0))
    return server.getsockname()[1]


def start(number: int, args: argparse.Namespace, port: int) -> subprocess.Popen:
  """Process `number`, whose output is told line by line with its number before it."""
  count = f"--xla_force_host_platform_device_count={args.devices}"
  flags = f"{os.environ.get('XLA_FLAGS', '')} {count}".strip()
  process = subprocess.Popen(
    [
      *(sys.executable, "-m", args.verb, "--multihost"),
      f"--coordinator=localhost:{port}",
      f"--num_processes={args.processes}",
      f"--process_id={number}",
      *args.arguments,
    ],
    env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )

  def tell() -> None:
    for line in process.stdout:
      print(f"[{number}] {line}", end="", flush=True)

  process.teller = threading.Thread(target=tell)
  process.teller.start()
  return process


def wait(processes: list[subprocess.Popen]) -> int:
  """The status of all: 0, or that of the first to fail, after which the others end."""
  while True:
    ended = [status for p in processes if (status := p.poll()) is not None]
    if failed := [status for status in ended if status]:
      break
    if len(ended) == len(processes):
      break
    time.sleep(0.1)
  for process in processes:
    if process.poll() is None:
      process.terminate()
  deadline = time.monotonic() + GRACE
  for process in processes:
    try:
      process.wait(max(0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()
    process.teller.join()
  return failed[0] if failed else 0


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("processes", type=int)
  parser.add_argument("--devices", type=int, default=1, help="of each process")
  parser.add_argument("--verb", default="jaxrg.main")
  words = sys.argv[1:]
  place = words.index("--") if "--" in words else len(words)
  rest = argparse.Namespace(arguments=words[place + 1 :])  # They are the verb's.
  args = parser.parse_args(words[:place], rest)
  if args.processes < 1 or args.devices < 1:
    parser.error("processes and devices are counted from 1")
  port = free_port()
  processes = [start(number, args, port) for number in range(args.processes)]
  pass_on = lambda number, frame: [p.send_signal(number) for p in processes]
  signal.signal(signal.SIGTERM, pass_on)
  signal.signal(signal.SIGINT, pass_on)
  return wait(processes)


if __name__ == "__main__":
  sys.exit(main())
