"""What a stage of training minimises.

An objective is a pure function `(params, extra, batch, key) -> (loss, (extra,
metrics))`. It is all that the train step knows of a model or a paper. Without a
key it is an evaluation: no dropout, running statistics, rows weighted by `valid`.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrg import losses

Metrics = dict[str, jax.Array]
Objective = Callable[
  [Any, Any, Any, jax.Array | None], tuple[jax.Array, tuple[Any, Metrics]]
]


def _apply(model: nn.Module, params, extra, batch, key, method: str):
  """The model's output, and `extra` as training leaves it."""
  variables = {"params": params, **extra}
  if key is None:
    return model.apply(variables, batch, method=method), extra
  return model.apply(
    variables,
    batch,
    train=True,
    method=method,
    rngs={"dropout": key},
    mutable=list(extra),
  )


def contrastive(model: nn.Module, positives: str = "study") -> Objective:
  """Stage 1: align images, read with their priors, to their reports.

  Positives of an image are the reports of its `study`, or of its `patient`.
  """

  def objective(params, extra, batch, key):
    output, extra = _apply(model, params, extra, batch, key, "contrast")
    loss = contrast_loss(output, batch, positives)
    return loss, (extra, {"temperature": 1 / output[-1]})

  return objective


def contrast_loss(output, batch, positives: str) -> jax.Array:
  """The loss of what a model's `contrast` gives for a batch: image, report, scale."""
  image, report, scale = output
  group = batch[positives]
  positive = (group[:, None] == group[None, :]).all(axis=-1)
  return losses.contrastive(image, report, scale, positive, batch.get("valid"))


def generation(model: nn.Module) -> Objective:
  """Stage 2: write the report."""

  def objective(params, extra, batch, key):
    logits, extra = _apply(model, params, extra, batch, key, "__call__")
    weights = batch["tokens_mask"][:, 1:]
    if "valid" in batch:
      weights = weights & batch["valid"][:, None]
    labels = batch["tokens"][:, 1:]
    right = (jnp.argmax(logits, axis=-1) == labels) & weights
    accuracy = right.sum() / jnp.maximum(weights.sum(), 1)
    loss = losses.next_token(logits, labels, weights)
    return loss, (extra, {"token_accuracy": accuracy})

  return objective


def classification(model: nn.Module) -> Objective:
  """Name the state of every topic (spec eir 6.2)."""

  def objective(params, extra, batch, key):
    log_probs, extra = _apply(model, params, extra, batch, key, "__call__")
    weights = batch.get("valid", jnp.ones(len(log_probs), bool))
    loss = losses.states(log_probs, batch["states"], weights)
    return loss, (extra, {})

  return objective


def augmented(
  objective: Objective, change: Callable[[Any, jax.Array], Any]
) -> Objective:
  """The objective on batches as `change(batch, key)` leaves them, in training only."""

  def changed(params, extra, batch, key):
    if key is not None:
      key, change_key = jax.random.split(key)
      batch = change(batch, change_key)
    return objective(params, extra, batch, key)

  return changed


POSITIVES = ("study", "patient")
# The method that touches exactly the parameters that the objective needs.
METHODS = {
  "contrastive": "contrast",
  "generation": "__call__",
  "momentum": "embed",
  "classification": "__call__",
}
# Parts that the stage before has trained and that the objective does not need.
UNUSED = {"classification": ("head",)}
