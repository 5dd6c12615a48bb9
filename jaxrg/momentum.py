"""Momentum contrast: images told apart by a slow copy of their encoder (spec eir 2).

Two collections beside the batch statistics make up its memory. `momentum` holds the
variables of the key network, a running mean of the query network; `queue` holds the
keys of past batches, the negatives. A batch is `image` (b h w 1), and `valid` at
evaluation.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrg import losses
from jaxrg.models import layers
from jaxrg.objectives import Metrics, Objective

NAMES = ("moco_v2", "c2l")
MEMORY = ("momentum", "queue")

Images = Float[Array, "b h w c"]


def start(variables: dict, key: jax.Array, *, size: int, dim: int) -> dict:
  """The variables, with a key network like them and a queue of `size` random keys."""
  keys = losses.unit(jax.random.normal(key, (size, dim))).T
  queue = {"keys": keys, "pointer": jnp.zeros((), jnp.int32)}
  return {**variables, "momentum": jax.tree.map(jnp.copy, variables), "queue": queue}


def check(stage: str, *, size: int, batch_size: int, groups: int) -> None:
  """Raises ValueError, naming the keys of `config.STAGE`, where sizes do not divide."""
  if batch_size < 1 or size < 1 or size % batch_size:
    raise ValueError(
      f"config.{stage}.contrast.queue={size} does not divide by the {batch_size} keys "
      f"of config.{stage}.batch_size that each step replaces."
    )
  if groups < 1 or batch_size % groups or batch_size < 2 * groups:
    raise ValueError(
      f"config.{stage}.contrast.groups={groups} does not cut the {batch_size} rows of "
      f"config.{stage}.batch_size into equal groups of at least 2."
    )


def mixing_share(key: jax.Array) -> Float[Array, ""]:
  """How much of itself a mixed image keeps: the larger part of 1 (spec eir 2.4)."""
  share = jax.random.uniform(key)  # Beta(1, 1).
  return jnp.maximum(share, 1 - share)


def objective(
  model: nn.Module,
  *,
  name: str,
  momentum: float,
  temperature: float,
  groups: int,
  change: Callable[[Array, jax.Array], Array],
  normalise: Callable[[Array], Images],
  enqueue_mixed: bool = False,
  share: Callable[[jax.Array], Array] = mixing_share,
) -> Objective:
  """MoCo v2, or C2L, which adds mixed images (spec eir 2.2 and 2.4).

  `change(images, key)` is one of the two sights of a batch of films, in greys, and
  `normalise` makes of these what `model.embed` takes as it is. Images are mixed when
  normalised, by a `share` drawn from a key. Batch statistics are those of `groups`
  parts of the batch, the key network's of parts of another order. In a step, first
  the key network moves, then come the keys, the loss against the queue as it was,
  and the clean keys into the queue; with `enqueue_mixed` all three batches of keys.

  An evaluation has one fixed key, running statistics, and leaves the memory alone.
  """
  if name not in NAMES:
    raise ValueError(f"Unknown objective {name!r}; known: {', '.join(NAMES)}.")

  def contrast(params, extra, batch, key):
    train, key = key is not None, jax.random.key(0) if key is None else key
    first_key, second_key, mix_key, *keys = jax.random.split(key, 7)
    valid = batch.get("valid", jnp.ones(len(batch["image"]), bool))
    options = dict(groups=groups, train=train)
    embed = functools.partial(_embed, model, **options)
    embed_key = functools.partial(_embed_shuffled, model, **options)
    first = normalise(change(batch["image"], first_key))
    second = normalise(change(batch["image"], second_key))

    query, teacher = _networks(params, extra, momentum if train else 1.0)
    u, query = embed(query, first, keys[0])
    v, teacher = embed_key(teacher, second, keys[1])
    pairs = {"clean": (u, v)}
    if name == "c2l":
      mix = _make_mix(mix_key, share, valid)
      u_mixed, query = embed(query, mix(first), keys[2])
      v_mixed, teacher = embed_key(teacher, mix(second), keys[3])
      pairs |= {"mixed": (u_mixed, v_mixed), "feature": (u_mixed, mix(v))}

    loss, metrics, keys = _score(pairs, extra["queue"]["keys"], temperature, valid)
    if train:
      pushed = keys.values() if enqueue_mixed else [keys["clean"]]
      queue = functools.reduce(enqueue, pushed, extra["queue"])
      statistics = {k: x for k, x in query.items() if k != "params"}
      extra = {**statistics, "momentum": teacher, "queue": queue}
    return loss, (extra, metrics)

  return contrast


def _score(
  pairs: dict[str, tuple[Array, Array]],
  queue: Float[Array, "d k"],
  temperature: float,
  valid: Bool[Array, "b"],
) -> tuple[Float[Array, ""], Metrics, dict[str, Array]]:
  """The mean loss of pairs of head outputs, what is said of it, and the unit keys."""
  unit = lambda x: losses.unit(x.astype(jnp.float32))
  queries = {k: unit(query) for k, (query, _) in pairs.items()}
  keys = {k: jax.lax.stop_gradient(unit(key)) for k, (_, key) in pairs.items()}
  scores = {
    k: losses.info_nce(queries[k], keys[k], queue, temperature, valid) for k in pairs
  }
  metrics = {f"{k}_loss": loss for k, (loss, _) in scores.items()}
  metrics["accuracy"] = scores["clean"][1]
  metrics["spread"] = spread(queries["clean"], valid)
  return sum(loss for loss, _ in scores.values()) / len(scores), metrics, keys


def spread(unit: Float[Array, "b d"], valid: Bool[Array, "b"]) -> Float[Array, ""]:
  """How far unit rows lie apart: 0 where they have collapsed, 1 all over the sphere."""
  weights = valid.astype(jnp.float32)[:, None] / jnp.maximum(valid.sum(), 1)
  mean = jnp.sum(weights * unit, axis=0)
  variance = jnp.sum(weights * jnp.square(unit - mean), axis=0)
  return jnp.sqrt(variance).mean() * unit.shape[1] ** 0.5


def enqueue(queue: dict[str, Array], keys: Float[Array, "b d"]) -> dict[str, Array]:
  """The queue with its oldest keys overwritten; as many as `keys` divide its size."""
  pointer = queue["pointer"]
  return {
    "keys": jax.lax.dynamic_update_slice_in_dim(queue["keys"], keys.T, pointer, 1),
    "pointer": (pointer + len(keys)) % queue["keys"].shape[1],
  }


def _networks(params: Any, extra: dict, momentum: float) -> tuple[dict, dict]:
  """Variables of the query network, and of the key network after its step.

  Only parameters follow: its batch statistics are its own.
  """
  query = {"params": params, **{k: x for k, x in extra.items() if k not in MEMORY}}
  follow = lambda old, new: old + (1 - momentum) * (new - old)
  teacher = extra["momentum"]
  moved = jax.tree.map(follow, teacher["params"], jax.lax.stop_gradient(params))
  return query, {**teacher, "params": moved}


def _embed(
  model: nn.Module,
  variables: dict,
  image: Images,
  key: jax.Array,
  *,
  groups: int,
  train: bool,
) -> tuple[Float[Array, "b d"], dict]:
  """Head outputs, and the variables with the statistics that this pass leaves.

  In training each of `groups` runs of rows is normalised by itself.
  """
  if not train:
    return model.apply(variables, image, method="embed"), variables
  collections = [name for name in variables if name != "params"]

  # Not a call for each group: only the statistics need to know of them, and rows that
  # are cut elsewhere would have to move between devices.
  with layers.statistics_by(groups):
    output, changed = model.apply(
      variables,
      image,
      train=True,
      method="embed",
      rngs={"dropout": key},
      mutable=collections,
    )
  return output, {**variables, **changed}


def _embed_shuffled(
  model: nn.Module,
  variables: dict,
  image: Images,
  key: jax.Array,
  *,
  groups: int,
  train: bool,
) -> tuple[Float[Array, "b d"], dict]:
  """`_embed` by groups of another order: no key shares the statistics of its query.

  By what they share a pair could be told from others without looking at the image.
  """
  embed = functools.partial(_embed, model, variables, groups=groups, train=train)
  if groups == 1 or not train:
    return embed(image, key)
  order_key, key = jax.random.split(key)
  order = jax.random.permutation(order_key, len(image))
  output, variables = embed(image[order], key)
  return output[jnp.argsort(order)], variables


def _make_mix(
  key: jax.Array, share: Callable[[jax.Array], Array], valid: Bool[Array, "b"]
) -> Callable[[Array], Array]:
  """Mixes rows with those of one permutation, in which only valid ones meet."""
  share_key, order_key = jax.random.split(key)
  kept, partner = share(share_key), _partners(order_key, valid)
  return lambda rows: kept * rows + (1 - kept) * rows[partner]


def _partners(key: jax.Array, valid: Bool[Array, "b"]) -> Int[Array, "b"]:
  drawn = jnp.argsort(jnp.where(valid, jax.random.uniform(key, valid.shape), 2.0))
  return jnp.zeros_like(drawn).at[jnp.argsort(~valid)].set(drawn)
