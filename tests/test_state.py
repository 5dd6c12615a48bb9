import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrg import optim
from jaxrg import state as state_lib
from tiny import recipe

OPTIM = recipe()


def toy_objective(params, extra, batch, key):
  """Least squares, with a frozen offset and a statistic that counts its calls."""
  prediction = batch["x"] @ params["w"] + params["frozen"]["b"]
  loss = jnp.square(prediction - batch["y"]).mean()
  extra = {"batch_stats": {"calls": extra["batch_stats"]["calls"] + 1}}
  return loss, (extra, {"noise": jax.random.uniform(key)})


@pytest.fixture(scope="module")
def variables():
  return {
    "params": {"w": jnp.array([1.0, -2.0]), "frozen": {"b": jnp.array(0.5)}},
    "batch_stats": {"calls": jnp.zeros(())},
  }


@pytest.fixture(scope="module")
def batch():
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(8, 2)), jnp.float32)
  return {"x": x, "y": jnp.asarray(rng.normal(size=8), jnp.float32)}


def steps(variables, batch, *, accumulation=1, count=1, tx=None, factor=1.0):
  tx = tx or optim.make(OPTIM, 10)
  frozen = ("frozen/",)
  state = state_lib.init(variables, tx, frozen)
  state = state.replace(progress=state.progress.replace(factor=jnp.float32(factor)))
  step = jax.jit(
    state_lib.make_train_step(
      toy_objective, tx, frozen=frozen, accumulation=accumulation
    )
  )
  history = []
  for _ in range(count):
    state, metrics = step(state, batch, jax.random.key(0))
    history.append(metrics)
  return state, history


def test_frozen_parts_stay_and_have_no_moments(variables, batch):
  state, _ = steps(variables, batch, count=2)
  assert state.params["frozen"]["b"] == 0.5
  assert (state.params["w"] != variables["params"]["w"]).all()
  paths = [
    jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(state.opt_state)
  ]
  assert any("'w'" in path for path in paths)
  assert not any("frozen" in path for path in paths)


def test_a_step_is_gradient_descent_and_its_metrics_are_true(variables, batch):
  state, [metrics] = steps(variables, batch, tx=optax.sgd(0.1))
  w, b = variables["params"]["w"], 0.5
  residual = batch["x"] @ w + b - batch["y"]
  gradient = 2 * (residual[:, None] * batch["x"]).mean(axis=0)
  np.testing.assert_allclose(state.params["w"], w - 0.1 * gradient, rtol=1e-5)
  assert float(metrics["loss"]) == pytest.approx(float((residual**2).mean()), rel=1e-6)
  assert float(metrics["grad_norm"]) == pytest.approx(
    float(jnp.linalg.norm(gradient)), rel=1e-5
  )
  assert int(state.step) == 1


def test_accumulation_is_the_mean_gradient_with_statistics_in_turn(variables, batch):
  whole, [expected] = steps(variables, batch, tx=optax.sgd(0.1))
  parts, [metrics] = steps(variables, batch, accumulation=4, tx=optax.sgd(0.1))
  np.testing.assert_allclose(parts.params["w"], whole.params["w"], rtol=1e-6)
  for name in ("loss", "grad_norm"):
    assert float(metrics[name]) == pytest.approx(float(expected[name]), rel=1e-5)
  assert parts.extra["batch_stats"]["calls"] == 4
  assert int(parts.step) == 1


def test_randomness_follows_the_step(variables, batch):
  _, once = steps(variables, batch, count=3)
  _, again = steps(variables, batch, count=3)
  noise = [float(m["noise"]) for m in once]
  assert noise == [float(m["noise"]) for m in again]
  assert len(set(noise)) == 3


def test_the_factor_of_the_plateau_scales_the_step(variables, batch):
  full, _ = steps(variables, batch)
  tenth, _ = steps(variables, batch, factor=0.1)
  old = variables["params"]["w"]
  np.testing.assert_allclose(
    tenth.params["w"] - old, 0.1 * (full.params["w"] - old), rtol=1e-4
  )


# (score, factor afterwards) under PyTorch's ReduceLROnPlateau(mode="max", factor=0.5,
# patience=2), followed by hand.
VALIDATIONS = [
  (1.0, 1.0),
  (1.00008, 1.0),  # Not by a relative 1e-4: bad 1.
  (1.00016, 1.0),  # But this is, from 1.0: good.
  (0.9, 1.0),  # Bad 1.
  (1.0002, 1.0),  # Bad 2 = patience: not yet.
  (1.0, 0.5),  # Bad 3: the rate falls, and the count starts anew.
  (0.5, 0.5),
  (2.0, 0.5),  # Good.
  (1.9, 0.5),
  (1.9, 0.5),
  (1.9, 0.25),
  (1.9, 0.25),
]


def progress_after(scores, **options):
  variables = {"params": {"w": jnp.zeros(1)}}
  progress = state_lib.init(variables, optax.sgd(1.0), ()).progress
  history = []
  for step, score in enumerate(scores, start=1):
    progress = state_lib.record_score(progress, score, step, **options)
    history.append(progress)
  return history


def test_the_rate_falls_as_in_pytorch():
  scores, factors = zip(*VALIDATIONS)
  history = progress_after(scores, factor=0.5, patience=2)
  assert [float(p.factor) for p in history] == list(factors)


def test_early_stopping_and_selection_count_every_improvement():
  scores, _ = zip(*VALIDATIONS)
  history = progress_after(scores, factor=0.5, patience=2)
  assert [int(p.stale) for p in history] == [0, 0, 0, 1, 0, 1, 2, 0, 1, 2, 3, 4]
  assert (float(history[-1].best), int(history[-1].best_step)) == (2.0, 8)


def test_negative_scores_improve_upwards():
  """Stage 1 maximises the negative loss; 1e-4 relative is of its size."""
  history = progress_after([-2.0, -1.9999, -1.9], factor=0.1, patience=10)
  assert [int(p.waited) for p in history] == [0, 1, 0]
  assert float(history[-1].best) == pytest.approx(-1.9)


def test_a_score_that_is_no_number_is_not_the_best():
  nan = float("nan")
  history = progress_after([nan, 1.0, nan, 2.0], factor=0.1, patience=10)
  assert [float(p.best) for p in history[1:]] == [1.0, 1.0, 2.0]
  assert [int(p.stale) for p in history] == [1, 0, 1, 0]
  assert [int(p.waited) for p in history] == [1, 0, 1, 0]


def test_dtypes_survive_validation():
  before, after = progress_after([1.0, 2.0], factor=0.1, patience=1)
  fresh = state_lib.init({"params": {"w": jnp.zeros(1)}}, optax.sgd(1.0), ()).progress
  dtypes = lambda p: jax.tree.map(lambda x: (x.dtype, x.shape), p)
  assert dtypes(fresh) == dtypes(before) == dtypes(after)


def test_what_is_computed_again_changes_no_gradient():
  """And keeps less for it: products alone, not what lies between them."""

  def objective(params, extra, batch, key):
    x = batch["x"]
    for w in params["layers"]:
      x = jnp.tanh(jnp.sin(jnp.cos(x @ w)))
    return jnp.square(x).mean(), (extra, {})

  rng = np.random.default_rng(0)
  layers = jnp.asarray(rng.normal(size=(4, 32, 32)) / 5, jnp.float32)
  tx = optax.sgd(0.1)
  state = state_lib.init({"params": {"layers": layers}}, tx, ())
  batch = {"x": jnp.asarray(rng.normal(size=(512, 32)), jnp.float32)}
  found = {}
  for remat in state_lib.REMAT:
    step = state_lib.make_train_step(objective, tx, remat=remat)
    found[remat] = jax.jit(step).lower(state, batch, jax.random.key(0)).compile()
  after = {k: f(state, batch, jax.random.key(0))[0] for k, f in found.items()}
  np.testing.assert_allclose(
    after["dots"].params["layers"], after["none"].params["layers"], rtol=1e-6
  )
  sines = {k: f.as_text().count(" sine(") for k, f in found.items()}
  assert sines["dots"] > sines["none"]
