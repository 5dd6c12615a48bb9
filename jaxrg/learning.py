"""What a stage learns and how: its model, objective and step, without any data."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import optax
from jax.sharding import Mesh

from jaxrg import augment, inputs, models, momentum, objectives, optim, sharding
from jaxrg.models.norms import standardise
from jaxrg.state import TrainState, init, make_train_step


@dataclasses.dataclass(frozen=True)
class Learning:
  """A stage of a config."""

  name: str
  config: ml_collections.ConfigDict
  recipe: ml_collections.ConfigDict  # The stage's own section.
  model: nn.Module
  objective: objectives.Objective
  # What the objective keeps beside the model's variables, added to them.
  complete: Callable[[dict, jax.Array], dict]
  tx: optax.GradientTransformation
  num_steps: int

  def first(self, variables: dict, key: jax.Array) -> TrainState:
    """The state at step 0 of a model's variables."""
    variables = self.complete(variables, key)
    return init(variables, self.tx, self.recipe.optim.frozen)


def learning(config: ml_collections.ConfigDict, name: str, num_steps: int) -> Learning:
  """The stage `name` of a config, to go on for `num_steps`."""
  recipe, model = config[name], models.build(config.model)
  return Learning(
    name=name,
    config=config,
    recipe=recipe,
    model=model,
    objective=make_objective(config, recipe, model, num_steps),
    complete=completion(config, recipe),
    tx=optim.make(recipe.optim, num_steps),
    num_steps=num_steps,
  )


def random_variables(
  config: ml_collections.ConfigDict, name: str
) -> Callable[[jax.Array], dict[str, Any]]:
  """What makes random variables of a key: those that the stage's method asks for."""
  model, method = models.build(config.model), objectives.METHODS[config[name].objective]
  return lambda key: model.init(key, inputs.example(config, method), method=method)


def abstract_state(stage: Learning, mesh: Mesh) -> TrainState:
  """The shapes of a stage's state, each with its place."""
  key = jax.eval_shape(lambda: jax.random.key(0))
  variables = jax.eval_shape(random_variables(stage.config, stage.name), key)
  shapes = jax.eval_shape(stage.first, variables, key)
  rules = stage.config.axis_rules
  return sharding.abstract(shapes, sharding.state_shardings(shapes, mesh, rules))


def abstract_batch(stage: Learning, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
  """The shapes of a global batch of a stage, each with its place."""
  method, rows = objectives.METHODS[stage.recipe.objective], stage.recipe.batch_size
  example = jax.eval_shape(lambda: inputs.example(stage.config, method))
  if method in inputs.ON_FILMS:
    example = {"image": example}
  place = sharding.batch_sharding(mesh)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype, sharding=place),
    example,
  )


def train_step(stage: Learning) -> Callable:
  """The pure step of a stage."""
  return make_train_step(
    stage.objective,
    stage.tx,
    frozen=stage.recipe.optim.frozen,
    accumulation=stage.recipe.accumulation,
    remat=stage.recipe.get("remat", "none"),
  )


def jitted_step(stage: Learning, state: TrainState, mesh: Mesh):
  """The step for states that lie as `state` does, which may be abstract."""
  shardings = jax.tree.map(lambda x: x.sharding, state)
  return jax.jit(
    train_step(stage),
    in_shardings=(shardings, sharding.batch_sharding(mesh), None),
    out_shardings=(shardings, None),
    donate_argnums=0,
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
