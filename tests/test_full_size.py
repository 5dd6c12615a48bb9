"""The published size, for real: `pytest -m slow tests/test_full_size.py`, 8 GB."""

import functools

import jax
import numpy as np
import pytest

import published
from jaxrg import convert, inference, models

pytestmark = pytest.mark.slow


def random_state(stage: int) -> dict[str, np.ndarray]:
  """Random numbers under every published key, of about the size of trained ones."""
  rng = np.random.default_rng(stage)
  state = {}
  for key, x in published.state(stage).items():
    if key.endswith("num_batches_tracked"):
      state[key] = np.array(7)
      continue
    value = rng.standard_normal(x.shape, np.float32)
    # Scales and variances lie about one.
    about_one = key.endswith(("running_var", "lambda1")) or (
      "norm" in key.lower() and key.endswith("weight")
    )
    state[key] = np.float32(1) + np.abs(value) / 10 if about_one else value / 50
  return state


@pytest.mark.parametrize("stage", [1, 2])
def test_a_published_checkpoint_goes_in_runs_and_comes_back(stage):
  state = random_state(stage)
  config, variables = convert.priorrg(state)
  dropped = convert.dropped(state)
  model = models.build(config)
  example = inference.example(image_size=518, context_length=24, report_length=24)
  batch = example | {"has_prior": example["has_prior"] | True}
  method = {1: "contrast", 2: "__call__"}[stage]
  output = jax.jit(functools.partial(model.apply, method=method))(variables, batch)
  shapes = [(1, 768), (1, 768), ()] if stage == 1 else [(1, 23, 50264)]
  assert [x.shape for x in jax.tree.leaves(output)] == shapes
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(output))
  back = convert.to_priorrg(variables, dropped)
  assert back.keys() == state.keys()
  for key in list(state):
    np.testing.assert_array_equal(back.pop(key), state.pop(key), strict=True)
