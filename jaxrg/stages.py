"""A stage: all of it that is fixed before its first step."""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
import optax

from data_pipelines import datasets, interventions, loader
from jaxrg import augment, inference, models, objectives, optim, sharding
from jaxrg.tokenizers import Tokenizer

# On `test` a model is chosen by what it is then judged by, as the published one was.
SELECT_ON = ("validation", "test")
SELECT_BY = ("loss", "retrieval")  # What stage 1's best state is best at.
TOKENIZERS = ("trained", "gpt2")  # A vocabulary of the data's own, and GPT-2's.


@dataclasses.dataclass(frozen=True)
class Stage:
  """What a stage works with."""

  name: str
  config: ml_collections.ConfigDict
  recipe: ml_collections.ConfigDict  # The stage's own section.
  tokenizer: Tokenizer
  source: Sequence[Any]
  studies: loader.Studies
  indices: np.ndarray  # Of the studies that are trained on.
  groups: Sequence[str] | None  # Of each of them, where the order goes by groups.
  model: nn.Module
  objective: objectives.Objective
  tx: optax.GradientTransformation
  steps_per_epoch: int
  num_steps: int


def prepare(
  config: ml_collections.ConfigDict, name: str, tokenizer: Tokenizer
) -> Stage:
  """The stage `name` of a config."""
  recipe = config[name]
  source = datasets.load(config.data.name, "train", config.data.data_dir)
  encode = make_encode(config, name, tokenizer)
  studies = loader.Studies(
    source,
    encode,
    image_size=config.data.image_size,
    views=config.data.views,
    edit=interventions.without(config.data.without),
    in_memory=config.data.in_memory,
  )
  indices = _readable(studies, config.data.skip_damaged)
  check_count(config, name, len(indices))
  _check_vocabulary(config, tokenizer)
  steps_per_epoch = len(indices) // recipe.batch_size
  num_steps = recipe.num_epochs * steps_per_epoch
  model = models.build(config.model)
  return Stage(
    name=name,
    config=config,
    recipe=recipe,
    tokenizer=tokenizer,
    source=source,
    studies=studies,
    indices=indices,
    groups=_study_ids(source, indices) if _is_grouped(recipe) else None,
    model=model,
    objective=make_objective(recipe, model),
    tx=optim.make(recipe.optim, num_steps),
    steps_per_epoch=steps_per_epoch,
    num_steps=num_steps,
  )


def make_encode(config: ml_collections.ConfigDict, name: str, tokenizer: Tokenizer):
  """`inference.make_encode` for the texts as the stage `name` reads them."""
  recipe = config[name]
  text = dict(config.text) | {"context_length": recipe.context_length}
  if recipe.objective == "generation":
    text["keep_end"] = recipe.keep_end
  return inference.make_encode(tokenizer, **text)


def make_objective(
  recipe: ml_collections.ConfigDict, model: nn.Module
) -> objectives.Objective:
  """What a stage minimises."""
  if recipe.objective == "contrastive":
    objective = objectives.contrastive(model, recipe.positives)
  else:
    objective = objectives.generation(model)
  if not any(recipe.augment.values()):
    return objective
  change = functools.partial(augment.films, **recipe.augment)
  return objectives.augmented(objective, change)


def check(config: ml_collections.ConfigDict) -> None:
  """Raises ValueError, naming the key, for what cannot be, before anything is made."""
  mesh = sharding.make_mesh(config.mesh)
  interventions.without(config.data.without)
  for name in config.stages:
    if name not in config:
      raise ValueError(f"config.stages: the config has no section {name!r}.")
    _check_recipe(config, name)
    sharding.check_rows(config[name].batch_size, mesh, f"{name}.batch_size")
  sharding.check_rows(config.decode.batch_size, mesh, "decode.batch_size")
  if (tokenizer := config.tokenizer.name) not in TOKENIZERS:
    raise ValueError(
      f"Unknown config.tokenizer.name {tokenizer!r}; known: {', '.join(TOKENIZERS)}."
    )
  if tokenizer == "gpt2":
    _check_vocabulary(config, Tokenizer.gpt2())
  check_model(config)
  for name in config.stages:
    _check_shapes(config, name)


def check_model(config: ml_collections.ConfigDict) -> None:
  """Raises ValueError, naming the key, where data, texts and model do not agree."""
  views = tuple(config.data.views)
  if len(views) != (size := config.model.num_views):
    raise ValueError(
      f"config.data.views has {len(views)} names, but config.model.num_views={size}."
    )
  if "unk" not in views or len(set(views)) < len(views):
    raise ValueError(
      f"config.data.views={views} needs unk, for what is unknown, and no name twice."
    )
  contexts = [config[name].context_length for name in config.stages]
  lengths = {
    "text": max(*config.text.values(), *contexts),
    "decoder": config.text.report_length,
  }
  for part, length in lengths.items():
    if (size := config.model[part].max_length) < length:
      raise ValueError(
        f"config.model.{part}.max_length={size}, but texts have up to {length} tokens."
      )
  try:
    models.build(config.model)
  except TypeError as error:
    raise ValueError(f"config.model describes no model: {error}") from error


def _check_vocabulary(config: ml_collections.ConfigDict, tokenizer: Tokenizer) -> None:
  # Under jit an index beyond a table is no error: it reads the last row.
  for part in ("text", "decoder"):
    if (size := config.model[part].vocab_size) < len(tokenizer):
      raise ValueError(
        f"config.model.{part}.vocab_size={size}, but the tokenizer has "
        f"{len(tokenizer)} entries."
      )


def _check_shapes(config: ml_collections.ConfigDict, name: str) -> None:
  """Makes a stage's parameters and moments as shapes: what is wrong says so."""
  model, optim_config = models.build(config.model), config[name].optim
  example = inference.example(image_size=config.data.image_size, **config.text)

  def init(key):
    method = objectives.METHODS[config[name].objective]
    params = model.init(key, example, method=method)["params"]
    trainable, _ = optim.split(params, optim_config.frozen)
    return optim.make(optim_config, num_steps=sys.maxsize).init(trainable)

  try:
    jax.eval_shape(init, jax.random.key(0))
  except (TypeError, ValueError) as error:
    reason = str(error).splitlines()[0]
    raise ValueError(f"Stage {name} of this config cannot be: {reason}") from error


def _check_recipe(config: ml_collections.ConfigDict, name: str) -> None:
  recipe = config[name]
  choices = {"objective": tuple(objectives.METHODS), "select_on": SELECT_ON}
  if recipe.objective == "contrastive":
    choices |= {"positives": objectives.POSITIVES, "select_by": SELECT_BY}
  for key, known in choices.items():
    if recipe[key] not in known:
      raise ValueError(
        f"Unknown config.{name}.{key} {recipe[key]!r}; known: {', '.join(known)}."
      )
  for key in ("batch_size", "num_epochs", "accumulation", "context_length"):
    if recipe[key] < 1:
      raise ValueError(f"config.{name}.{key}={recipe[key]}, but 1 is the least.")
  for key, amount in recipe.augment.items():
    if amount < 0:
      raise ValueError(f"config.{name}.augment.{key}={amount}, but 0 is the least.")
  if recipe.batch_size % recipe.accumulation:
    raise ValueError(
      f"config.{name}.batch_size={recipe.batch_size} does not divide into "
      f"config.{name}.accumulation={recipe.accumulation} micro-batches."
    )
  # Micro-batches take the rows in turn: side by side would be in different ones.
  if _is_grouped(recipe) and recipe.accumulation > 1:
    raise ValueError(
      f"config.{name}.group_views=True needs config.{name}.accumulation=1, not "
      f"{recipe.accumulation}, which would part the views of a study."
    )


def check_count(config: ml_collections.ConfigDict, name: str, count: int) -> None:
  """Raises ValueError where `count` records do not fill one batch of a stage."""
  if (size := config[name].batch_size) > count:
    raise ValueError(
      f"config.{name}.batch_size={size}, but there are only {count} records to "
      "train on."
    )


def _is_grouped(recipe: ml_collections.ConfigDict) -> bool:
  """Whether a stage has the views of a study side by side."""
  return recipe.objective == "contrastive" and recipe.group_views


def _study_ids(source: Sequence[Any], indices: np.ndarray) -> list[str]:
  return [loader.parse(source, int(i))["study_id"] for i in indices]


def _readable(studies: loader.Studies, skip_damaged: bool) -> np.ndarray:
  """Indices of the training records; with `skip_damaged` only of those that load."""
  if not skip_damaged:
    return np.arange(len(studies))
  good, bad = studies.readable()
  if bad:
    print(f"Skipped {len(bad)} damaged records of {len(studies)}: {bad[:10]}.")
  return np.asarray(good)
