"""DenseNet against torch's own modules, in evaluation and in training."""

import copy

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxrg import sharding
from jaxrg.convert import vision
from jaxrg.models.densenet import DenseNet

TOLERANCE = 1e-5
FIELDS = ((2, 3, 2, 2), 8, 16)  # Blocks, growth, width of the stem.


def relative_error(a, b) -> float:
  return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(b).max())


def flat(tree):
  return traverse_util.flatten_dict(tree, sep="/")


def variables_of(theirs, kind="torchvision"):
  torch_nets = pytest.importorskip("torch_nets")
  given = vision.convert(torch_nets.state_of(theirs), kind)
  return jax.tree.map(
    jnp.asarray, dict(params=given.params, batch_stats=given.batch_stats)
  )


@pytest.fixture(scope="module")
def theirs():
  torch_nets = pytest.importorskip("torch_nets")
  return torch_nets.randomise(torch_nets.DenseNet(*FIELDS))


@pytest.fixture(scope="module")
def image():
  values = np.random.default_rng(0).normal(size=(3, 64, 64, 3))
  return jnp.asarray(values, jnp.float32)


def test_evaluation(theirs, image):
  torch_nets = pytest.importorskip("torch_nets")
  model = DenseNet(*FIELDS)
  grid = jax.jit(model.apply)(variables_of(theirs), image)
  expected = torch_nets.channels_last(theirs.eval()(torch_nets.channels_first(image)))
  assert grid.shape == (3, 2, 2, model.width)
  assert relative_error(grid, expected) <= TOLERANCE
  assert (grid >= 0).all()
  assert (grid > 0).any()


def test_training(theirs, image):
  """In double precision: what few images say of the last block is badly conditioned."""
  torch_nets = pytest.importorskip("torch_nets")
  net = copy.deepcopy(theirs).double().train()
  with jax.enable_x64(True):
    variables, image = variables_of(net), jnp.asarray(image, float)
    apply = lambda variables, image: DenseNet(*FIELDS, dtype=jnp.float64).apply(
      variables, image, train=True, mutable=["batch_stats"]
    )
    grid, updated = jax.jit(apply)(variables, image)
    expected = torch_nets.channels_last(net(torch_nets.channels_first(image)))
    assert relative_error(grid, expected) <= 1e-10
    statistics, before = flat(updated["batch_stats"]), flat(variables["batch_stats"])
    expected = flat(variables_of(net)["batch_stats"])
    assert statistics.keys() == expected.keys()
    for path, value in statistics.items():
      assert relative_error(value, expected[path]) <= 1e-10, path
      assert relative_error(value, before[path]) > 1e-3, path


def test_it_is_placed_on_a_mesh():
  model, mesh = DenseNet((1, 1), 4, 8), sharding.make_mesh((2, 2, 2))
  call = lambda key, image: model.init_with_output(key, image)[0]
  with jax.set_mesh(mesh), nn.logical_axis_rules(sharding.AXIS_RULES):
    grid = jax.eval_shape(call, jax.random.key(0), jnp.zeros((4, 32, 32, 3)))
  assert grid.shape == (4, 4, 4, model.width)


def test_without_the_last_normalisation(image):
  """As Nguyen et al. cut it: what the last block gives, negative values and all."""
  torch_nets = pytest.importorskip("torch_nets")
  fields = ((1, 1, 1, 1), 4, 8)
  net = torch_nets.randomise(torch_nets.DenseNet(*fields, final_norm=False)).eval()
  state = torch_nets.state_of(net)
  children = vision.CHILDREN["DenseNet"].split()
  nguyen = {}
  for key, value in state.items():
    _, child, rest = key.split(".", 2)
    name = f"feature.{children.index(child)}.{rest}"
    nguyen[f"module.clsgen.classifier.cnn.model.{name}"] = value
  given = vision.convert(nguyen, "nguyen")
  variables = jax.tree.map(
    jnp.asarray, dict(params=given.params, batch_stats=given.batch_stats)
  )
  grid = jax.jit(DenseNet(*fields, final_norm=False).apply)(variables, image)
  expected = torch_nets.channels_last(net(torch_nets.channels_first(image)))
  assert relative_error(grid, expected) <= TOLERANCE
  assert (grid < 0).any()


def test_counts():
  """DenseNet-121 has 7,978,856 parameters, of which 1,025,000 its classifier's."""
  model = DenseNet()
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
  assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == 7_978_856 - 1_025_000
  assert model.width == 1024
  for path in (p for tree in shapes.values() for p in flat(tree)):
    assert sharding.param_axes(path) == ()


def test_images_that_are_not_there_do_not_move_the_statistics(image):
  model = DenseNet((1, 1), 4, 8)
  mask = jnp.array([True, False, True])
  variables = jax.jit(model.init)(jax.random.key(1), image)
  apply = jax.jit(
    lambda image, mask: model.apply(
      variables, image, mask, train=True, mutable=["batch_stats"]
    )
  )
  grid, masked = apply(image, mask)
  real, alone = apply(image[::2], None)
  np.testing.assert_allclose(grid[::2], real, rtol=1e-4, atol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), masked, alone
  )
