"""A stage: all of it that is fixed before its first step."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
import optax
from etils import epath

from data_pipelines import loader
from jaxrg import augment, checks, inputs, models, momentum, objectives, optim
from jaxrg.models.norms import standardise
from jaxrg.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class Stage:
  """What a stage works with."""

  name: str
  config: ml_collections.ConfigDict
  recipe: ml_collections.ConfigDict  # The stage's own section.
  tokenizer: Tokenizer
  source: Sequence[Any]
  read: inputs.Read  # From a split to what this stage reads of it.
  studies: loader.Examples
  indices: np.ndarray  # Of the examples that are trained on.
  groups: Sequence[str] | None  # Of each of them, where the order goes by groups.
  model: nn.Module
  objective: objectives.Objective
  # What the objective keeps beside the model's variables, added to them.
  complete: Callable[[dict, jax.Array], dict]
  tx: optax.GradientTransformation
  steps_per_epoch: int
  num_steps: int


def prepare(
  config: ml_collections.ConfigDict,
  name: str,
  tokenizer: Tokenizer,
  workdir: epath.Path,
) -> Stage:
  """The stage `name` of a config; `workdir` holds what stages before it found."""
  recipe = config[name]
  source = inputs.load_split(config, name, "train")
  read = inputs.reader(config, name, tokenizer, workdir)
  studies = read(source)
  indices = _readable(studies, config.data.skip_damaged)
  checks.check_count(config, name, len(indices))
  checks.check_vocabulary(config, tokenizer)
  steps_per_epoch = len(indices) // recipe.batch_size
  num_steps = recipe.num_epochs * steps_per_epoch
  model = models.build(config.model)
  return Stage(
    name=name,
    config=config,
    recipe=recipe,
    tokenizer=tokenizer,
    source=source,
    read=read,
    studies=studies,
    indices=indices,
    groups=_study_ids(source, indices) if _is_grouped(recipe) else None,
    model=model,
    objective=make_objective(config, recipe, model, num_steps),
    complete=completion(config, recipe),
    tx=optim.make(recipe.optim, num_steps),
    steps_per_epoch=steps_per_epoch,
    num_steps=num_steps,
  )


def make_objective(
  config: ml_collections.ConfigDict,
  recipe: ml_collections.ConfigDict,
  model: nn.Module,
  num_steps: int,
) -> objectives.Objective:
  """What a stage of `num_steps` minimises."""
  match recipe.objective:
    case "contrastive":
      objective = objectives.contrastive(model, recipe.positives)
    case "generation":
      objective = objectives.generation(model)
    case "interpretation":
      return objectives.interpretation(model)
    case "reporting" | "review":
      own = _own_states(recipe.states, num_steps)
      return objectives.reporting(model, dict(recipe.weights), own)
    case "momentum":
      return _momentum(config, recipe, model)
  if not any(recipe.augment.values()):
    return objective
  change = functools.partial(augment.films, **recipe.augment)
  return objectives.augmented(objective, change)


def _momentum(
  config: ml_collections.ConfigDict, recipe: ml_collections.ConfigDict, model: nn.Module
) -> objectives.Objective:
  contrast = recipe.contrast
  return momentum.objective(
    model,
    name=contrast.name,
    momentum=contrast.momentum,
    temperature=contrast.temperature,
    groups=contrast.groups,
    enqueue_mixed=contrast.enqueue_mixed,
    change=functools.partial(augment.radiographs, **recipe.augment),
    normalise=functools.partial(standardise, norm=config.model.norm),
  )


def _own_states(source: str, num_steps: int) -> optax.Schedule | None:
  """How many states are the classifier's own, by step; None: never any."""
  ends = {"label": None, "predicted": (1.0, 1.0), "scheduled": (0.0, 1.0)}[source]
  return ends and optax.linear_schedule(*ends, num_steps)


def completion(
  config: ml_collections.ConfigDict, recipe: ml_collections.ConfigDict
) -> Callable[[dict, jax.Array], dict]:
  """The function that adds to variables what a stage's objective keeps beside them."""
  if recipe.objective != "momentum":
    return lambda variables, key: variables
  size, dim = recipe.contrast.queue, config.model.head.width
  return functools.partial(momentum.start, size=size, dim=dim)


def _is_grouped(recipe: ml_collections.ConfigDict) -> bool:
  """Whether a stage has the views of a study side by side."""
  return recipe.objective == "contrastive" and recipe.group_views


def _study_ids(source: Sequence[Any], indices: np.ndarray) -> list[str]:
  return [loader.parse_text(source, int(i))["study_id"] for i in indices]


def _readable(studies: loader.Examples, skip_damaged: bool) -> np.ndarray:
  """Indices of the training records; with `skip_damaged` only of those that load."""
  if not skip_damaged:
    return np.arange(len(studies))
  good, bad = studies.readable()
  if bad:
    print(f"Skipped {len(bad)} damaged records of {len(studies)}: {bad[:10]}.")
  return np.asarray(good)
