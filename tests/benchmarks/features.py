"""A step of stage 1 at the published size, from films and from their features.

python tests/benchmarks/features.py [--batch=2] [--dtype=float32]

Both in one process, in turn; weights and studies are random, every study has a prior,
and what is measured is the least of three steps after the first. What features of all
of MIMIC-CXR's films take on disk is told, too.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from full_size import invent, timed

from configs import priorrg
from data_pipelines import feature_store
from jaxrg import learning, models, objectives, optim, state

FILMS = 377110  # Of MIMIC-CXR.
STEPS = 3


def seconds_of(config, batch):
  """Of a step on a batch."""
  recipe, model = config.pretrain, models.build(config.model)
  tx, frozen = optim.make(recipe.optim, 1000), recipe.optim.frozen
  objective = learning.make_objective(config, recipe, model, num_steps=1000)
  method = objectives.METHODS[recipe.objective]
  # Always from films: the variables are the same.
  pixels = invent("stage1", len(batch["image"]), len(batch["image"]))

  def init(key):
    variables = model.init(key, jax.tree.map(jnp.asarray, pixels), method=method)
    return state.init(variables, tx, frozen)

  train_step = jax.jit(
    state.make_train_step(objective, tx, frozen=frozen), donate_argnums=0
  )
  held = [jax.jit(init)(jax.random.key(0))]

  def run(batch):
    new, metrics = train_step(held.pop(), batch, jax.random.key(1))
    held.append(jax.block_until_ready(new))
    assert np.isfinite(metrics["loss"]), metrics

  run(batch)
  return min(timed(run, batch)[1] for _ in range(STEPS))


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--batch", type=int, default=2)
  parser.add_argument("--dtype", default="float32")
  args = parser.parse_args()
  config = priorrg.get_config("mimic_cxr")
  config.model.dtype = args.dtype
  tokens = (config.data.image_size // config.model.vision.stem.patch_size) ** 2 + 1
  shape = (args.batch, tokens, config.model.vision.width)
  batch = jax.tree.map(jnp.asarray, invent("stage1", args.batch, args.batch))
  hidden = jax.random.normal(jax.random.key(2), shape, feature_store.DTYPE)
  slow = seconds_of(config, batch)
  fast = seconds_of(config, batch | {"image": hidden, "prior_image": hidden})
  chip = jax.devices()[0].device_kind
  print(f"{chip}, {args.dtype}, batch {args.batch}: {slow:.2f} s a step from films,")
  print(f"{fast:.2f} s from features: {slow / fast:.1f} times as fast")
  size = np.prod(shape[1:]) * 2
  total = FILMS * size / 1e12
  print(f"a film's features {size / 1e6:.2f} MB, {FILMS:,} films {total:.2f} TB")


if __name__ == "__main__":
  main()
