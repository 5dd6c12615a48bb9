"""Training: one stage of a config, from data to an export."""

import contextlib
import time
from collections.abc import Collection, Sequence
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from etils import epath
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from data_pipelines import loader, records
from jaxrg import (
  checkpoint,
  exports,
  features,
  flops,
  inputs,
  learning,
  logs,
  objectives,
  preemption,
  pretrained,
  sharding,
  stages,
  validation,
  watchdog,
)
from jaxrg.models import layers
from jaxrg.state import TrainState, record_score
from jaxrg.tokenizers import Tokenizer


def train(
  config: ml_collections.ConfigDict,
  name: str,
  tokenizer: Tokenizer,
  *,
  workdir: epath.Path,
  init_from: Sequence[epath.Path],
  export_to: epath.Path,
) -> None:
  """Runs the stage `name`, resuming what `workdir` holds, and exports its best state.

  Where a run starts, first of these: its own newest checkpoint; the exports
  `init_from` of stages before, the last first, where names and shapes agree; for parts
  that they do not have or that begin `fresh`, those of `config.pretrained`; random.
  """
  stage = stages.prepare(config, name, tokenizer, workdir)
  directory = workdir / name
  if stage.recipe.select_on == "test" and jax.process_index() == 0:
    print(f"Stage {name} is chosen on test: its scores there are no test of it.")
  mesh = sharding.make_mesh(config.mesh)
  with (
    jax.set_mesh(mesh),
    nn.logical_axis_rules(config.axis_rules),
    checkpoint.open_dir(
      directory / "checkpoints", keep=config.checkpoint.keep
    ) as checkpoints,
  ):
    abstract, start = first_state(stage, mesh, init_from)
    state = checkpoint.restore(checkpoints, abstract)
    state = start() if state is None else state
    if config.data.get("features") and name == features.stage(config):
      features.check(config, {"params": state.params, **state.extra})
    state = loop(stage, state, mesh, checkpoints, directory)
    unknown = stage.studies.unknown_views.values()  # Of what this process has read.
    if unknown and jax.process_index() == 0:
      print(records.unknown_views(unknown))
    checkpoints.wait()
    best = int(state.progress.best_step)
    if best != int(state.step):
      state = checkpoint.restore(checkpoints, abstract, best)
    # Not what the objective kept for itself: a momentum network, a queue.
    kept = {name: tree for name, tree in state.extra.items() if name == "batch_stats"}
    variables = {"params": state.params, **kept}
    if stage.recipe.objective in inputs.REPORTS:
      config = config.copy_and_resolve_references()
      config.model.threshold = validation.tune_threshold(stage, variables, mesh)
  films = np.array([stage.studies.first_film(int(i)) for i in stage.indices])
  extra = exports.measure(stage.source, films)
  extra |= inputs.to_export(config, name, workdir)
  exports.write(export_to, variables, config, name, tokenizer, best, extra)


def first_state(stage: stages.Stage, mesh: Mesh, init_from: Sequence[epath.Path]):
  """The state's shapes and places, and a function that makes it as it is at step 0."""
  abstract = learning.abstract_state(stage, mesh)

  def start() -> TrainState:
    fresh = first_variables(stage.config, stage.name, mesh, init_from)
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    key = jax.random.key(stage.config.seed)
    return jax.jit(stage.first, out_shardings=shardings)(fresh, key)

  return abstract, start


def first_variables(
  config: ml_collections.ConfigDict,
  name: str,
  mesh: Mesh,
  init_from: Sequence[epath.Path],
) -> dict[str, Any]:
  """The model's variables at step 0 of a stage: exports', published, or random."""
  recipe, key = config[name], jax.random.key(config.seed)
  random, anew = learning.random_variables(config, name), recipe.get("fresh", ())
  shapes = jax.eval_shape(random, key)
  places = sharding.state_shardings(shapes, mesh, config.axis_rules)
  fresh, has = jax.jit(random, out_shardings=places)(key), set()
  for export in init_from:
    unused = objectives.UNUSED.get(recipe.objective, ())
    fresh = overlay(fresh, export, unused, anew)
    has |= checkpoint.variable_shapes(export)["params"].keys()
  return pretrained.overlay(fresh, config, has - set(anew))


def loop(
  stage: stages.Stage, state: TrainState, mesh: Mesh, checkpoints, directory: epath.Path
) -> TrainState:
  """Steps until the last one, or until validation has been stale for too long.

  Raises Preempted, the state saved, after a step in which the run was told to end.
  """
  recipe, every = stage.recipe, stage.config.checkpoint.every
  # Known here, too, so that no step waits for the one before.
  step, stale = int(state.step), int(state.progress.stale)
  finished = lambda: step >= stage.num_steps or stale >= recipe.early_stop
  if finished():
    return state
  train_step = learning.jitted_step(stage, state, mesh)
  validate = validation.make_validate(stage, mesh)
  key = jax.random.key(stage.config.seed)
  stream = _stream(stage, step)
  trace = logs.Trace(directory, stage.config.profile)
  abstract = learning.abstract_batch(stage, mesh)
  with (
    preemption.deferred(),
    watchdog.Watchdog(directory, stage.config.watchdog, step) as watch,
    _fused(stage.config),
    logs.MetricsLog(
      directory,
      step,
      stage.num_steps,
      recipe.batch_size,
      flops=flops.count(learning.train_step(stage), state, abstract, key),
      writes=jax.process_index() == 0,
    ) as log,
  ):
    while not finished():
      began = time.perf_counter()
      batch = sharding.to_global(dict(next(stream)), mesh)
      waited = time.perf_counter() - began
      with (
        jax.transfer_guard("disallow"),
        jax.profiler.StepTraceAnnotation("train", step_num=step),
      ):
        state, metrics = train_step(state, batch, key)
      step += 1
      log.add(step, metrics, waited)
      watch.beat(step)
      trace.step(metrics)
      ends = preemption.reached(step)
      if step % stage.steps_per_epoch == 0 or step == stage.num_steps:
        with watch.paused():
          scores = validate(state)
        log.flush({f"validation_{name}": value for name, value in scores.items()})
        # As the state holds it: the best step is to be the best checkpoint too.
        score = float(np.float32(scores["score"]))
        state = _with_score(state, scores, step, stage)
        stale = int(state.progress.stale)
        with log.saving():
          checkpoint.save(checkpoints, step, state, score=score)
        log.restart_clock()
      elif step % every == 0 or ends:
        log.flush()
        with log.saving():
          checkpoint.save(checkpoints, step, state)
      elif step % stage.config.log_every == 0:
        log.flush()
      if ends:
        raise preemption.Preempted(
          f"Stopped after step {step} of {stage.num_steps} of stage {stage.name}, "
          "which is saved: the same command goes on."
        )
  return state


def _fused(config: ml_collections.ConfigDict):
  """Within it long attention is a kernel's, if the config says so."""
  if not config.fused_attention:
    return contextlib.nullcontext()
  # Not with this module: it would bring Pallas to all who need none.
  from jaxrg import flash

  return layers.long_attention(flash.attend)


def _stream(stage: stages.Stage, start_step: int):
  """This process's rows of every batch from that of `start_step` on."""
  return loader.train_stream(
    stage.studies,
    batch_size=stage.recipe.batch_size,
    seed=stage.config.seed,
    start_step=start_step,
    indices=stage.indices,
    groups=stage.groups,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )


def _with_score(
  state: TrainState, scores: dict[str, float], step: int, stage: stages.Stage
) -> TrainState:
  """The state after a validation; the rate falls under `plateau` alone."""
  for name, value in scores.items():
    # A model of nan still writes words, and they have a score.
    if not np.isfinite(value):
      raise ValueError(
        f"Stage {stage.name} diverged: at step {step} its {name} is {value}. Lower "
        f"config.{stage.name}.optim.learning_rate, in another --workdir."
      )
  optim_config = stage.recipe.optim
  falls = optim_config.schedule == "plateau"
  progress = record_score(
    state.progress,
    scores["score"],
    step,
    factor=optim_config.plateau_factor if falls else 1.0,
    patience=optim_config.plateau_patience,
  )
  places = jax.tree.map(lambda x: x.sharding, state.progress)
  return state.replace(progress=jax.device_put(progress, places))


def overlay(
  fresh: dict,
  source: epath.Path,
  unused: Collection[str] = (),
  anew: Collection[str] = (),
) -> dict[str, Any]:
  """The variables with an export's where it has any; each must have a place.

  The parts that are `unused` have none, and parts that begin `anew` keep theirs.
  Raises ValueError, naming the path, for what has no place.
  """
  fresh = traverse_util.flatten_dict(fresh, sep="/")
  stored = traverse_util.flatten_dict(checkpoint.variable_shapes(source), sep="/")
  for path, x in stored.items():
    fits = path in fresh and fresh[path].shape == x.shape
    if not fits and path.split("/")[1] not in unused:
      raise ValueError(
        f"{source}: {path} does not fit this config; it was exported by another one."
      )

  def place(path, x):
    if path in fresh:
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=fresh[path].sharding)
    mesh = next(iter(fresh.values())).sharding.mesh
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, P()))

  unflatten = lambda flat: traverse_util.unflatten_dict(flat, sep="/")
  abstract = unflatten({path: place(path, x) for path, x in stored.items()})
  loaded = checkpoint.load_variables(source, abstract)
  loaded = traverse_util.flatten_dict(loaded, sep="/")
  mine = lambda path: path in fresh and path.split("/")[1] not in anew
  return unflatten(fresh | {path: loaded[path] for path in stored if mine(path)})
