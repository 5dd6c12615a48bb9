"""The programs of a config, compiled for devices that need not be here."""

import contextlib
import dataclasses
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import ml_collections
from jax.sharding import Mesh

from jaxrg import flash, flops, inference, inputs, learning, sharding
from jaxrg.models import layers
from jaxrg.planning.topologies import Topology

STEPS = 10**6  # Of the schedule: long enough for every warm-up.


@dataclasses.dataclass(frozen=True)
class Program:
  """A program, not yet compiled."""

  name: str
  rows: int  # Of its global batch.
  model_flops: int  # By mathematics, of all devices.
  loop: int  # How often a loop runs whose end is data, at most.
  held: dict[str, int]  # Bytes on one device of what it is given, by kind.
  lower: Callable[[], jax.stages.Lowered]


@dataclasses.dataclass(frozen=True)
class Compiled:
  """What compiling it gave."""

  text: str
  memory: dict[str, int]  # Bytes on one device, by kind.
  seconds: float
  warnings: tuple[str, ...]


class TooLargeError(ValueError):
  """The program does not fit a device's memory."""

  def __init__(self, needed: float, available: float):
    super().__init__(f"{needed / 1e9:.1f} GB where there are {available / 1e9:.1f}")
    self.needed, self.available = needed, available


def make_mesh(shape: tuple[int, int, int], topology: Topology) -> Mesh:
  """The (data, fsdp, tensor) mesh over a topology."""
  return sharding.make_mesh(shape, topology.devices)


def train_program(config: ml_collections.ConfigDict, name: str, mesh: Mesh) -> Program:
  """A training step of the stage `name`, of its `batch_size` rows."""
  sharding.check_rows(config[name].batch_size, mesh, f"{name}.batch_size")
  stage = learning.learning(config, name, STEPS)
  state = learning.abstract_state(stage, mesh)
  batch, key = learning.abstract_batch(stage, mesh), _key()

  def lower():
    with _placed(config, mesh):
      return learning.jitted_step(stage, state, mesh).lower(state, batch, key)

  held = {
    "parameters": state.params,
    "optimizer": state.opt_state,
    "statistics, queue": state.extra,
    "batch": batch,
  }
  return Program(
    name=f"{config.paper} {name}, training step",
    rows=config[name].batch_size,
    model_flops=flops.count(learning.train_step(stage), state, batch, key),
    loop=1,
    held={kind: _bytes_each(part) for kind, part in held.items()},
    lower=lower,
  )


class _Ends:
  """Of a tokenizer, all that a search asks."""

  bos, eos, pad = 0, 1, 2


def decode_program(config: ml_collections.ConfigDict, name: str, mesh: Mesh) -> Program:
  """Writing the reports of `decode.batch_size` studies, by the config's search."""
  rows = config.decode.batch_size
  sharding.check_rows(rows, mesh, "decode.batch_size")
  stage = learning.learning(config, name, STEPS)
  shapes = jax.eval_shape(learning.random_variables(config, name), _key())
  places = sharding.state_shardings(shapes, mesh, config.axis_rules)
  variables = sharding.abstract(shapes, places)
  place = sharding.batch_sharding(mesh)
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype, sharding=place),
    jax.eval_shape(lambda: inputs.example(config, "__call__")),
  )
  search = dict(num_beams=config.decode.num_beams, max_length=config.text.report_length)
  generate = inference.make_generate(stage.model, _Ends(), **search)

  def lower():
    with _placed(config, mesh):
      return generate.lower(variables, batch)

  held = {"parameters": variables, "batch": batch}
  steps = config.text.report_length - 1
  return Program(
    name=f"{config.paper} {name}, {steps} tokens by {config.decode.num_beams} beams",
    rows=rows,
    model_flops=flops.count(generate, variables, batch, loop=steps),
    loop=steps,
    held={kind: _bytes_each(part) for kind, part in held.items()},
    lower=lower,
  )


def compile_program(program: Program) -> Compiled:
  """Compiles it; raises TooLargeError where it does not fit."""
  began = time.monotonic()
  with _stderr() as said:
    try:
      compiled = program.lower().compile()
    except jax.errors.JaxRuntimeError as error:
      if too_large := _too_large(error):
        raise too_large from error
      raise
    warnings = tuple(sorted(set(_warnings(said()))))
  memory = compiled.memory_analysis()
  held = dict(program.held)
  held["padding of these"] = memory.argument_size_in_bytes - sum(held.values())
  held |= {
    "results beside them": memory.output_size_in_bytes - memory.alias_size_in_bytes,
    "activations, gradients": memory.temp_size_in_bytes,
    "code": memory.generated_code_size_in_bytes,
  }
  return Compiled(
    text=compiled.as_text(),
    memory={kind: size for kind, size in held.items() if size > 0},
    seconds=time.monotonic() - began,
    warnings=warnings,
  )


def _key() -> jax.ShapeDtypeStruct:
  return jax.eval_shape(lambda: jax.random.key(0))


@contextlib.contextmanager
def _placed(config: Any, mesh: Mesh) -> Iterator[None]:
  with (
    jax.set_mesh(mesh),
    nn.logical_axis_rules(config.axis_rules),
    layers.long_attention(flash.attend if config.fused_attention else None),
  ):
    yield


def _bytes_each(part: Any) -> int:
  """Bytes of a tree on each device."""
  size = lambda x: math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
  return sum(map(size, jax.tree.leaves(part)))


def _too_large(error: Exception) -> TooLargeError | None:
  size = r"\(?([\d.]+)([KMGT])\)?"
  found = re.search(rf"(?:Used|temporaries) {size}.*?(?:of|HBM) {size}", str(error))
  if found is None:
    return None
  units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
  used, used_unit, of, of_unit = found.groups()
  return TooLargeError(float(used) * units[used_unit], float(of) * units[of_unit])


def _warnings(text: str) -> Iterator[str]:
  """Of what XLA says, what costs time or memory."""
  for line in text.splitlines():
    if re.search("rematerializ|replicat", line, re.IGNORECASE):
      yield re.sub(r"^.*?\] ", "", line.strip())


@contextlib.contextmanager
def _stderr() -> Iterator[Callable[[], str]]:
  """What is said to stderr, by whomever: XLA's C++ does not ask Python."""
  sys.stderr.flush()
  before = os.dup(2)
  with tempfile.TemporaryFile() as file:
    os.dup2(file.fileno(), 2)

    def said() -> str:
      file.seek(0)
      return file.read().decode(errors="replace")

    try:
      yield said
    finally:
      os.dup2(before, 2)
      os.close(before)
