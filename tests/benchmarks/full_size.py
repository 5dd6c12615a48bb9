"""Seconds and peak memory at the published size (518 px, 1370 tokens), here and in
torch with the blocks of transformers: a training step of either stage, the memory
that a decoder reads, and with it 100 tokens by three beams. Every measurement is a
process of its own, on two cores:

  python tests/benchmarks/full_size.py [--batch=2] [--priors=N] [--what=stage1,...]

Weights are random, texts as long as the limits; both sides run once to warm up, ours
with another number of priors, and are measured the second time.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import resource
import subprocess
import sys
import time
import types

import numpy as np

HERE = pathlib.Path(__file__).resolve()
CORES = 2
WHAT = ("stage1", "stage2", "encode", "generate")
BEAMS, LENGTH = 3, 100
REPORT, CONTEXT = 100, {"stage1": 100, "stage2": 300, "encode": 300, "generate": 300}
BOS, PAD, VIEWS = 50256, 50257, 7


@dataclasses.dataclass
class Measurement:
  """Of the second call; `steps` is how often a decoder was asked for a token."""

  seconds: float
  cpu_seconds: float  # Of all threads; other work on the machine adds least to them.
  peak_gib: float = 0.0
  compile_seconds: float = 0.0
  programs: int = 0
  steps: int = 0


def invent(what: str, rows: int, priors: int) -> dict[str, np.ndarray]:
  """A batch as PriorRG takes it; the first `priors` rows have a prior."""
  rng = np.random.default_rng(0)
  pixels = lambda: rng.integers(0, 256, (rows, 518, 518, 1), np.uint8)
  view = lambda: rng.integers(0, VIEWS, rows).astype(np.int32)
  batch = dict(image=pixels(), prior_image=pixels(), view=view(), prior_view=view())
  batch["has_prior"] = np.arange(rows) < priors
  batch["study"] = np.arange(2 * rows, dtype=np.uint32).reshape(rows, 2)
  for name in ("context", "report", "tokens"):
    length = CONTEXT[what] if name == "context" else REPORT
    # The first text is as long as may be, the others are shorter.
    lengths = np.where(np.arange(rows) == 0, length, length * 3 // 4)
    mask = np.arange(length) < lengths[:, None]
    ids = rng.integers(0, BOS, (rows, length))
    batch[name] = np.where(mask, ids, PAD).astype(np.int32)
    batch[f"{name}_mask"] = mask
  return batch


def timed(run, batch) -> tuple:
  """The result, and the seconds on the clock and of the processors."""
  clocks = lambda: np.array([time.perf_counter(), *resource.getrusage(0)[:2]])
  before = clocks()
  result = run(batch)
  wall, user, system = (clocks() - before).tolist()
  return result, wall, user + system


def ours(what: str, rows: int, priors: int) -> Measurement:
  sys.path.insert(0, str(HERE.parents[2]))
  import jax

  from configs.priorrg import get_config
  from jaxrg import inference, learning, models, objectives, optim, state

  compiling = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: compiling.append(seconds * ("backend_compile" in name))
  )
  config = get_config("mimic_cxr,published")
  recipe = config.pretrain if what == "stage1" else config.finetune
  model = models.build(config.model)
  # The warm-up has no priors, or has some where the measurement has none.
  batches = [
    jax.tree.map(jax.numpy.asarray, invent(what, rows, count))
    for count in (0 if priors else rows, priors)
  ]
  init = lambda key: model.init(
    key, batches[0], method=objectives.METHODS[recipe.objective]
  )

  if what in ("encode", "generate"):
    # No token is -1: nothing ends, as on torch's side.
    tokenizer = types.SimpleNamespace(bos=BOS, eos=-1, pad=PAD)
    program = inference.make_generate(
      model, tokenizer, num_beams=BEAMS, max_length=LENGTH
    )
    if what == "encode":
      program = jax.jit(functools.partial(model.apply, method="encode"))
    variables = jax.jit(init)(jax.random.key(0))
    run = lambda batch: jax.block_until_ready(program(variables, batch))
  else:
    tx, frozen = optim.make(recipe.optim, 1000), recipe.optim.frozen
    objective = learning.make_objective(config, recipe, model, num_steps=1000)
    train_step = state.make_train_step(objective, tx, frozen=frozen)
    program = jax.jit(train_step, donate_argnums=0)
    held = [jax.jit(lambda key: state.init(init(key), tx, frozen))(jax.random.key(0))]

    def run(batch):
      new, metrics = program(held.pop(), batch, jax.random.key(1))
      held.append(jax.block_until_ready(new))
      assert np.isfinite(metrics["loss"]), metrics
      return metrics

  compiling.clear()
  run(batches[0])
  compile_seconds = sum(compiling)
  result, *seconds = timed(run, batches[1])
  steps = 0
  if what == "generate":
    assert (result[0] != PAD).all()
    steps = LENGTH - 1
  return Measurement(
    *seconds,
    compile_seconds=compile_seconds,
    programs=program._cache_size(),
    steps=steps,
  )


def theirs(what: str, rows: int, priors: int) -> Measurement:
  import full_size_torch

  run = full_size_torch.make(what, BEAMS, LENGTH)
  batch = invent(what, rows, priors)
  run(batch)
  steps, *seconds = timed(run, batch)
  return Measurement(*seconds, steps=steps)


def measure(side: str, what: str, rows: int, priors: int) -> Measurement:
  """A measurement, made by a process of its own."""
  command = [sys.executable, str(HERE), f"--batch={rows}", f"--priors={priors}"]
  environment = dict(os.environ, JAX_PLATFORMS="cpu", TRANSFORMERS_VERBOSITY="error")
  output = subprocess.run(
    [*command, f"--what={what}", f"--side={side}"],
    env=environment,
    stdout=subprocess.PIPE,
    check=True,
    text=True,
  )
  return Measurement(**json.loads(output.stdout.splitlines()[-1]))


def peak_gib() -> float:
  """The most memory that this process has held."""
  status = pathlib.Path("/proc/self/status").read_text()
  return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("--batch", type=int, default=2)
  parser.add_argument("--priors", type=int, help="as many as rows, if not given")
  parser.add_argument("--what", default=",".join(WHAT))
  parser.add_argument("--side", choices=("jaxrg", "torch"), help="for the children")
  args = parser.parse_args()
  priors = args.batch if args.priors is None else args.priors
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
  if args.side:
    side = {"jaxrg": ours, "torch": theirs}[args.side]
    measurement = side(args.what, args.batch, priors)
    measurement.peak_gib = peak_gib()
    print(json.dumps(dataclasses.asdict(measurement)))
    return

  print(f"{args.batch} studies, {priors} with a prior, {CORES} cores, float32")
  columns = ("seconds", "CPU seconds", "peak GiB")
  print(f"{'torch / jaxrg':15}" + "".join(f"{x:^23}" for x in columns))
  seconds = {}
  for what in args.what.split(","):
    us, them = (measure(s, what, args.batch, priors) for s in ("jaxrg", "torch"))
    row = f"{what:15}"
    for name in ("seconds", "cpu_seconds", "peak_gib"):
      a, b = getattr(us, name), getattr(them, name)
      row += f"{b:6.1f} / {a:5.1f} = {b / a:5.2f} "
    print(row)
    notes = f"{us.programs} program for batches with and without priors"
    notes += f", compiled in {us.compile_seconds:.0f} s"
    if what == "generate":
      notes += f"; decoder steps: jaxrg {us.steps}, torch {them.steps}"
    seconds[what] = np.array([them.seconds, us.seconds])
    if {"encode", "generate"} <= seconds.keys():
      b, a = seconds["generate"] - seconds["encode"]
      notes += f"; without encoding {b:.1f} / {a:.1f} = {b / a:.2f} s"
    print(f"{'':15}{notes}", flush=True)


if __name__ == "__main__":
  main()
