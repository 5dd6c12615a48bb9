"""Where the time of a run goes: data, compilation, training, evaluation.

python tests/benchmarks/shares.py WORKDIR [--config=configs/priorrg.py[:VARIANT]]

The run is that of `python -m jaxrg.main`, in a new WORKDIR; data are made anew where
TFDS_DATA_DIR is an empty folder. Compilation is what jax says of XLA's, and is taken
out of the part in which it happens.
"""

import argparse
import time
from unittest import mock

import jax
import recipes

from data_pipelines import datasets
from jaxrg import evaluation, runs, train

COMPILING = "/jax/core/compile/backend_compile_duration"


class Clock:
  """Seconds of each part, those of compilation apart."""

  def __init__(self):
    self.seconds = {"compilation": 0.0}
    jax.monitoring.register_event_duration_secs_listener(self._listen)

  def _listen(self, event: str, seconds: float, **_) -> None:
    if event == COMPILING:
      self.seconds["compilation"] += seconds

  def timed(self, function, name_of):
    """The function, its time put down to the part `name_of(*args)`."""

    def call(*args, **kwargs):
      began, compiled = time.perf_counter(), self.seconds["compilation"]
      result = function(*args, **kwargs)
      elapsed = time.perf_counter() - began
      elapsed -= self.seconds["compilation"] - compiled
      name = name_of(*args)
      self.seconds[name] = self.seconds.get(name, 0.0) + elapsed
      return result

    return call


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("workdir")
  parser.add_argument("--config", default="configs/priorrg.py")
  options = parser.parse_args()
  config = recipes.load(options.config)

  clock, began = Clock(), time.perf_counter()
  load = clock.timed(datasets.load, lambda *_: "data")
  load(config.data.name, "train", config.data.data_dir)
  with (
    mock.patch.object(
      train, "train", clock.timed(train.train, lambda config, name, *_: name)
    ),
    mock.patch.object(
      evaluation, "evaluate", clock.timed(evaluation.evaluate, lambda *_: "evaluation")
    ),
  ):
    runs.run(config, options.workdir)
  total = time.perf_counter() - began
  clock.seconds["the rest"] = total - sum(clock.seconds.values())
  print(f"\n{total:.0f} s, {jax.devices()[0].device_kind}")
  for name, seconds in clock.seconds.items():
    print(f"{name:>12} {seconds:6.0f} s {seconds / total:6.1%}")


if __name__ == "__main__":
  main()
