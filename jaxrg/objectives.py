"""What a stage of training minimises.

An objective is a pure function `(params, extra, batch, key) -> (loss, (extra,
metrics))`. It is all that the train step knows of a model or a paper. Without a
key it is an evaluation: no dropout, running statistics, rows weighted by `valid`.
With one, the batch also says at which `step` of the stage it is seen.
"""

from collections.abc import Callable, Mapping
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
  return losses.contrastive(image, report, scale, group, batch.get("valid"))


def generation(model: nn.Module) -> Objective:
  """Stage 2: write the report."""

  def objective(params, extra, batch, key):
    logits, extra = _apply(model, params, extra, batch, key, "__call__")
    loss, accuracy = _next_token(logits, batch)
    return loss, (extra, {"token_accuracy": accuracy})

  return objective


def interpretation(model: nn.Module) -> Objective:
  """Tell from a report the state of every topic (spec eir 6.6, stage 0)."""

  def objective(params, extra, batch, key):
    log_probs, extra = _apply(model, params, extra, batch, key, "interpret")
    return _states(log_probs, batch), (extra, {})

  return objective


def reporting(
  model: nn.Module,
  weights: Mapping[str, float],
  predicted: Callable[[jax.Array], float | jax.Array] | None = None,
) -> Objective:
  """Write the report, and tell the state of every topic (spec eir 6.5).

  `weights` are those of the losses of the `generator`, the `classifier` and, if it is
  among them, the `interpreter`, which reads the states again from what was written.
  `predicted(step)` is how many of the states that training writes from are the
  classifier's own, as all of them are at inference (6.2); None: all are the true ones.
  """
  method = "review" if "interpreter" in weights else "__call__"

  def objective(params, extra, batch, key):
    if predicted and key is not None:
      batch = batch | {"predicted": predicted(batch["step"])}
    output, extra = _apply(model, params, extra, batch, key, method)
    logits, *readings = output
    loss, accuracy = _next_token(logits, batch)
    parts = {"generator": loss}
    for name, log_probs in zip(("classifier", "interpreter"), readings):
      parts[name] = _states(log_probs, batch)
    metrics = {f"{name}_loss": loss for name, loss in parts.items()}
    loss = sum(weights[name] * loss for name, loss in parts.items())
    return loss, (extra, metrics | {"token_accuracy": accuracy})

  return objective


def _next_token(logits: jax.Array, batch: Any) -> tuple[jax.Array, jax.Array]:
  """The mean loss of a report's words, and how many were likeliest of all."""
  weights, labels = batch["tokens_mask"][:, 1:], batch["tokens"][:, 1:]
  if "valid" in batch:
    weights = weights & batch["valid"][:, None]
  right = (jnp.argmax(logits, axis=-1) == labels) & weights
  accuracy = right.sum() / jnp.maximum(weights.sum(), 1)
  return losses.next_token(logits, labels, weights), accuracy


def _states(log_probs: jax.Array, batch: Any) -> jax.Array:
  valid = batch.get("valid", jnp.ones(len(log_probs), bool))
  return losses.states(log_probs, batch["states"], valid)


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
# Which states training writes reports from; "scheduled" goes from the first to the
# second, at an even pace.
STATES = ("label", "predicted", "scheduled")
# The method that touches exactly the parameters that the objective needs.
METHODS = {
  "contrastive": "contrast",
  "generation": "__call__",
  "momentum": "embed",
  "interpretation": "interpret",
  "reporting": "__call__",
  "review": "review",
}
# Parts that stages before have trained and that the objective does not need.
UNUSED = {
  "interpretation": ("vision", "head"),
  "reporting": ("head", "interpreter"),
  "review": ("head",),
}
