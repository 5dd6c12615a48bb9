"""The state of a run, and the one step that advances it."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrg import optim
from jaxrg.objectives import Objective

REMAT = ("none", "dots")  # What a gradient computes again, to need less memory.
REMAT_POLICY = jax.checkpoint_policies.dots_with_no_batch_dims_saveable


@struct.dataclass
class Progress:
  """What validation has said so far; in the state, so that it survives a restart."""

  best: jax.Array  # The best score, higher is better.
  best_step: jax.Array  # The step that had it.
  stale: jax.Array  # Validations since that score was first reached.
  mark: jax.Array  # The score that the plateau asks the next one to exceed.
  waited: jax.Array  # Validations since the rate fell or the mark was exceeded.
  factor: jax.Array  # Of the learning rate, under `plateau`.


@struct.dataclass
class TrainState:
  """The step is also the position in the data, and the seed of its randomness."""

  step: jax.Array
  params: Any
  extra: Any  # Collections that are not parameters: batch statistics, a queue.
  opt_state: optax.OptState
  progress: Progress


def init(variables: dict, tx: optax.GradientTransformation, frozen) -> TrainState:
  """The state at step 0 of the given variables; frozen parts get no moments."""
  params = variables["params"]
  extra = {k: v for k, v in variables.items() if k != "params"}
  trainable, _ = optim.split(params, frozen)
  count = lambda: jnp.zeros((), jnp.int32)
  return TrainState(
    step=count(),
    params=params,
    extra=extra,
    opt_state=tx.init(trainable),
    progress=Progress(
      best=jnp.full((), -jnp.inf, jnp.float32),
      best_step=count(),
      stale=count(),
      mark=jnp.full((), -jnp.inf, jnp.float32),
      waited=count(),
      factor=jnp.ones((), jnp.float32),
    ),
  )


def record_score(
  progress: Progress, score: float, step: int, *, factor: float, patience: int
) -> Progress:
  """Progress after a validation; after `patience` flat ones the rate falls.

  As in PyTorch's ReduceLROnPlateau, the mark moves only when it is exceeded by a
  relative 1e-4, so that many small improvements add up to one. Early stopping and
  selection count every improvement.
  """
  score = jnp.float32(score)
  mark = progress.mark
  exceeded = score > jnp.where(jnp.isneginf(mark), mark, mark + 1e-4 * jnp.abs(mark))
  waited = jnp.where(exceeded, 0, progress.waited + 1)
  falls = waited > patience
  better, best = score > progress.best, score >= progress.best
  return Progress(
    best=jnp.where(better, score, progress.best),
    best_step=jnp.where(best, step, progress.best_step).astype(jnp.int32),
    stale=jnp.where(better, 0, progress.stale + 1).astype(jnp.int32),
    mark=jnp.where(exceeded, score, mark),
    waited=jnp.where(falls, 0, waited).astype(jnp.int32),
    factor=progress.factor * jnp.where(falls, factor, 1.0),
  )


def make_train_step(
  objective: Objective,
  tx: optax.GradientTransformation,
  *,
  frozen: tuple[str, ...] = (),
  accumulation: int = 1,
  remat: str = "none",
):
  """The pure step `(state, batch, key) -> (state, metrics)`; the caller jits it.

  Gradients exist for what is trained, and for nothing else. With `accumulation` the
  batch is that many micro-batches, in turn: row i belongs to micro-batch i modulo
  `accumulation`, so that a batch spread over devices is cut without moving rows.
  With `remat` of "dots" the gradient keeps the products with parameters, and computes
  all between them again.
  """

  def micro_step(trainable, held, extra, batch, key):
    def loss_of(trainable):
      return objective(optim.join(trainable, held), extra, batch, key)

    if remat == "dots":
      loss_of = jax.checkpoint(loss_of, policy=REMAT_POLICY)
    grad_fn = jax.value_and_grad(loss_of, has_aux=True)
    (loss, (extra, metrics)), grads = grad_fn(trainable)
    return extra, grads, metrics | {"loss": loss}

  def train_step(state: TrainState, batch: Any, key: jax.Array):
    key = jax.random.fold_in(key, state.step)
    trainable, held = optim.split(state.params, frozen)
    at_step = lambda batch: batch | {"step": state.step}
    if accumulation == 1:
      batch = at_step(batch)
      extra, grads, metrics = micro_step(trainable, held, state.extra, batch, key)
    else:
      cut = lambda x: x.reshape(-1, accumulation, *x.shape[1:]).swapaxes(0, 1)

      def body(carry, inputs):
        extra, total = carry
        batch, index = at_step(inputs[0]), inputs[1]
        micro_key = jax.random.fold_in(key, index)
        extra, grads, metrics = micro_step(trainable, held, extra, batch, micro_key)
        return (extra, jax.tree.map(jnp.add, total, grads)), metrics

      zeros = jax.tree.map(jnp.zeros_like, trainable)
      (extra, grads), metrics = jax.lax.scan(
        body,
        (state.extra, zeros),
        (jax.tree.map(cut, batch), jnp.arange(accumulation)),
      )
      grads = jax.tree.map(lambda x: x / accumulation, grads)
      metrics = jax.tree.map(lambda x: x.mean(axis=0), metrics)

    updates, opt_state = tx.update(grads, state.opt_state, trainable)
    # An optimizer's update is linear in the rate, so the plateau's factor goes here.
    updates = jax.tree.map(lambda u: state.progress.factor * u, updates)
    trainable = optax.apply_updates(trainable, updates)
    metrics["grad_norm"] = optax.tree.norm(grads)
    return state.replace(
      step=state.step + 1,
      params=optim.join(trainable, held),
      extra=extra,
      opt_state=opt_state,
    ), metrics

  return train_step
