import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

import goldens
from jaxrg import optim
from tiny import recipe

PARAMS = {
  "vision": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
  "decoder": {"kernel": jnp.ones((2, 3)), "scale": jnp.ones(3)},
}
ONES = jax.tree.map(jnp.ones_like, PARAMS)


def first_step(config, params=PARAMS, grads=ONES, num_steps=10):
  tx = optim.make(config, num_steps)
  updates, _ = tx.update(grads, tx.init(params), params)
  return updates


def test_split_and_join_are_inverse():
  trainable, frozen = optim.split(PARAMS, ("vision/", "decoder/scale"))
  assert trainable == {"decoder": {"kernel": PARAMS["decoder"]["kernel"]}}
  assert set(frozen) == {"vision", "decoder"}
  assert jax.tree.all(
    jax.tree.map(lambda a, b: a is b, optim.join(trainable, frozen), PARAMS)
  )
  assert optim.split(PARAMS, ())[1] == {}


def test_patterns_that_match_nothing_are_named():
  with pytest.raises(ValueError, match=r"optim.frozen.*'visoin/'"):
    optim.split(PARAMS, ("vision/", "visoin/"))
  with pytest.raises(ValueError, match=r"optim.groups.*'text/'"):
    first_step(recipe(groups=(("decoder/", 1.0), ("text/", 1.0))))


def test_each_group_has_its_rate_and_the_first_match_wins():
  groups = (("decoder/scale", 0.5), ("decoder/", 0.01))
  updates = first_step(recipe(groups=groups))
  rates = {"vision/kernel": 0.1, "decoder/kernel": 0.01, "decoder/scale": 0.5}
  flat = traverse_util.flatten_dict(updates, sep="/")
  for path, rate in rates.items():
    np.testing.assert_allclose(flat[path], -rate, rtol=1e-5, err_msg=path)


@pytest.mark.parametrize("decay_all", [False, True])
def test_decay_is_on_matrices_only_or_on_everything(decay_all):
  zero = jax.tree.map(jnp.zeros_like, PARAMS)
  config = recipe(weight_decay=0.2, decay_all=decay_all)
  updates = first_step(config, grads=zero)
  np.testing.assert_allclose(updates["vision"]["kernel"], -0.1 * 0.2, rtol=1e-6)
  expected = -0.1 * 0.2 if decay_all else 0.0
  for vector in (updates["vision"]["bias"], updates["decoder"]["scale"]):
    np.testing.assert_allclose(vector, expected, rtol=1e-6)


def test_clipping_bounds_what_adam_sees():
  """Beyond the bound only the direction counts, which Adam's ratio cannot tell ..."""
  grads = jax.tree.map(lambda x: 100 * x, ONES)
  tx = optim.make(recipe(grad_clip=1.0), 10)
  _, state = tx.update(grads, tx.init(PARAMS), PARAMS)
  moments = next(s for s in state if isinstance(s, optax.ScaleByAdamState)).mu
  # ... but its moments can.
  assert float(optax.tree.norm(moments)) == pytest.approx(0.1, rel=1e-5)


def test_cosine_warms_up_and_falls_to_nothing():
  schedule = optim.make_schedule(recipe(schedule="cosine", warmup_steps=4), 20)
  values = [float(schedule(step)) for step in (0, 2, 4, 12, 20)]
  assert values == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-6)
  with pytest.raises(ValueError, match=r"warmup_steps=20 .* 20 steps"):
    optim.make_schedule(recipe(schedule="cosine", warmup_steps=20), 20)


@pytest.mark.parametrize("name", ["constant", "plateau"])
def test_others_warm_up_and_stay(name):
  schedule = optim.make_schedule(recipe(schedule=name, warmup_steps=3), 20)
  values = [float(schedule(step)) for step in (0, 1, 3, 19)]
  assert values == pytest.approx([0.25, 0.5, 1, 1])
  assert float(optim.make_schedule(recipe(schedule=name), 20)(0)) == 1.0


def test_steps_fall_at_their_shares_of_any_run():
  """MoCo-CXR's milestones: epochs 12 and 18 of 20."""
  config = recipe(schedule="steps", milestones=(0.6, 0.9), factor=0.1)
  for length in (20, 200):
    schedule = optim.make_schedule(config, length)
    at = [0, 0.6 * length - 1, 0.6 * length, 0.9 * length - 1, 0.9 * length]
    values = [float(schedule(round(step))) for step in at]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01])
  config.warmup_steps = 3
  warm = optim.make_schedule(config, 20)
  assert [float(warm(step)) for step in (0, 1, 3)] == pytest.approx([0.25, 0.5, 1])
  for milestones in ((12, 18), (0.5, 1.0), (0,)):
    config.milestones = milestones
    with pytest.raises(ValueError, match=r"optim.milestones=.* between 0 and 1"):
      optim.make_schedule(config, 20)


def test_an_unknown_schedule_is_named():
  with pytest.raises(ValueError, match=r"'linear'.*cosine"):
    optim.make_schedule(recipe(schedule="linear"), 20)


def test_the_schedule_counts_steps():
  config = recipe(schedule="cosine", warmup_steps=2)
  tx = optim.make(config, 10)
  state, sizes = tx.init(PARAMS), []
  for _ in range(3):
    updates, state = tx.update(ONES, state, PARAMS)
    sizes.append(float(-updates["vision"]["bias"][0]))
  assert sizes == pytest.approx([0.0, 0.05, 0.1], rel=1e-4)


def test_a_part_that_is_not_used_rests_and_ages_by_its_own_steps():
  """As PyTorch's AdamW leaves what has no gradient."""
  torch = pytest.importorskip("torch")
  rate, decay = 0.1, 0.2
  config = recipe(learning_rate=rate, weight_decay=decay, decay_all=True)
  config.skip_unused = ("vision/",)
  tx = optim.make(config, 10)
  params, state = PARAMS, tx.init(PARAMS)
  theirs = {
    path: torch.ones(x.shape, requires_grad=True)
    for path, x in traverse_util.flatten_dict(PARAMS, sep="/").items()
  }
  adamw = torch.optim.AdamW(theirs.values(), lr=rate, weight_decay=decay)
  for size, used in ((1.0, False), (2.0, True), (-3.0, True), (4.0, False)):
    grads = jax.tree.map(lambda x: jnp.full_like(x, size), PARAMS)  # noqa: B023
    if not used:
      grads["vision"] = jax.tree.map(jnp.zeros_like, grads["vision"])
    updates, state = tx.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    for path, x in theirs.items():
      rests = path.startswith("vision/") and not used
      x.grad = None if rests else torch.full_like(x, size)
    adamw.step()
  for path, x in traverse_util.flatten_dict(params, sep="/").items():
    np.testing.assert_allclose(x, theirs[path].detach().numpy(), rtol=1e-4)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_steps_of_pytorch(name):
  """Decay before momentum and moments, or apart from them; the rate falls twice."""
  torch = pytest.importorskip("torch")
  config = recipe(name=name, schedule="steps", milestones=(0.3, 0.6), factor=0.1)
  config.momentum, config.weight_decay, config.decay_all = 0.9, 0.2, True
  # optax forms 1 - .999 in float32, so that Adam's steps err by 3e-5 of the rate.
  config.learning_rate = 0.1 if name == "sgd" else 0.01
  count, rng = 10, np.random.default_rng(0)
  first, *grads = rng.normal(size=(count + 1, 3, 2)).astype(np.float32)
  theirs = torch.tensor(first, requires_grad=True)
  options = dict(lr=config.learning_rate, weight_decay=config.weight_decay)
  optimizer = {
    "sgd": functools.partial(torch.optim.SGD, momentum=config.momentum),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
  }[name]([theirs], **options)
  falling = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 6], gamma=0.1)
  tx, ours = optim.make(config, count), {"kernel": jnp.asarray(first)}
  state, update = tx.init(ours), jax.jit(tx.update)
  for grad in grads:
    updates, state = update({"kernel": jnp.asarray(grad)}, state, ours)
    ours = optax.apply_updates(ours, updates)
    theirs.grad = torch.tensor(grad)
    optimizer.step()
    falling.step()
    np.testing.assert_allclose(ours["kernel"], theirs.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_what_holds_of_adamw_holds_of_the_others(name):
  """Groups, decay on matrices only, clipping, and a part that rests."""
  config = recipe(name=name, momentum=0.9, grad_clip=1.0, weight_decay=0.5)
  config.groups, config.skip_unused = (("decoder/", 0.01),), ("vision/",)
  grads = jax.tree.map(lambda x: 100 * x, ONES)
  updates = first_step(config, grads=grads)
  clipped = 1 / sum(x.size for x in jax.tree.leaves(ONES)) ** 0.5
  raw = lambda decay: clipped + decay if name == "sgd" else 1.0
  np.testing.assert_allclose(updates["decoder"]["scale"], -0.01 * raw(0.0), rtol=1e-4)
  np.testing.assert_allclose(updates["vision"]["kernel"], -0.1 * raw(0.5), rtol=1e-4)
  grads = grads | {"vision": jax.tree.map(jnp.zeros_like, grads["vision"])}
  updates = first_step(config, grads=grads)
  assert (updates["vision"]["kernel"] == 0).all()
  assert (updates["decoder"]["kernel"] != 0).all()


def test_an_unknown_optimizer_is_named():
  with pytest.raises(ValueError, match=r"optim.name 'lamb'; known: adamw, adam, sgd"):
    first_step(recipe(name="lamb"))


def test_a_part_that_may_rest_must_exist():
  with pytest.raises(ValueError, match=r"optim.skip_unused.*'tempral/'"):
    first_step(recipe(skip_unused=("tempral/",)))


@pytest.mark.parametrize("stage", [1, 2])
def test_one_step_of_the_authors_adamw(stage):
  """Their gradients in, their parameters out: groups, decay on everything, epsilon."""
  arrays, state = goldens.load(f"stage{stage}_train"), goldens.state(stage)
  rates = arrays["rates"].tolist()
  parts = {"rest": [], "decoder": []}
  for name in (k[5:] for k in arrays if k.startswith("grad/")):
    expected = arrays[f"step1/{name}"]
    given = (goldens.thin(state[name]), arrays[f"grad/{name}"])
    part = "decoder" if "text_decoder" in name else "rest"
    parts[part].append(np.stack([*(x[: len(expected)] for x in given), expected]))
  # AdamW is elementwise, so the entries of a group may lie in one row.
  rows = {k: jnp.asarray(np.concatenate(v, axis=1)) for k, v in parts.items() if v}
  params, grads = ({k: {"all": v[i]} for k, v in rows.items()} for i in (0, 1))
  config = recipe(
    learning_rate=rates[0],
    groups=(("decoder/", rates[1]),) if stage == 2 else (),
    weight_decay=0.01,
    decay_all=True,
  )
  updates = first_step(config, params, grads)
  for (name, row), rate in zip(rows.items(), rates):
    ours, theirs = np.asarray(params[name]["all"] + updates[name]["all"]), row[2]
    assert row.shape[1] > 500
    # A step is about as large as the rate. optax forms 1 - .999 in float32, which
    # errs by 5e-5, so its first step does by half as much.
    np.testing.assert_allclose(ours, theirs, rtol=2e-7, atol=3e-5 * rate)
    np.testing.assert_allclose(
      ours, theirs, rtol=1e-6, atol=1e-6 * np.abs(theirs).max()
    )
