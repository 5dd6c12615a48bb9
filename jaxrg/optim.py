"""Optimizers with groups by path, frozen parts, warm-up and decay."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util


def split(params: Any, frozen: Iterable[str]) -> tuple[dict, dict]:
  """(trainable, frozen) parts of `params`, by patterns of path prefixes.

  Raises ValueError for a pattern that matches nothing.
  """
  flat = traverse_util.flatten_dict(params, sep="/")
  frozen = tuple(frozen)
  _require_matches(flat, frozen, "frozen")
  held = {k: v for k, v in flat.items() if any(re.match(p, k) for p in frozen)}
  rest = {k: v for k, v in flat.items() if k not in held}
  unflatten = lambda tree: traverse_util.unflatten_dict(tree, sep="/")
  return unflatten(rest), unflatten(held)


def join(trainable: Any, frozen: Any) -> dict:
  """The params that `split` took apart."""
  flat = traverse_util.flatten_dict(trainable) | traverse_util.flatten_dict(frozen)
  return traverse_util.unflatten_dict(flat)


def _require_matches(flat: Mapping[str, Any], patterns: Iterable[str], what: str):
  unused = [p for p in patterns if not any(re.match(p, k) for k in flat)]
  if unused:
    raise ValueError(f"Patterns of optim.{what} that match no parameter: {unused}.")


def make_schedule(config: Any, num_steps: int) -> optax.Schedule:
  """The learning rate as a share of its peak, by step: warm-up, then a shape.

  `cosine` falls to 0 at `num_steps`; `constant` and `plateau` stay (the plateau's
  factor lives in the train state, where validation moves it). `steps` falls by
  `factor` at each of the `milestones`, shares of the run: epoch 12 of 20 is .6.
  """
  warmup = config.warmup_steps
  match config.schedule:
    case "cosine":
      if warmup >= num_steps:
        raise ValueError(
          f"optim.warmup_steps={warmup} must be fewer than the {num_steps} steps."
        )
      return optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, num_steps)
    case "constant" | "plateau":
      return lambda step: jnp.minimum(1.0, (step + 1) / (warmup + 1))
    case "steps":
      return _falling(config, num_steps)
    case name:
      raise ValueError(
        f"Unknown optim.schedule {name!r}; known: cosine, constant, plateau, steps."
      )


def _falling(config: Any, num_steps: int) -> optax.Schedule:
  if not all(0 < share < 1 for share in config.milestones):
    raise ValueError(
      f"optim.milestones={tuple(config.milestones)} are shares of the run: each must "
      "lie between 0 and 1."
    )
  steps = [round(share * num_steps) for share in config.milestones]

  def schedule(step):
    falls = sum(jnp.where(step >= milestone, 1.0, 0.0) for milestone in steps)
    warm = jnp.minimum(1.0, (step + 1) / (config.warmup_steps + 1))
    return warm * config.factor**falls

  return schedule


def make(config: Any, num_steps: int) -> optax.GradientTransformation:
  """The optimizer of the trainable part of the params (spec priorrg 3 and 4.3).

  `name` is `adamw` where the section has none; or `adam`, or `sgd`, which has a
  `momentum`: as in PyTorch both of them decay through the gradient (spec eir 2.3).
  `groups` are (pattern, rate) pairs, first match wins; the rest learns at
  `learning_rate`. Decay is on every parameter, or on matrices only. Each pattern of
  `skip_unused` names a part that rests in a step that makes no use of it.
  """
  schedule = make_schedule(config, num_steps)

  def start(params):
    flat = traverse_util.flatten_dict(params, sep="/")
    _require_matches(flat, [pattern for pattern, _ in config.groups], "groups")
    return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))

  def rates(params):
    flat = traverse_util.flatten_dict(params, sep="/")

    def rate(path):
      matches = [r for pattern, r in config.groups if re.match(pattern, path)]
      return matches[0] if matches else config.learning_rate

    return traverse_util.unflatten_dict({k: rate(k) for k in flat}, sep="/")

  def scale_by_rates(updates, state, params):
    factor = schedule(state.count)
    scaled = jax.tree.map(lambda u, r: -factor * r * u, updates, rates(params))
    return scaled, optax.ScaleByScheduleState(state.count + 1)

  clip, direction = config.grad_clip, _direction(config)
  if config.skip_unused:
    direction = (_skip_unused(optax.chain(*direction), config.skip_unused),)
  return optax.chain(
    optax.clip_by_global_norm(clip) if clip else optax.identity(),
    *direction,
    optax.GradientTransformation(start, scale_by_rates),
  )


def _direction(config: Any) -> tuple[optax.GradientTransformation, ...]:
  """What a section's optimizer makes of the gradients, before any rate."""
  matrices = lambda params: jax.tree.map(lambda x: x.ndim > 1, params)
  decay = optax.add_decayed_weights(
    config.weight_decay, None if config.decay_all else matrices
  )
  adam = optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=1e-8)
  match getattr(config, "name", "adamw"):
    case "adamw":
      return adam, decay
    case "adam":
      return decay, adam
    case "sgd":
      return decay, optax.trace(config.momentum)
    case name:
      raise ValueError(f"Unknown optim.name {name!r}; known: adamw, adam, sgd.")


def _skip_unused(
  tx: optax.GradientTransformation, patterns: Iterable[str]
) -> optax.GradientTransformation:
  """`tx`, of which the part under each pattern rests where all its gradients are zero.

  PyTorch leaves the gradients of what a batch does not use None, and AdamW then
  neither moves nor decays nor ages it: the temporal fusion, where no study of a batch
  has a prior. Each part counts its own steps.
  """

  def update(grads, state, params=None):
    used = jnp.any(jnp.stack([jnp.any(g != 0) for g in jax.tree.leaves(grads)]))
    updates, moved = tx.update(grads, state, params)
    keep = lambda new, old: jax.tree.map(lambda a, b: jnp.where(used, a, b), new, old)
    return keep(updates, jax.tree.map(jnp.zeros_like, updates)), keep(moved, state)

  def labels(params):
    flat = traverse_util.flatten_dict(params, sep="/")
    _require_matches(flat, patterns, "skip_unused")
    first = lambda path: next((p for p in patterns if re.match(p, path)), "always")
    return traverse_util.unflatten_dict({k: first(k) for k in flat}, sep="/")

  resting = optax.GradientTransformation(tx.init, update)
  parts = dict.fromkeys(patterns, resting)
  return optax.partition({"always": tx, **parts}, labels)
