"""What may influence what in PriorRG, whatever its weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from jaxrg import models
from jaxrg.models.priorrg import SOURCES

ROWS = 4


@pytest.fixture(scope="module")
def model():
  return models.build(tiny.model_config())


@pytest.fixture(scope="module")
def batch():
  return tiny.batch(ROWS)


@pytest.fixture(scope="module")
def variables(model):
  return tiny.variables(model)


@pytest.fixture(scope="module")
def outputs(model, variables):
  """The jitted batch -> (memory, image embedding, report embedding)."""

  def apply(batch):
    image, report, _ = model.apply(variables, batch, method="contrast")
    return model.apply(variables, batch, method="encode"), image, report

  return jax.jit(apply)


@pytest.fixture(scope="module")
def train_outputs(model, variables):
  """The same in training, with the new statistics; dropout of one key."""

  def apply(batch):
    run = lambda method: model.apply(
      variables,
      batch,
      train=True,
      method=method,
      rngs={"dropout": jax.random.key(0)},
      mutable=["batch_stats"],
    )
    (image, report, _), first = run("contrast")
    memory, second = run("encode")
    return memory, image, report, first, second

  return jax.jit(apply)


def moved(before, after):
  """Which rows differ at all, over the memory and both embeddings."""
  differ = [
    (np.asarray(x) != np.asarray(y)).reshape(ROWS, -1).any(axis=1)
    for x, y in zip(before, after)
  ]
  return np.array(differ)


def assert_equal(before, after):
  jax.tree.map(np.testing.assert_array_equal, before, after)


def test_the_prior_speaks_where_there_is_one_and_nowhere_else(outputs, batch):
  before = outputs(batch)
  for change in (
    {"prior_image": 255 - batch["prior_image"]},
    {"prior_view": (batch["prior_view"] + 1) % 3},
  ):
    memory, image, report = moved(before, outputs(batch | change))
    np.testing.assert_array_equal(memory, batch["has_prior"])
    np.testing.assert_array_equal(image, batch["has_prior"])
    assert not report.any()


def test_an_absent_prior_changes_nothing_in_training_either(train_outputs, batch):
  """Not the outputs, and not the running statistics."""
  absent = ~batch["has_prior"][:, None, None, None]
  other = jnp.where(absent, 255 - batch["prior_image"], batch["prior_image"])
  assert_equal(train_outputs(batch), train_outputs(batch | {"prior_image": other}))


def test_a_batch_without_priors_is_finite_in_training(train_outputs, batch):
  none = batch | {"has_prior": jnp.zeros(ROWS, bool)}
  finite = jax.tree.map(lambda x: bool(jnp.isfinite(x).all()), train_outputs(none))
  assert all(jax.tree.leaves(finite))


@pytest.mark.parametrize("name", ["context", "report", "tokens"])
def test_padding_tokens_change_nothing(outputs, train_outputs, batch, name):
  other = jnp.where(batch[f"{name}_mask"], batch[name], 5)
  changed = batch | {name: other}
  assert_equal(outputs(batch), outputs(changed))
  assert_equal(train_outputs(batch), train_outputs(changed))


def test_rows_do_not_see_one_another_and_may_be_swapped(outputs, batch):
  order = jnp.array([2, 0, 3, 1])
  swapped = outputs(jax.tree.map(lambda x: x[order], batch))
  for before, after in zip(outputs(batch), swapped):
    np.testing.assert_allclose(after, before[order], rtol=1e-5, atol=1e-5)
  alone = batch | {"image": batch["image"].at[3].set(0), "context": batch["context"]}
  memory, image, _ = moved(outputs(batch), outputs(alone))
  assert memory.tolist() == image.tolist() == [False, False, False, True]


def test_every_input_speaks(outputs, batch):
  before = outputs(batch)
  first = {"context": batch["context"].at[:, 0].add(1) % tiny.PAD}
  assert moved(before, outputs(batch | first))[:2].all()
  view = {"view": (batch["view"] + 1) % 3}
  assert moved(before, outputs(batch | view))[:2].all()
  report = {"report": batch["report"].at[:, 1].add(1) % tiny.PAD}
  assert moved(before, outputs(batch | report))[2].all()


def test_an_empty_context_is_read_as_nothing(outputs, batch):
  """No real token at all: the masks alone decide, and all stays finite."""
  empty = batch | {"context_mask": jnp.zeros_like(batch["context_mask"])}
  before = outputs(empty)
  assert all(jnp.isfinite(x).all() for x in before)
  assert_equal(before, outputs(empty | {"context": batch["context"] * 0}))


def test_bytes_are_standardised_on_the_device(model, variables, batch):
  encode = lambda image: model.apply(variables, image, method="encode_image")[1]
  standardised = (batch["image"].astype(jnp.float32) / 255 - 0.5) / 0.25
  np.testing.assert_allclose(
    jax.jit(encode)(batch["image"]), jax.jit(encode)(standardised), rtol=1e-5, atol=1e-5
  )


def test_published_padding_is_read_up_to_the_longest_text_of_the_batch(variables):
  model = models.build(tiny.model_config() | {"mask_padding": False})
  batch = tiny.batch(ROWS)
  batch = {k: batch[k] for k in ("context", "context_mask")}
  real = batch["context_mask"]
  # The last column is nobody's.
  batch["context_mask"] = real.at[:, -1].set(False)
  image = jnp.zeros((ROWS, 5, model.width))

  @jax.jit
  def read(batch):
    def method(m):
      context = m.encode_text(batch["context"], batch["context_mask"], train=False)
      return m.read({"context": context, "time": (image, None)})

    return jnp.split(model.apply(variables, method=method), 2, axis=1)

  before = read(batch)
  longest = int(batch["context_mask"].sum(axis=1).max())
  beyond = batch | {"context": batch["context"].at[:, longest:].set(3)}
  assert not moved(before, read(beyond)).any()
  row = int(batch["context_mask"].sum(axis=1).argmin())
  within = batch | {"context": batch["context"].at[row, longest - 1].set(3)}
  only = [i == row for i in range(ROWS)]
  assert moved(before, read(within)).tolist() == [only, only]


@pytest.mark.parametrize("counted", [False, True])
def test_padding_enters_batch_statistics_where_it_is_told_to(variables, counted):
  """And the longest text of the batch bounds it: the last column is nobody's."""
  config = tiny.model_config() | {"mask_statistics": not counted}
  model = models.build(config)
  batch = tiny.batch(ROWS)
  tokens, real = batch["context"], batch["context_mask"].at[:, -1].set(False)
  row, longest = int(real.sum(axis=1).argmin()), int(real.sum(axis=1).max())

  @jax.jit
  def statistics(tokens):
    method = lambda m: m.encode_text(tokens, real, train=True)
    rngs = {"dropout": jax.random.key(0)}
    _, extra = model.apply(variables, method=method, rngs=rngs, mutable=["batch_stats"])
    return extra["batch_stats"]["text_head"]["batch_norm"]["mean"]

  before = statistics(tokens)
  within, beyond = tokens.at[row, longest - 1].set(3), tokens.at[:, -1].set(3)
  assert (statistics(within) != before).any() == counted
  np.testing.assert_array_equal(statistics(beyond), before)


@pytest.mark.parametrize("switch", [False, True])
def test_the_prior_trains_the_encoder_where_it_is_told_to(variables, batch, switch):
  model = models.build(tiny.model_config() | {"prior_gradient": switch})
  last = jnp.ones((ROWS, 5, model.vision.width))
  image = batch["prior_image"].astype(jnp.float32) / 255

  def total(image):
    method = lambda m, batch: m.over_time(last, batch, train=False)
    out = model.apply(variables, batch | {"prior_image": image}, method=method)
    return jnp.square(out).sum()

  gradient = jax.jit(jax.grad(total))(image)
  reached = jnp.abs(gradient).max(axis=(1, 2, 3)) > 0
  np.testing.assert_array_equal(reached, batch["has_prior"] & switch)


@pytest.fixture(scope="module")
def sources(model):
  """Of five tokens each, by name; those of the context are not all real."""
  data = jax.random.normal(jax.random.key(0), (3, ROWS, 5, model.width))
  mask = jnp.arange(5) < jnp.array([[1], [5], [3], [2]])
  return dict(zip(SOURCES, zip(data, (mask, None, None))))


FINE_TO_COARSE = ("joint", "time", "context")


@pytest.mark.parametrize(
  ("order", "seeded", "starts"),
  [
    (SOURCES, True, {"context": None, "time": "context", "joint": "time"}),
    (FINE_TO_COARSE, True, {"context": "time", "time": "joint", "joint": None}),
    (FINE_TO_COARSE, False, {"context": None, "time": None, "joint": None}),
    # The first stage has no joint reading.
    (FINE_TO_COARSE, True, {"context": "time", "time": None}),
    (("context", "joint", "time"), True, {"context": None, "time": "context"}),
  ],
)
def test_a_reading_starts_from_the_one_before(
  variables, sources, order, seeded, starts
):
  """Or from the Perceiver's own latents; the memory has one order whatever theirs."""
  model = models.build(tiny.model_config() | {"order": order, "seeded": seeded})

  def by_hand(m):
    def latents(name):
      start = latents(starts[name]) if starts[name] else None
      data, mask = sources[name]
      return m.perceiver(data, start, mask=mask)

    return jnp.concatenate([latents(name) for name in starts], axis=1)

  memory = model.apply(
    variables, {name: sources[name] for name in starts}, method="read"
  )
  expected = model.apply(variables, method=by_hand)
  np.testing.assert_array_equal(memory, expected)


def test_the_memory_is_a_set_and_the_chain_that_made_it_is_not(
  model, variables, batch, sources
):
  """Cross-attention has no order: only who starts from whose latents is one."""

  @jax.jit
  def logits_of(memory):
    method = lambda m: m.decoder(batch["tokens"], batch["tokens_mask"], memory)
    return model.apply(variables, method=method)

  def memory(**changes):
    other = models.build(tiny.model_config() | changes)
    return other.apply(variables, sources, method="read")

  published = memory()
  logits = logits_of(published)
  parts = jnp.split(published, len(SOURCES), axis=1)
  among_all = jax.random.permutation(jax.random.key(0), published.shape[1])
  for other in (jnp.concatenate(parts[::-1], axis=1), published[:, among_all]):
    np.testing.assert_allclose(logits_of(other), logits, rtol=1e-5, atol=1e-5)
  for changes in ({"order": FINE_TO_COARSE}, {"seeded": False}):
    distance = jnp.abs(logits_of(memory(**changes)) - logits)
    assert (distance.max(axis=(1, 2)) > 1e-2).all()


@pytest.mark.parametrize(
  ("change", "error", "match"),
  [
    ({"name": "r2gen"}, ValueError, "'r2gen'.*priorrg"),
    ({"temporal": {"depth": 3}}, TypeError, "depth"),
    ({"vision": {"stem": {"name": "resnet"}}}, ValueError, "'resnet'"),
    ({"fusion": {"name": "max"}}, ValueError, "fusion.name 'max'; .* last, mean"),
    ({"fusion": {"name": "last", "depth": 3}}, TypeError, "depth"),
    ({"order": ("context", "time")}, ValueError, "order=.* each of context, time, j"),
    ({"order": ("context", "time", "time")}, ValueError, "order=.* joint once"),
    ({"order": ("context", "joint", "image")}, ValueError, "order=.*'image'"),
  ],
)
def test_a_wrong_config_is_named(change, error, match):
  config = tiny.model_config()
  for name, value in change.items():
    config[name] = config[name] | value if isinstance(value, dict) else value
  with pytest.raises(error, match=match):
    models.build(config)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights(batch):
  model = models.build(tiny.model_config() | {"dtype": "bfloat16"})
  variables = jax.eval_shape(model.init, jax.random.key(0), batch)
  dtypes = {x.dtype for x in jax.tree.leaves(variables)}
  assert dtypes == {jnp.dtype("float32")}
  memory = lambda v: model.apply(v, batch, method="encode")
  assert jax.eval_shape(memory, variables).dtype == jnp.bfloat16
  logits = jax.eval_shape(model.apply, variables, batch)
  assert logits.dtype == jnp.float32


def test_features_are_the_mean_token_of_the_image_alone(model, variables, batch):
  _, last = model.apply(variables, batch["image"], method="encode_image")
  features = model.apply(variables, batch["image"], method="features")
  assert features.shape == (ROWS, model.vision.width)
  np.testing.assert_allclose(features, np.mean(last, axis=1), rtol=1e-5, atol=1e-6)
