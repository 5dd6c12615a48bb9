"""Momentum contrast: the queue, the slow network, mixed images, groups, meshes."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrg import augment, losses, momentum, sharding
from jaxrg import state as state_lib
from jaxrg.models.layers import BatchNorm

ROWS, SIDE, DIM, QUEUE = 8, 6, 4, 16
KEY = jax.random.key(3)
TERMS = ("clean", "mixed", "feature")


class Network(nn.Module):
  """A convolution, batch statistics, and a head of two layers."""

  @nn.compact
  def embed(self, image, *, train=False):
    x = nn.Conv(6, (3, 3), strides=2, padding=1, use_bias=False, name="conv_1")(image)
    x = nn.relu(BatchNorm(name="norm_1")(x, train=train)).mean(axis=(1, 2))
    x = nn.relu(nn.Dense(8, name="wi")(x))
    return nn.Dense(DIM, name="wo")(x)


class Linear(nn.Module):
  """A network without batch statistics, of which a mixed image is a mixed feature."""

  @nn.compact
  def embed(self, image, *, train=False):
    del train
    return nn.Dense(DIM, use_bias=False, name="wo")(image.reshape(len(image), -1))


def same(images, key):
  """Both sights of a film are the film."""
  del key
  return images.astype(jnp.float32)


def noisy(images, key):
  return images + 20 * jax.random.normal(key, images.shape)


def make(model=None, *, name="moco_v2", groups=1, change=noisy, m=0.9, **options):
  return momentum.objective(
    model or Network(),
    name=name,
    momentum=m,
    temperature=0.2,
    groups=groups,
    change=change,
    normalise=lambda greys: greys / 255 - 0.5,
    **options,
  )


def films(rows=ROWS, seed=0):
  rng = np.random.default_rng(seed)
  return {"image": jnp.asarray(rng.integers(0, 256, (rows, SIDE, SIDE, 1), np.uint8))}


@functools.cache
def begin(model=None):
  """Variables whose key network is another one than the query network."""
  model = model or Network()
  first, second, queue = jax.random.split(jax.random.key(0), 3)
  image = jnp.zeros((2, SIDE, SIDE, 1))
  init = jax.jit(functools.partial(model.init, method="embed"))
  variables = momentum.start(init(second, image), queue, size=QUEUE, dim=DIM)
  return {**variables, "params": init(first, image)["params"]}


@functools.cache
def compiled(model=None, **options):
  return jax.jit(make(model, **options))


def parts(variables):
  return variables["params"], {k: x for k, x in variables.items() if k != "params"}


def assert_close(tree, other, rtol=1e-5, atol=1e-6):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), tree, other
  )


def columns(extra, first=0, count=ROWS):
  return np.asarray(extra["queue"]["keys"].T[first : first + count])


def test_the_key_network_starts_as_the_query_network_and_keys_have_length_one():
  variables = {"params": {"w": jnp.ones(3)}, "batch_stats": {"mean": jnp.zeros(2)}}
  started = momentum.start(variables, KEY, size=6, dim=5)
  jax.tree.map(np.testing.assert_array_equal, started["momentum"], variables)
  assert started["momentum"]["params"]["w"] is not variables["params"]["w"]
  assert started["queue"]["keys"].shape == (5, 6)
  np.testing.assert_allclose(
    jnp.linalg.norm(started["queue"]["keys"], axis=0), np.ones(6), rtol=1e-6
  )
  assert started["queue"]["pointer"].dtype == jnp.int32


def test_the_queue_wraps_around_and_forgets_the_oldest():
  """Spec eir 12, 12: wrap-around, oldest entry overwritten."""
  start = momentum.start({}, KEY, size=12, dim=DIM)["queue"]
  batches = jax.random.normal(KEY, (5, 4, DIM))
  queues = [start]
  for batch in batches:
    queues.append(jax.jit(momentum.enqueue)(queues[-1], batch))
  assert [int(q["pointer"]) for q in queues] == [0, 4, 8, 0, 4, 8]
  np.testing.assert_array_equal(queues[1]["keys"][:, 4:], start["keys"][:, 4:])
  first, second, third, fourth, fifth = batches
  for queue, held in ((3, (first, second, third)), (5, (fourth, fifth, third))):
    np.testing.assert_array_equal(queues[queue]["keys"].T, jnp.concatenate(held))


def test_a_queue_that_batches_do_not_divide_is_refused():
  """Spec eir 12, 12: K divisible by B; and B by the groups."""
  momentum.check("pretrain", size=16, batch_size=8, groups=4)
  for size, batch_size in ((20, 8), (4, 8), (0, 8)):
    with pytest.raises(
      ValueError, match=rf"config.pretrain.contrast.queue={size} .*\b8\b"
    ):
      momentum.check("pretrain", size=size, batch_size=batch_size, groups=1)
  for groups in (3, 8, 0):
    with pytest.raises(ValueError, match=rf"config.pretrain.contrast.groups={groups} "):
      momentum.check("pretrain", size=16, batch_size=8, groups=groups)
  with pytest.raises(ValueError, match=r"'moco_v3'.*moco_v2, c2l"):
    make(name="moco_v3")


def test_the_key_network_follows_a_resting_query_network():
  """Spec eir 12, 12: EMA closed form after t steps."""
  params, extra = parts(begin())
  start, step = extra["momentum"]["params"], compiled()
  for _ in range(5):
    _, (extra, _) = step(params, extra, films(), KEY)
  expected = jax.tree.map(lambda xi, new: new + 0.9**5 * (xi - new), start, params)
  assert_close(extra["momentum"]["params"], expected)


def test_the_key_network_follows_a_moving_query_network():
  """Spec eir 12, 12: each step sees the parameters that its gradient was taken at."""
  variables, m = begin(), 0.9
  tx = optax.sgd(0.5)
  state = state_lib.init(variables, tx, ())
  step = jax.jit(state_lib.make_train_step(make(), tx))
  seen = []
  for _ in range(3):
    seen.append(state.params)
    state, _ = step(state, films(), KEY)
  assert_close(seen[0], variables["params"])
  shares = [m**3, *((1 - m) * m ** (2 - i) for i in range(3))]
  networks = [variables["momentum"]["params"], *seen]
  mean = lambda *xs: sum(share * x for share, x in zip(shares, xs))
  assert_close(state.extra["momentum"]["params"], jax.tree.map(mean, *networks))


def test_one_step_by_hand():
  """The key network moves first; keys are told from the queue as it was before."""
  params, extra = parts(begin())
  loss, (after, metrics) = compiled(change=same)(params, extra, films(), KEY)
  image = films()["image"] / 255 - 0.5
  slow = jax.tree.map(
    lambda xi, new: 0.9 * xi + 0.1 * new, extra["momentum"]["params"], params
  )

  def run(params, statistics):
    output, changed = Network().apply(
      {"params": params, "batch_stats": statistics},
      image,
      train=True,
      method="embed",
      mutable=["batch_stats"],
    )
    output = np.asarray(output, np.float64)
    return output / np.linalg.norm(output, axis=1, keepdims=True), changed

  query, changed = run(params, extra["batch_stats"])
  keys, own = run(slow, extra["momentum"]["batch_stats"])
  queue = np.asarray(extra["queue"]["keys"], np.float64)
  logits = (
    np.concatenate([(query * keys).sum(1, keepdims=True), query @ queue], 1) / 0.2
  )
  expected = np.log(np.exp(logits).sum(1)) - logits[:, 0]
  assert float(loss) == pytest.approx(expected.mean(), rel=1e-5)
  assert float(metrics["accuracy"]) == (logits.argmax(1) == 0).mean()
  np.testing.assert_allclose(columns(after), keys, atol=1e-5)
  np.testing.assert_array_equal(columns(after, ROWS), queue.T[ROWS:].astype(np.float32))
  # Batch statistics are each network's own, and are not averaged.
  assert_close(after["batch_stats"], changed["batch_stats"])
  assert_close(after["momentum"]["batch_stats"], own["batch_stats"])
  mean = lambda changed: changed["batch_stats"]["norm_1"]["mean"]
  assert float(jnp.abs(mean(own) - mean(changed)).max()) > 1e-3


@pytest.mark.parametrize("name", momentum.NAMES)
def test_no_gradient_goes_through_the_keys(name):
  """Spec eir 12, 12: whether they come of the parameters or of a copy of them."""
  params, extra = parts(begin())

  @jax.jit
  def gradients(m, slow):
    def loss(params, slow):
      memory = extra | {"momentum": extra["momentum"] | {"params": slow}}
      return make(name=name, m=m)(params, memory, films(), KEY)[0]

    return jax.grad(loss, (0, 1))(params, slow)

  direct, to_keys = gradients(0.0, extra["momentum"]["params"])
  assert_close(direct, gradients(1.0, params)[0])
  assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(direct)) > 1e-2
  assert all((x == 0).all() for x in jax.tree.leaves(to_keys))


def test_c2l_of_images_that_keep_all_of_themselves_is_moco():
  """Spec eir 12, 12: with lambda=1 the second and third terms are the first."""
  params, extra = parts(begin())

  @functools.partial(jax.jit, static_argnames="name")
  def run(kept, name="c2l"):
    step = jax.value_and_grad(make(name=name, share=lambda key: kept), has_aux=True)
    (loss, (_, metrics)), gradient = step(params, extra, films(), KEY)
    terms = [metrics[f"{k}_loss"] for k in TERMS if f"{k}_loss" in metrics]
    return loss, terms, gradient

  expected, [term], its_gradient = run(1.0, "moco_v2")
  assert term == expected
  loss, terms, gradient = run(1.0)
  np.testing.assert_allclose([loss, *terms], [expected] * 4, rtol=1e-6)
  assert_close(gradient, its_gradient)
  loss, terms, _ = run(0.6)
  assert float(loss) == pytest.approx(np.mean(terms), rel=1e-6)
  assert float(terms[0]) == pytest.approx(float(expected), rel=1e-6)
  assert len({round(float(term), 3) for term in terms}) == 3


def test_an_image_keeps_the_larger_share_of_itself():
  shares = np.asarray(jax.vmap(momentum.mixing_share)(jax.random.split(KEY, 4000)))
  assert shares.min() >= 0.5
  quarters = np.quantile(shares, [0.25, 0.5, 0.75])
  np.testing.assert_allclose(quarters, [0.625, 0.75, 0.875], atol=0.02)


@pytest.mark.parametrize("enqueue_mixed", [False, True])
def test_what_c2l_pushes(enqueue_mixed):
  """To a linear network a mixed image is a mixed feature: so are their keys."""
  variables = begin(Linear())
  params, extra = parts(variables)
  extra["queue"] = momentum.start({}, KEY, size=4 * ROWS, dim=DIM)["queue"]
  objective = make(
    Linear(),
    name="c2l",
    change=same,
    m=1.0,
    enqueue_mixed=enqueue_mixed,
    share=lambda key: jnp.float32(0.75),
  )
  _, (after, _) = jax.jit(objective)(params, extra, films(), KEY)
  image = films()["image"].reshape(ROWS, -1) / 255 - 0.5
  output = image @ extra["momentum"]["params"]["wo"]["kernel"]
  np.testing.assert_allclose(columns(after), losses.unit(output), atol=1e-5)
  if not enqueue_mixed:
    assert int(after["queue"]["pointer"]) == ROWS
    np.testing.assert_array_equal(columns(after, ROWS), columns(extra, ROWS))
    return
  assert int(after["queue"]["pointer"]) == 3 * ROWS
  mixed, feature = columns(after, ROWS), columns(after, 2 * ROWS)
  np.testing.assert_allclose(mixed, feature, atol=1e-5)
  partners = []
  for row, key in enumerate(mixed):
    options = losses.unit(0.75 * output[row] + 0.25 * output)
    [partner] = np.flatnonzero(np.abs(options - key).max(axis=1) < 1e-5)
    partners.append(int(partner))
  assert sorted(partners) == list(range(ROWS)) != partners


@pytest.mark.parametrize("name", momentum.NAMES)
def test_an_evaluation_leaves_the_memory_alone_and_repeats_itself(name):
  params, extra = parts(begin())
  objective = compiled(name=name)
  loss, (kept, _) = objective(params, extra, films(), None)
  jax.tree.map(np.testing.assert_array_equal, kept, extra)
  assert loss == objective(params, extra, films(), None)[0]
  moved = extra | {"batch_stats": jax.tree.map(lambda x: x + 1, extra["batch_stats"])}
  assert loss != objective(params, moved, films(), None)[0]


@pytest.mark.parametrize("name", momentum.NAMES)
def test_rows_that_are_not_valid_count_nowhere(name):
  """Nor is a valid image mixed with one of them."""
  params, extra = parts(begin())
  objective = compiled(name=name, change=same)
  batch = films() | {"valid": jnp.arange(ROWS) < 5}
  short = {"image": batch["image"][:5]}
  loss, (_, metrics) = objective(params, extra, batch, None)
  expected, (_, its_metrics) = objective(params, extra, short, None)
  assert float(loss) == pytest.approx(float(expected), rel=1e-6)
  assert_close(metrics, its_metrics)


def test_groups_are_normalised_each_by_itself():
  """Two halves of one image each, told apart by their level alone."""
  params, extra = parts(begin())
  rows = jnp.concatenate([films()["image"][:4] // 4, 192 + films()["image"][4:] // 4])
  _, (after, _) = compiled(groups=2, change=same)(params, extra, {"image": rows}, KEY)
  variables = {"params": params, "batch_stats": extra["batch_stats"]}
  halves = [
    Network().apply(
      variables, half / 255 - 0.5, train=True, method="embed", mutable=["batch_stats"]
    )[1]["batch_stats"]
    for half in (rows[:4], rows[4:])
  ]
  mean = jax.tree.map(lambda a, b: (a + b) / 2, *halves)
  assert_close(after["batch_stats"], mean)
  apart = halves[0]["norm_1"]["mean"] - halves[1]["norm_1"]["mean"]
  assert float(jnp.abs(apart).max()) > 1e-2


def test_a_key_is_not_normalised_with_the_group_of_its_query():
  """Its group is another for every step; with one group there is nothing to change."""
  params, extra = parts(begin())
  for groups, differs in ((1, False), (2, True)):
    objective = compiled(groups=groups, change=same)
    once, again = (
      columns(objective(params, extra, films(), key)[1][0])
      for key in jax.random.split(KEY)
    )
    assert (np.abs(once - again).max() > 1e-3) == differs


@pytest.mark.parametrize("groups", [1, 4])
def test_keys_keep_the_rows_of_their_queries(groups):
  """Whatever the order in which they were made."""
  params, extra = parts(begin(Linear()))
  objective = jax.jit(make(Linear(), groups=groups, change=same, m=0.0))
  _, (after, metrics) = objective(params, extra, films(), KEY)
  image = films()["image"].reshape(ROWS, -1) / 255 - 0.5
  expected = losses.unit(image @ params["wo"]["kernel"])
  np.testing.assert_allclose(columns(after), expected, atol=1e-5)
  assert float(metrics["accuracy"]) == 1.0  # A key is its query here.


def test_images_have_no_order():
  params, extra = parts(begin())
  objective = compiled(change=same)
  order = jax.random.permutation(KEY, ROWS)
  loss, (after, _) = objective(params, extra, films(), KEY)
  shuffled = {"image": films()["image"][order]}
  other, (its, _) = objective(params, extra, shuffled, KEY)
  assert float(loss) == pytest.approx(float(other), rel=1e-6)
  np.testing.assert_allclose(columns(its), columns(after)[order], atol=1e-6)


def test_both_sights_differ_and_follow_the_key():
  params, extra = parts(begin())

  @jax.jit
  def sights(key):
    seen = []
    change = lambda images, key: seen.append(noisy(images, key)) or seen[-1]
    make(change=change)(params, extra, films(), key)
    return seen

  (first, second), (again, _), (other, _) = map(sights, (KEY, KEY, jax.random.key(4)))
  assert (first == again).all()
  assert (first != second).any()
  assert (first != other).any()


def test_spread_tells_a_collapse():
  valid = jnp.ones(512, bool)
  apart = losses.unit(jax.random.normal(KEY, (512, 16)))
  assert float(momentum.spread(apart, valid)) == pytest.approx(1, abs=0.02)
  assert float(momentum.spread(apart[:1].repeat(512, 0), valid)) < 1e-3
  some = jnp.arange(512) < 300
  assert float(momentum.spread(apart, some)) == pytest.approx(
    float(momentum.spread(apart[:300], valid[:300])), rel=1e-5
  )


def on_mesh(shape, name, groups, change):
  """Two steps with the state given away, as the loop does."""
  mesh = sharding.make_mesh(shape)
  with jax.set_mesh(mesh), nn.logical_axis_rules(sharding.AXIS_RULES):
    tx = optax.sgd(0.1)
    state = state_lib.init(jax.tree.map(jnp.copy, begin()), tx, ())
    shardings = sharding.state_shardings(state, mesh)
    state = jax.device_put(state, shardings)
    step = jax.jit(
      state_lib.make_train_step(make(name=name, groups=groups, change=change), tx),
      in_shardings=(shardings, sharding.batch_sharding(mesh), None),
      out_shardings=(shardings, None),
      donate_argnums=0,
    )
    history = []
    for seed in range(2):
      batch = sharding.to_global(jax.tree.map(np.asarray, films(seed=seed)), mesh)
      structure = jax.tree.map(lambda x: (x.shape, x.dtype), state)
      state, metrics = step(state, batch, KEY)
      assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == structure
      history.append(jax.device_get(metrics))
    return history, jax.device_get(state.extra)


def test_no_mesh_changes_a_training_step():
  """Loss, gradient norm, queue, and statistics of groups that lie across devices."""
  first, other = (on_mesh(m, "c2l", 4, noisy) for m in ((8, 1, 1), (2, 2, 2)))
  assert set(first[0][0]) >= {"loss", "grad_norm", "accuracy", "spread", "clean_loss"}
  assert_close(first, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "groups"), [("moco_v2", 1), ("moco_v2", 2), ("c2l", 4)]
)
def test_no_mesh_changes_what_radiographs_teach(name, groups):
  """With the augmentations of a run, whose keys are of films that lie anywhere."""
  meshes = ((8, 1, 1), (1, 8, 1), (2, 2, 2))
  change = functools.partial(augment.radiographs, flip=True)
  first, *others = [on_mesh(mesh, name, groups, change) for mesh in meshes]
  for other in others:
    assert_close(first, other, rtol=1e-4, atol=1e-5)
