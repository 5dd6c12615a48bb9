import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from jax.sharding import PartitionSpec as P

import published
import tiny
from configs import priorrg
from jaxrg import models, momentum, objectives, optim, sharding
from jaxrg import state as state_lib

METHODS = ("contrast", "__call__")


@pytest.fixture(scope="module")
def mesh():
  return sharding.make_mesh((2, 2, 2))


def specs(tree, mesh, rules=sharding.AXIS_RULES):
  placed = sharding.state_shardings(tree, mesh, rules)
  flat = traverse_util.flatten_dict(placed, sep="/")
  return {path: s.spec for path, s in flat.items()}


def test_every_parameter_of_the_default_model_has_a_place(mesh):
  config = priorrg.get_config()
  size, text = 128, (1, config.text.context_length)
  batch = tiny.batch(1) | {"image": jnp.zeros((1, size, size, 1), jnp.uint8)}
  batch["prior_image"] = batch["image"]
  for name in ("context", "report", "tokens"):
    batch |= {name: jnp.zeros(text, jnp.int32), f"{name}_mask": jnp.ones(text, bool)}
  model = models.build(config.model.to_dict())
  for method in METHODS:
    init = lambda key: model.init(key, batch, method=method)  # noqa: B023
    placed = specs(jax.eval_shape(init, jax.random.key(0)), mesh)
    assert placed["params/text/layer_0/mlp/wi/kernel"] == P("fsdp", "tensor")
    assert placed["params/vision/stem/conv_1/kernel"] == P(None, None, None, None)


def test_large_parameters_of_the_published_model_are_spread(mesh):
  shapes = published.built(2)
  placed = specs(traverse_util.unflatten_dict(shapes, sep="/"), mesh)
  of = lambda path: placed[f"params/{path}"]
  attention = "decoder/layer_0/self_attention"
  assert of(f"{attention}/query/kernel") == P("fsdp", "tensor", None)
  assert of(f"{attention}/out/kernel") == P("tensor", None, "fsdp")
  assert of("perceiver/layer_0/cross_mlp/gate/kernel") == P("fsdp", "tensor")
  assert of("perceiver/layer_0/cross_mlp/wo/kernel") == P("tensor", "fsdp")
  assert of("text/tokens/embedding") == P("tensor", None)
  assert of("fusion/channel_gate/wi/kernel") == P("fsdp", None)  # 12 x 3.
  ways = lambda spec: np.prod([2 for axis in spec if axis] or [1])
  total = sum(np.prod(x.shape) for x in shapes.values())
  held = sum(np.prod(x.shape) / ways(placed[path]) for path, x in shapes.items())
  assert held / total < 0.4


def test_a_dimension_that_does_not_divide_is_replicated(mesh):
  tree = {
    "tokens": {"embedding": jnp.zeros((67, 4))},
    "wi": {"kernel": jnp.zeros((4, 5))},
  }
  assert specs(tree, mesh) == {
    "tokens/embedding": P(None, None),
    "wi/kernel": P("fsdp", None),
  }


@pytest.mark.parametrize("path", ["decoder/gamma", "decoder/kernel", "decoder/rescale"])
def test_an_unknown_parameter_is_named(path):
  with pytest.raises(ValueError, match=f"'{path}'"):
    sharding.param_axes(path)


def test_moments_lie_where_their_parameters_do(mesh):
  params = {"a": {"wi": {"kernel": jnp.zeros((4, 8)), "bias": jnp.zeros(8)}}}
  state = state_lib.init({"params": params}, optax.adam(1.0), ())
  placed = sharding.state_shardings(state, mesh)
  kernel = placed.params["a"]["wi"]["kernel"]
  assert kernel.spec == P("fsdp", "tensor")
  moments = placed.opt_state[0]
  assert moments.mu["a"]["wi"]["kernel"] == moments.nu["a"]["wi"]["kernel"] == kernel
  assert placed.step.spec == moments.count.spec == placed.progress.best.spec == P()


def test_moments_of_a_part_that_may_rest_lie_there_too(mesh):
  params = {"a": {"wi": {"kernel": jnp.zeros((4, 8))}}, "b": {"bias": jnp.zeros(8)}}
  tx = optim.make(tiny.recipe(skip_unused=("a/",)), 10)
  state = state_lib.init({"params": params}, tx, ())
  placed = sharding.state_shardings(state, mesh)
  moments = placed.opt_state[1].inner_states["a/"].inner_state[0]
  assert moments.mu["a"]["wi"]["kernel"].spec == P("fsdp", "tensor")
  assert moments.count.spec == P()


def test_the_key_network_lies_where_the_query_network_does(mesh):
  params = {"wi": {"kernel": jnp.zeros((4, 8)), "bias": jnp.zeros(8)}}
  variables = {"params": params, "batch_stats": {"norm": {"mean": jnp.zeros(8)}}}
  variables = momentum.start(variables, jax.random.key(0), size=16, dim=8)
  state = state_lib.init(variables, optax.sgd(1.0), ())
  placed = sharding.state_shardings(state, mesh)
  assert placed.params["wi"]["kernel"].spec == P("fsdp", "tensor")
  slow = placed.extra["momentum"]
  assert slow["params"] == placed.params
  assert slow["batch_stats"] == placed.extra["batch_stats"]
  assert placed.extra["queue"]["keys"].spec == P(None, None)
  assert placed.extra["queue"]["pointer"].spec == P()


def test_a_mesh_that_does_not_fit_the_devices_is_refused():
  assert dict(sharding.make_mesh((-1, 2, 1)).shape) == dict(data=4, fsdp=2, tensor=1)
  with pytest.raises(ValueError, match=r"config.mesh=\(3, 1, 1\).*8 devices"):
    sharding.make_mesh((3, 1, 1))


def test_rows_of_a_batch_go_over_data_and_fsdp(mesh):
  batch = sharding.to_global({"x": np.arange(8).reshape(8, 1)}, mesh)
  rows = {tuple(s.data.ravel().tolist()) for s in batch["x"].addressable_shards}
  assert rows == {(0, 1), (2, 3), (4, 5), (6, 7)}


def test_a_misspelt_axis_is_an_error_and_no_mesh_is_none(mesh):
  x = jnp.zeros((8, 4))
  np.testing.assert_array_equal(sharding.constrain(x, "batch", "embed"), x)
  with jax.set_mesh(mesh), nn.logical_axis_rules(sharding.AXIS_RULES):
    spread = jax.jit(lambda x: sharding.constrain(x, "batch", "embed"))(x)
    assert spread.sharding.spec[0] == ("data", "fsdp")
    with pytest.raises(ValueError, match="bacth"):
      jax.jit(lambda x: sharding.constrain(x, "bacth", "embed"))(x)


def on_mesh(shape, stage, evaluate):
  """`evaluate(objective, variables, batch, key)` jitted on a mesh of `shape`."""
  mesh, model = sharding.make_mesh(shape), models.build(tiny.model_config())
  objective, method = getattr(objectives, stage)(model), objectives.METHODS[stage]
  with jax.set_mesh(mesh), nn.logical_axis_rules(sharding.AXIS_RULES):
    variables = tiny.variables(model, (method,))
    variables = jax.device_put(variables, sharding.state_shardings(variables, mesh))
    batch = sharding.to_global(jax.tree.map(np.asarray, tiny.batch(8)), mesh)
    return jax.jit(functools.partial(evaluate, objective))(
      variables, batch, jax.random.key(1)
    )


def forward(objective, variables, batch, key):
  extra = {"batch_stats": variables["batch_stats"]}
  loss, (extra, _) = objective(variables["params"], extra, batch, key)
  return loss, extra


def first_step(objective, variables, batch, key):
  tx = optax.sgd(0.1)
  frozen = ("vision/",)
  state = state_lib.init(variables, tx, frozen)
  step = state_lib.make_train_step(objective, tx, frozen=frozen)
  state, metrics = step(state, batch, key)
  return metrics["loss"], metrics["grad_norm"], state.extra


def assert_close(trees):
  first, *others = trees
  for other in others:
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), other, first
    )


def test_the_mesh_changes_neither_loss_nor_statistics():
  """The loss compares across the whole batch, wherever its rows are."""
  meshes = ((8, 1, 1), (2, 2, 2))
  assert_close([on_mesh(shape, "contrastive", forward) for shape in meshes])


@pytest.mark.slow
@pytest.mark.parametrize("stage", objectives.METHODS)
def test_no_mesh_changes_a_training_step(stage):
  meshes = ((8, 1, 1), (1, 8, 1), (2, 2, 2))
  assert_close([on_mesh(shape, stage, first_step) for shape in meshes])
