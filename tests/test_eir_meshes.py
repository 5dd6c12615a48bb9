"""EIR's stages are the same on every mesh: loss, gradient, statistics and memory."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import micro_eir
from data_pipelines import graphs
from jaxrg import inputs, learning, models, objectives, sharding
from jaxrg import state as state_lib

MESHES = ((8, 1, 1), (2, 2, 2), (1, 8, 1))
ROWS = 16


def batch_of(config):
  """Random studies of the shapes that the config asks for, all with the base graph."""
  rng = np.random.default_rng(0)
  sizes = dict(max_nodes=config.graph.max_nodes, max_edges=config.graph.max_edges)
  named = dict(tokens_of=lambda name: [len(name)], name_length=config.graph.name_length)
  graph = graphs.pad(graphs.build((), **sizes), **sizes, **named, pad_id=3)
  example = jax.tree.map(np.asarray, inputs.example(config, "__call__"))
  batch = {name: np.repeat(x, ROWS, axis=0) for name, x in example.items()}
  batch |= {name: np.repeat(x[None], ROWS, axis=0) for name, x in graph.items()}
  draw = lambda name, most: rng.integers(0, most, batch[name].shape)
  batch["image"] = draw("image", 256).astype(np.uint8)
  batch["states"] = draw("states", 2).astype(np.int32)
  for name in ("history", "tokens"):
    batch[name] = draw(name, 300).astype(np.int32)
  batch["has_view"][1::2, 1] = False
  return batch


def first_step(shape, name, changes):
  """Metrics of a step of a stage on a mesh, and what it leaves beside the params."""
  config = micro_eir.get_config(changes)
  recipe, mesh = config[name], sharding.make_mesh(shape)
  model = models.build(config.model)
  objective = learning.make_objective(config, recipe, model, num_steps=10)
  method = objectives.METHODS[recipe.objective]
  batch = batch_of(config)
  if recipe.objective == "momentum":
    batch = {"image": batch["image"][:, 0]}
  example = inputs.argument(jax.tree.map(jnp.asarray, batch), method)
  tx = optax.sgd(0.1)

  def start(key):
    variables = model.init(key, example, method=method)
    return state_lib.init(learning.completion(config, recipe)(variables, key), tx, ())

  key = jax.random.key(0)
  with jax.set_mesh(mesh), nn.logical_axis_rules(sharding.AXIS_RULES):
    places = sharding.state_shardings(jax.eval_shape(start, key), mesh)
    # Made on one device: a random key is drawn alike, but sums are not on all meshes.
    state = jax.device_put(jax.jit(start)(key), places)
    rows = sharding.to_global(batch, mesh)
    step = jax.jit(
      state_lib.make_train_step(objective, tx), out_shardings=(places, None)
    )
    state, metrics = step(state, rows, jax.random.key(1))
  kept = {k: v for k, v in state.extra.items() if k != "momentum"}
  return jax.device_get((metrics, kept))


def assert_same(name, changes, meshes):
  first, *others = (first_step(shape, name, changes) for shape in meshes)
  assert first[0]["grad_norm"] > 1e-3
  for other in others:
    for key in ("loss", "grad_norm"):
      np.testing.assert_allclose(other[0][key], first[0][key], rtol=1e-4)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
      other[1],
      first[1],
    )


def test_the_mesh_changes_nothing_for_reports():
  """With the interpreter, so that every part but the head is there."""
  assert_same("refine", {}, MESHES[:2])


@pytest.mark.slow  # With a smaller encoder, test_momentum.py does it in seconds.
@pytest.mark.parametrize("objective", ["c2l", "moco_v2"])
def test_the_mesh_changes_nothing_for_the_encoder(objective):
  assert_same("pretrain", {"pretrain.contrast.name": objective}, MESHES)


@pytest.mark.slow
def test_the_mesh_changes_nothing_for_a_grid():
  changes = {"model.topics.name": "grid"}
  changes |= {"model.aggregation.cross_modal.order": "parallel"}
  assert_same("write", changes, MESHES)
