"""What an objective adds to a model and a loss: which rows and labels count."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg import objectives
from jaxrg.models.layers import BatchNorm


class Toy(nn.Module):
  """Both methods of a model of ours, with dropout and batch statistics."""

  @nn.compact
  def embed(self, x, train):
    x = BatchNorm(name="norm")(x, train=train)
    x = nn.Dense(4, name="dense")(x)
    return nn.Dropout(0.5)(x, deterministic=not train)

  def contrast(self, batch, *, train=False):
    x = self.embed(batch["image"], train)
    return x, batch["report"], jnp.float32(2.0)

  def __call__(self, batch, *, train=False):
    x = self.embed(batch["image"], train)
    return jnp.broadcast_to(x[:, None], (len(x), batch["tokens"].shape[1] - 1, 4))


@pytest.fixture(scope="module")
def batch():
  rng = np.random.default_rng(0)
  return {
    "image": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32),
    "report": jnp.asarray(rng.normal(size=(4, 4)), jnp.float32),
    "study": jnp.array([[1, 2], [1, 2], [1, 3], [4, 2]], jnp.uint32),
    "tokens": jnp.array([[0, 1, 2, 3]] * 4),
    "tokens_mask": jnp.array([[1, 1, 1, 0]] * 4, bool),
  }


@pytest.fixture(scope="module", params=["contrastive", "generation"])
def stage(request, batch):
  model = Toy()
  make, method = getattr(objectives, request.param), objectives.METHODS[request.param]
  variables = model.init(jax.random.key(0), batch, method=method)
  params, extra = variables["params"], {"batch_stats": variables["batch_stats"]}
  return jax.jit(make(model)), params, extra


def test_with_a_key_it_trains_and_without_it_evaluates(stage, batch):
  objective, params, extra = stage
  first, (moved, _) = objective(params, extra, batch, jax.random.key(0))
  other, _ = objective(params, extra, batch, jax.random.key(1))
  again, _ = objective(params, extra, batch, jax.random.key(0))
  assert first == again != other
  assert jax.tree.structure(moved) == jax.tree.structure(extra)
  assert (moved["batch_stats"]["norm"]["mean"] != 0).all()
  loss, (kept, _) = objective(params, extra, batch, None)
  jax.tree.map(np.testing.assert_array_equal, kept, extra)
  assert loss == objective(params, extra, batch, None)[0]


def test_rows_that_are_not_valid_count_nowhere(stage, batch):
  objective, params, extra = stage
  valid = jnp.array([True, True, True, False])
  padded = batch | {"valid": valid, "image": batch["image"].at[3].set(9.0)}
  three = jax.tree.map(lambda x: x[:3], batch)
  loss, _ = objective(params, extra, padded, None)
  assert float(loss) == pytest.approx(float(objective(params, extra, three, None)[0]))


def test_views_of_one_study_are_positives_of_one_another(batch):
  """Both words of a study's key decide; rows 2 and 3 share one word with others."""
  objective = objectives.contrastive(Toy())
  variables = Toy().init(jax.random.key(0), batch, method="contrast")
  params, extra = variables["params"], {"batch_stats": variables["batch_stats"]}
  loss, _ = objective(params, extra, batch, None)
  keys = jnp.array([[7, 7], [7, 7], [8, 8], [9, 9]], jnp.uint32)
  same, _ = objective(params, extra, batch | {"study": keys}, None)
  apart, _ = objective(params, extra, batch | {"study": keys.at[1].set(6)}, None)
  assert loss == same != apart


def test_positives_may_be_of_a_patient(batch):
  """All rows are one patient's: by patients every report is everybody's."""
  variables = Toy().init(jax.random.key(0), batch, method="contrast")
  params, extra = variables["params"], {"batch_stats": variables["batch_stats"]}
  one = jnp.zeros((4, 2), jnp.uint32)
  by_study, by_patient = (
    objectives.contrastive(Toy(), positives)(params, extra, given, None)[0]
    for positives, given in (
      ("study", batch | {"study": one}),
      ("patient", batch | {"patient": one}),
    )
  )
  assert by_study == by_patient
  assert by_study != objectives.contrastive(Toy())(params, extra, batch, None)[0]


def test_accuracy_counts_the_tokens_that_count(batch):
  objective = objectives.generation(Toy())
  variables = Toy().init(jax.random.key(0), batch)
  params, extra = variables["params"], {"batch_stats": variables["batch_stats"]}
  bias = jnp.array([0.0, 0.0, 99.0, 0.0])  # Always says 2: one label of two is 2.
  params = params | {"dense": params["dense"] | {"bias": bias}}
  _, (_, metrics) = objective(params, extra, batch, None)
  assert float(metrics["token_accuracy"]) == 0.5
