"""ResNet against torch's own modules, in evaluation and in training."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxrg import sharding
from jaxrg.convert import vision
from jaxrg.models.grid import pooled
from jaxrg.models.layers import conv, max_pool
from jaxrg.models.resnet import Block, ResNet

TOLERANCE = 1e-5
NETS = {  # Blocks, whether with bottlenecks, width of the first.
  "resnet50": ((3, 4, 6, 3), True, 64),
  "narrow resnet18": ((2, 2, 2, 2), False, 16),
}


def draw(*shape, seed=0):
  values = np.random.default_rng(seed).normal(size=shape)
  return jnp.asarray(values, jnp.float32)


def relative_error(a, b) -> float:
  return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(b).max())


def flat(tree):
  return traverse_util.flatten_dict(tree, sep="/")


def variables_of(theirs):
  """The variables of ours that torch's network has."""
  torch_nets = pytest.importorskip("torch_nets")
  given = vision.convert(torch_nets.state_of(theirs), "torchvision")
  variables = dict(params=given.params, batch_stats=given.batch_stats)
  return jax.tree.map(jnp.asarray, variables)


@pytest.fixture(scope="module", params=NETS)
def theirs(request):
  """The fields of ours, and torch's network."""
  torch_nets = pytest.importorskip("torch_nets")
  fields = NETS[request.param]
  return fields, torch_nets.randomise(torch_nets.ResNet(*fields))


def test_evaluation(theirs):
  torch_nets = pytest.importorskip("torch_nets")
  fields, net = theirs
  ours, image = ResNet(*fields), draw(2, 64, 64, 3)
  grid = jax.jit(ours.apply)(variables_of(net), image)
  expected = torch_nets.channels_last(net.eval()(torch_nets.channels_first(image)))
  assert grid.shape == (2, 2, 2, ours.width)
  assert relative_error(grid, expected) <= TOLERANCE
  assert relative_error(pooled(grid), expected.mean((1, 2))) <= TOLERANCE
  assert (pooled(grid) >= 0).all()


def test_training(theirs):
  """Of a batch; then the running statistics are those of torch, which are unbiased."""
  torch_nets = pytest.importorskip("torch_nets")
  fields, net = theirs
  variables, image = variables_of(net), draw(4, 64, 64, 3)
  apply = lambda variables, image: ResNet(*fields).apply(
    variables, image, train=True, mutable=["batch_stats"]
  )
  grid, updated = jax.jit(apply)(variables, image)
  expected = torch_nets.channels_last(net.train()(torch_nets.channels_first(image)))
  assert relative_error(grid, expected) <= TOLERANCE
  assert relative_error(pooled(grid), expected.mean((1, 2))) <= TOLERANCE
  statistics, before = flat(updated["batch_stats"]), flat(variables["batch_stats"])
  expected = flat(variables_of(net)["batch_stats"])
  assert statistics.keys() == expected.keys()
  for path, value in statistics.items():
    assert relative_error(value, expected[path]) <= TOLERANCE, path
    assert relative_error(value, before[path]) > 1e-3, path


def test_gradients():
  """Of every parameter, in double precision, where rounding turns no ReLU."""
  torch = pytest.importorskip("torch")
  torch_nets = pytest.importorskip("torch_nets")
  fields = ((2, 1, 1, 1), True, 8)
  net = torch_nets.randomise(torch_nets.ResNet(*fields)).double().train()
  with jax.enable_x64(True):
    variables, image = variables_of(net), jnp.asarray(draw(3, 64, 64, 3), float)
    model = ResNet(*fields, dtype=jnp.float64)
    cotangent = jnp.asarray(draw(3, 2, 2, model.width, seed=1), float)

    @jax.jit
    @jax.grad
    def gradient(params):
      grid, _ = model.apply(
        variables | {"params": params}, image, train=True, mutable=["batch_stats"]
      )
      return (grid * cotangent).sum()

    ours = flat(gradient(variables["params"]))
    out = net(torch_nets.channels_first(image))
    (out * torch_nets.channels_first(cotangent)).sum().backward()
    with torch.no_grad():
      for parameter in net.parameters():
        parameter.copy_(parameter.grad)
    expected = flat(variables_of(net)["params"])
    assert ours.keys() == expected.keys()
    for path, value in ours.items():
      assert relative_error(value, expected[path]) <= 1e-10, path


# The padding, where Flax's own would be another (spec eir 2.1).


def tap(size, row, column):
  """Variables of a convolution that moves the image: one weight of one."""
  kernel = jnp.zeros((size, size, 1, 1)).at[row, column].set(1.0)
  return {"params": {"kernel": kernel}}


def test_the_stem_pads_three_on_every_side():
  image = draw(1, 8, 10, 1)
  stem = conv(1, 7, 2, kernel_init=jax.nn.initializers.ones)
  padded = np.pad(np.asarray(image), ((0, 0), (3, 3), (3, 3), (0, 0)))
  for row, column in ((0, 0), (6, 6), (0, 6), (3, 2)):
    out = stem.apply(tap(7, row, column), image)
    expected = padded[:, row : row + 8 : 2, column : column + 10 : 2]
    np.testing.assert_array_equal(out, expected)


def test_a_strided_convolution_pads_one_on_every_side():
  image = draw(1, 6, 8, 1)
  strided = conv(1, 3, 2, kernel_init=jax.nn.initializers.ones)
  padded = np.pad(np.asarray(image), ((0, 0), (1, 1), (1, 1), (0, 0)))
  for row, column in ((0, 0), (2, 2), (0, 2), (1, 1)):
    out = strided.apply(tap(3, row, column), image)
    expected = padded[:, row : row + 6 : 2, column : column + 8 : 2]
    np.testing.assert_array_equal(out, expected)


def test_beyond_the_edge_of_the_pool_there_is_nothing():
  """Zeros there would win over what is negative."""
  x = -1 - jnp.arange(16.0).reshape(1, 4, 4, 1)
  pool = max_pool(x)[0, ..., 0]
  np.testing.assert_array_equal(pool, [[-1, -2], [-5, -6]])


@pytest.mark.parametrize(("bottleneck", "strided"), [(True, 2), (False, 1)])
def test_the_stride_sits_on_the_first_3x3(bottleneck, strided):
  block = Block(4, stride=2, bottleneck=bottleneck)
  image = draw(1, 8, 8, 4)
  call = lambda image: block.init_with_output(
    jax.random.key(0), image, capture_intermediates=True
  )[1]
  variables = jax.eval_shape(call, image)
  for i in range(1, 4 if bottleneck else 3):
    (out,) = variables["intermediates"][f"conv_{i}"]["__call__"]
    assert out.shape[1] == (8 if i < strided else 4), i
  assert variables["params"][f"conv_{strided}"]["kernel"].shape[0] == 3


# Shapes and places.


def shapes_of(model, *shape):
  return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize(
  ("model", "count", "width"),
  [
    (ResNet(), 23_508_032, 2048),  # spec eir 9
    (ResNet((2, 2, 2, 2), False), 11_176_512, 512),
  ],
)
def test_counts(model, count, width):
  variables = shapes_of(model, 1, 64, 64, 3)
  assert sum(x.size for x in jax.tree.leaves(variables["params"])) == count
  assert model.width == width
  for path in (p for tree in variables.values() for p in flat(tree)):
    assert sharding.param_axes(path) == ()


@pytest.mark.parametrize(
  ("size", "stem_pool", "side"), [(224, True, 7), (256, True, 8), (128, False, 8)]
)
def test_grids(size, stem_pool, side):
  model = ResNet((1, 1, 1, 1), False, 4, stem_pool)
  call = lambda key, image: model.init_with_output(key, image)[0]
  grid = jax.eval_shape(call, jax.random.key(0), jnp.zeros((2, size, size, 3)))
  assert grid.shape == (2, side, side, model.width)


def test_kernels_begin_as_torchvision_s():
  """He normal by the fan out."""
  kernel = jax.jit(Block(64).init)(jax.random.key(0), jnp.zeros((1, 4, 4, 256)))
  kernel = kernel["params"]["conv_3"]["kernel"]
  assert kernel.shape == (1, 1, 64, 256)
  assert float(kernel.std()) == pytest.approx((2 / 256) ** 0.5, rel=0.03)


def test_images_that_are_not_there_do_not_move_the_statistics():
  model = ResNet((1, 1), False, 4)
  image, mask = draw(4, 32, 32, 3), jnp.array([True, False, True, False])
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


@pytest.mark.parametrize("mesh", [(8, 1, 1), (2, 2, 2)])
def test_batch_statistics_are_of_all_devices(mesh):
  model, image = ResNet((1, 1), False, 4), draw(8, 32, 32, 3)
  variables = jax.jit(model.init)(jax.random.key(1), image)
  apply = lambda image: model.apply(
    variables, image, train=True, mutable=["batch_stats"]
  )
  alone = jax.jit(apply)(image)
  mesh = sharding.make_mesh(mesh)
  with jax.set_mesh(mesh), nn.logical_axis_rules(sharding.AXIS_RULES):
    image = jax.device_put(image, sharding.batch_sharding(mesh))
    spread = jax.jit(apply)(image)
  assert (
    spread[0].sharding.shard_shape(spread[0].shape)[0]
    == 8 // mesh.size * (mesh.shape["tensor"])
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), spread, alone
  )


def test_bfloat16_computes_in_it_and_keeps_float32_parameters():
  model = ResNet((1, 1), False, 4, dtype=jnp.bfloat16)
  image = draw(2, 32, 32, 3)
  variables = jax.jit(model.init)(jax.random.key(0), image)
  grid = jax.jit(model.apply)(variables, image)
  assert grid.dtype == jnp.bfloat16
  assert pooled(grid).dtype == jnp.float32
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  exact = jax.jit(ResNet((1, 1), False, 4).apply)(variables, image)
  assert 0 < relative_error(grid.astype(jnp.float32), exact) < 0.05
