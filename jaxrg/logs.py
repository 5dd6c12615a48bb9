"""What a run tells: metrics.jsonl, TensorBoard, and a progress bar or plain lines.

Metrics stay on the device until `flush`, so that the training loop never waits for
them. Every step stands once in metrics.jsonl, however often the run was killed.
"""

import contextlib
import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping

import jax
import tensorboardX
from etils import epath
from tqdm import tqdm

from data_pipelines import files
from jaxrg import flops as peaks


class MetricsLog:
  """The log of one stage; opening it cuts what lies beyond `step`."""

  def __init__(
    self,
    directory: epath.PathLike,
    step: int,
    num_steps: int,
    batch_size: int,
    *,
    flops: float = 0,
    writes: bool = True,
  ):
    directory = epath.Path(directory)
    self._name, self._num_steps, self._batch_size = (
      directory.name,
      num_steps,
      batch_size,
    )
    self._pending, self._since = [], time.perf_counter()
    self._waited = self._saved = 0.0
    self._flops = flops
    self._writes = writes
    if not writes:
      return
    directory.mkdir(parents=True, exist_ok=True)
    self._path = path = directory / "metrics.jsonl"
    # Never without the lines of the steps that will not run again.
    files.write(path, "".join(_lines_up_to(path, step)))
    self._file = path.open("a")
    self._events = tensorboardX.SummaryWriter(
      str(directory / "events"), purge_step=step + 1
    )
    self._bar = tqdm(
      total=num_steps,
      initial=step,
      desc=directory.name,
      unit="step",
      disable=not sys.stderr.isatty(),
      dynamic_ncols=True,
    )

  def add(self, step: int, metrics: Mapping[str, jax.Array], waited: float) -> None:
    """Notes the metrics of a step, and the seconds that it waited for data."""
    self._pending.append((step, dict(metrics)))
    self._waited += waited

  @contextlib.contextmanager
  def saving(self) -> Iterator[None]:
    """Within it a checkpoint is saved, for which training waits."""
    began = time.perf_counter()
    try:
      yield
    finally:
      self._saved += time.perf_counter() - began

  def flush(self, scores: Mapping[str, float] | None = None) -> None:
    """Writes what is pending; `scores`, of a validation, go with its last step."""
    if not self._pending:
      return
    rows = [
      {"step": step} | {name: float(x) for name, x in metrics.items()}
      for step, metrics in jax.device_get(self._pending)
    ]
    seconds = max(time.perf_counter() - self._since, 1e-9)
    rows[-1] |= {
      "examples_per_second": len(rows) * self._batch_size / seconds,
      "step_seconds": seconds / len(rows),
      "data_wait": self._waited / seconds,
      "compute": 1 - min(1.0, self._waited / seconds),
      "checkpoint_seconds": self._saved,  # Since the last flush, beside the steps.
      **utilisation(self._flops * len(rows) / seconds),
      "memory_gb": peak_memory() / 1e9,
    }
    rows[-1] |= dict(scores or {})
    self._pending, self._waited, self._saved = [], 0.0, 0.0
    if self._writes:
      self._write(rows)
    self.restart_clock()

  def _write(self, rows) -> None:
    try:
      self._file.write("".join(json.dumps(row) + "\n" for row in rows))
      self._file.flush()
    except OSError as error:
      raise OSError(error.errno, error.strerror, str(self._path)) from error
    for row in rows:
      for name, value in row.items():
        if name != "step":
          self._events.add_scalar(name, value, row["step"])
    last = rows[-1]
    shown = {k: f"{last[k]:.4g}" for k in last if k != "step"}
    if self._bar.disable:
      words = " ".join(f"{k}={v}" for k, v in shown.items())
      print(f"{self._name} {last['step']}/{self._num_steps} {words}", flush=True)
    else:
      self._bar.set_postfix(
        loss=shown["loss"],
        rate=f"{last['examples_per_second']:.0f}/s",
        data_wait=f"{last['data_wait']:.0%}",
        **({"mfu": f"{last['mfu']:.0%}"} if "mfu" in last else {}),
      )
      self._bar.update(last["step"] - self._bar.n)

  def restart_clock(self) -> None:
    """Throughput counts from now: validation and saving are not training."""
    self._since = time.perf_counter()

  def __enter__(self) -> "MetricsLog":
    return self

  def __exit__(self, *_) -> None:
    if not self._writes:
      return
    self._bar.close()
    # Rows are flushed as they are written: nothing is lost here that was told.
    for stream in (self._events, self._file):
      with contextlib.suppress(OSError):
        stream.close()


def utilisation(flops: float) -> dict[str, float]:
  """What a rate of operations is worth; `mfu` where the devices' peak is known."""
  told = {"tflops_per_second": flops / 1e12}
  if peak := peaks.peak(jax.devices()[0].device_kind):
    told["mfu"] = flops / (peak * jax.device_count())
  return told


def peak_memory() -> float:
  """The most bytes in use so far: of a device, or of this process on a CPU."""
  if stats := jax.local_devices()[0].memory_stats():
    return stats.get("peak_bytes_in_use", 0)
  kilo = 1 if sys.platform == "darwin" else 1024
  return kilo * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Trace:
  """Profiles `steps` of a stage for xprof, from the third on: two may compile."""

  def __init__(self, directory: epath.PathLike, steps: int):
    self._directory = str(epath.Path(directory) / "profile")
    self._waits, self._left, self._runs = 2, steps, False

  def step(self, metrics: Mapping[str, jax.Array]) -> None:
    """To be called after each step, with what it gave."""
    self._waits -= 1
    if self._runs:
      self._left -= 1
      if not self._left:
        jax.block_until_ready(metrics)
        jax.profiler.stop_trace()
        self._runs = False
    elif self._left and self._waits <= 0:
      jax.profiler.start_trace(self._directory)
      self._runs = True


def _lines_up_to(path: epath.Path, step: int) -> list[str]:
  """The whole lines of a log, of steps that the restored state has behind it."""
  if not path.exists():
    return []
  kept = []
  for line in path.read_text().splitlines(keepends=True):
    try:
      if line.endswith("\n") and json.loads(line)["step"] <= step:
        kept.append(line)
    except (json.JSONDecodeError, KeyError, TypeError):
      continue  # Cut short by a kill; its step runs again.
  return kept
