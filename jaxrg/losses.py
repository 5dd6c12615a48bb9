"""Losses: pure maths, means over the whole batch, so that none needs a collective."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, UInt


def unit(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
  """Rows of length one (epsilon 1e-12, as the published code)."""
  square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  return x / jnp.sqrt(jnp.maximum(square, 1e-24))


# So many rows of logits are there at once; more come one part after another.
CHUNK = 4096


def contrastive(
  image: Float[Array, "b d"],
  report: Float[Array, "b d"],
  scale: Float[Array, ""],
  group: Int[Array, "b n"] | UInt[Array, "b n"],
  valid: Bool[Array, "b"] | None = None,
) -> Float[Array, ""]:
  """Symmetric InfoNCE; rows of one group are each other's positives (spec priorrg 3).

  The arrays are global: images and reports of all hosts are compared, and the
  compiler inserts the gather. Rows that are not `valid` count nowhere. Of large
  batches the logits are never all there, nor kept for the gradient.
  """
  image, report = scale * unit(image), unit(report)
  weights = jnp.ones(len(image), bool) if valid is None else valid
  every = (image, report, group, weights)

  def total(part):
    images, reports, groups, counts = part
    positive = (groups[:, None] == group[None, :]).all(axis=-1)
    positive = positive & counts[:, None] & weights[None, :]
    target = positive / jnp.maximum(positive.sum(axis=1, keepdims=True), 1)
    hide = lambda logits: jnp.where(counts[:, None] & weights[None, :], logits, -1e9)
    rows = optax.softmax_cross_entropy(hide(images @ report.T), target)
    columns = optax.softmax_cross_entropy(hide(reports @ image.T), target)
    return jnp.sum(counts * (rows + columns))

  count = next(n for n in range(1, len(image) + 1) if _cuts(len(image), n))
  if count == 1:
    losses = total(every)
  else:
    # Row i belongs to part i modulo `count`: no row moves between devices.
    cut = lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)
    losses = jax.lax.map(jax.checkpoint(total), jax.tree.map(cut, every)).sum()
  return losses / (2 * jnp.maximum(weights.sum(), 1))


def _cuts(rows: int, count: int) -> bool:
  return rows % count == 0 and rows // count <= CHUNK


def info_nce(
  query: Float[Array, "b d"],
  positive: Float[Array, "b d"],
  queue: Float[Array, "d k"],
  temperature: float | Float[Array, ""],
  weights: Bool[Array, "b"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """InfoNCE of unit rows against a queue of negatives (spec eir 2.2), and its accuracy.

  Accuracy is the share of rows whose positive is closer than every negative; a tie
  is none, or a collapsed encoder would always be right. A temperature of .07
  magnifies rounding, hence float32 and products in full precision.
  """
  query, positive, queue = (x.astype(jnp.float32) for x in (query, positive, queue))
  same = jnp.sum(query * positive, axis=-1, keepdims=True)
  other = jnp.matmul(query, queue, precision=jax.lax.Precision.HIGHEST)
  logits = jnp.concatenate([same, other], axis=-1) / temperature
  first = jnp.zeros(len(query), jnp.int32)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, first)
  right = logits[:, 0] > logits[:, 1:].max(axis=-1)
  weights = jnp.ones(len(query)) if weights is None else weights.astype(jnp.float32)
  total = jnp.maximum(weights.sum(), 1)
  return jnp.sum(losses * weights) / total, jnp.sum(right * weights) / total


def next_token(
  logits: Float[Array, "b t v"], labels: Int[Array, "b t"], weights: Bool[Array, "b t"]
) -> Float[Array, ""]:
  """Mean cross-entropy over the labels that count."""
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return jnp.sum(losses * weights) / jnp.maximum(weights.sum(), 1)


def states(
  log_probs: Float[Array, "b n k"], labels: Int[Array, "b n"], weights: Bool[Array, "b"]
) -> Float[Array, ""]:
  """Mean cross-entropy of the states of all topics, in the rows that count."""
  right = jnp.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0]
  return -jnp.sum(right.mean(axis=-1) * weights) / jnp.maximum(weights.sum(), 1)
