"""What EIR's fusion costs in parameters, multiplications and time; and retrieval.

python tests/benchmarks/efficiency.py [--config=configs/eir.py[:VARIANT]] [--repeats=50]
  [--export=RUN/export]

Weights are random and inputs full, so that every program does all of its work. Each
kind of fusion is timed in turn within one process: alone, with everything up to the
states of topics, and to the last word of a report, greedily and never ending early.
With an export, what a graph of similar cases costs beside the base graph is told too.
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import recipes
from etils import epath
from flax.core import meta

from jaxrg import checkpoint, decode, embedding, inputs, models, retriever
from jaxrg.models.eir import EIR

KINDS = ("cross_modal", "add_norm")
BATCHES = (1, 8)


def aggregate(model: EIR, topics, history, history_mask, graph, graph_mask):
  return model.aggregation(topics, history, history_mask, graph, graph_mask)


def make_write(model: EIR, length: int):
  """Greedy words, none of which ends a report."""

  def write(variables, batch):
    rows = batch["image"].shape[0]
    cache = model.apply(variables, batch, 1, length, method="start")
    step = lambda tokens, cache: model.apply(variables, tokens, cache, method="step")
    return decode.sample(step, cache, rows, max_length=length, bos=0, eos=-1, pad=0)[0]

  return write


def sources(config, rows: int) -> tuple:
  """Random topics, history and graph as the aggregation is given them."""
  width, draw = config.model.width, np.random.default_rng(0).normal
  lengths = (config.text.history_length, config.graph.max_nodes)
  some = lambda length: jnp.asarray(draw(size=(rows, length, width)), jnp.float32)
  history, graph = ((some(n), jnp.ones((rows, n), bool)) for n in lengths)
  return (some(config.model.num_topics), *history, *graph)


def compile_all(config, rows: int) -> dict:
  """Each program of a kind of fusion, with what it is called on."""
  model = models.build(config.model)
  example = inputs.example(config, "__call__")
  repeat = lambda x: jnp.repeat(x, rows, axis=0)
  batch = jax.tree.map(repeat, example)
  variables = jax.jit(functools.partial(model.init, method="__call__"))(
    jax.random.key(0), example
  )
  variables = meta.unbox(variables)
  method = lambda name: functools.partial(model.apply, method=name)
  programs = {
    "aggregation": (method(aggregate), (variables, *sources(config, rows))),
    "states of topics": (method("classify"), (variables, batch)),
    "report": (
      make_write(model, config.text.report_length),
      (variables, batch),
    ),
  }
  return {
    name: (jax.jit(program).lower(*given).compile(), given)
    for name, (program, given) in programs.items()
  } | {"parameters": variables["params"]}


def latencies(call, repeats: int) -> np.ndarray:
  """Seconds of each call, the first left out."""
  jax.block_until_ready(call())
  seconds = []
  for _ in range(repeats):
    began = time.perf_counter()
    jax.block_until_ready(call())
    seconds.append(time.perf_counter() - began)
  return np.array(seconds)


def told(seconds: np.ndarray) -> str:
  p50, p90, p99 = 1e3 * np.percentile(seconds, (50, 90, 99))
  return f"{p50:9.2f} {p90:9.2f} {p99:9.2f}"


def compare_fusions(config, repeats: int) -> None:
  print(f"{'':34}{'MACs':>10}   p50 ms    p90 ms    p99 ms")
  for rows in BATCHES:
    programs = {}
    for kind in KINDS:
      config.model.aggregation.name = kind
      programs[kind] = compile_all(config, rows)
    for name in ("aggregation", "states of topics", "report"):
      for kind in KINDS:
        program, given = programs[kind][name]
        macs = program.cost_analysis()["flops"] / 2 / rows
        # XLA counts the body of a loop once, whatever its trips.
        shown = f"{macs / 1e6:8.1f} M" if name != "report" else "-"
        seconds = latencies(functools.partial(program, *given), repeats)
        print(f"{f'{name}, {kind}, batch {rows}':34}{shown:>10} {told(seconds)}")
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  for kind in KINDS:
    params = programs[kind]["parameters"]
    print(
      f"{kind}: {count(params['aggregation']):,} of {count(params):,} parameters, "
      "interpreter and head of the contrast aside"
    )


def compare_graphs(export: epath.Path, repeats: int) -> None:
  """A film's similar cases and the graph of them, beside the base graph."""
  config = checkpoint.load_config(export)["config"]
  config = ml_collections.ConfigDict(config)
  found = retriever.read(export / inputs.eir.RETRIEVER)
  embed = embedding.make_embed(models.build(config.model), config.retrieve.vectors)
  grow = inputs.eir.make_grow(config, export)
  film = np.random.default_rng(0).integers(
    0, 256, (config.data.image_size, config.data.image_size, 1), np.uint8
  )

  def dynamic():
    return grow([s for s, _ in found.similar(embed, film, config.retrieve.count)])

  for name, call in (("base graph", lambda: grow([])), ("similar cases", dynamic)):
    print(f"{name:34}{'':>10} {told(latencies(lambda c=call: c().names, repeats))}")
  size = (export / inputs.eir.RETRIEVER).stat().length / 2**20
  print(f"{len(found.rows):,} studies; {found.rows.nbytes / 2**20:.1f} MiB of vectors")
  print(f"with the encoder that made them, {size:.1f} MiB on disk")


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--config", default="configs/eir.py")
  parser.add_argument("--repeats", type=int, default=50)
  parser.add_argument("--export", type=epath.Path)
  options = parser.parse_args()
  device = jax.devices()[0]
  print(f"{options.config} on {len(jax.devices())} x {device.device_kind}")
  compare_fusions(recipes.load(options.config), options.repeats)
  if options.export:
    compare_graphs(options.export.resolve(), options.repeats)


if __name__ == "__main__":
  main()
