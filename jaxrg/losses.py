"""Losses: pure maths, means over the whole batch, so that none needs a collective."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int


def unit(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
  """Rows of length one (epsilon 1e-12, as the published code)."""
  square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  return x / jnp.sqrt(jnp.maximum(square, 1e-24))


def contrastive(
  image: Float[Array, "b d"],
  report: Float[Array, "b d"],
  scale: Float[Array, ""],
  positive: Bool[Array, "b b"],
  valid: Bool[Array, "b"] | None = None,
) -> Float[Array, ""]:
  """Symmetric InfoNCE with any number of positives a row (spec priorrg 3).

  The arrays are global: `image @ report.T` compares across all hosts, and the
  compiler inserts the gather. Rows that are not `valid` count nowhere.
  """
  logits = scale * unit(image) @ unit(report).T  # b b
  weights = jnp.ones(len(image)) if valid is None else valid.astype(jnp.float32)
  if valid is not None:
    positive = positive & valid[None, :] & valid[:, None]
    logits = jnp.where(valid[None, :] & valid[:, None], logits, -1e9)
  target = positive / jnp.maximum(positive.sum(axis=1, keepdims=True), 1)
  rows = optax.softmax_cross_entropy(logits, target)
  columns = optax.softmax_cross_entropy(logits.T, target)
  return jnp.sum(weights * (rows + columns)) / (2 * jnp.maximum(weights.sum(), 1))


def next_token(
  logits: Float[Array, "b t v"], labels: Int[Array, "b t"], weights: Bool[Array, "b t"]
) -> Float[Array, ""]:
  """Mean cross-entropy over the labels that count."""
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return jnp.sum(losses * weights) / jnp.maximum(weights.sum(), 1)
