"""EIR as a whole: what its parts are told of a batch, and what they are not."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

import tiny_eir
from jaxrg import objectives, sharding
from jaxrg.models.aggregation import AddNorm, Concat, CrossModalAggregation
from jaxrg.models.classifier import StateClassifier
from jaxrg.models.eir import EIR, decide
from jaxrg.models.generator import PrefixGenerator
from jaxrg.models.graph import GraphEncoder
from jaxrg.models.heads import LinearHead, MlpHead
from jaxrg.models.history import HistoryEncoder, token_table
from jaxrg.models.interpreter import Interpreter
from jaxrg.models.layers import Readout
from jaxrg.models.topics import AttentionTopics, DenseTopics, GridTokens

ROWS = 4
SHAPE = (tiny_eir.TOPICS, tiny_eir.WIDTH)


@pytest.fixture(scope="module")
def batch():
  return tiny_eir.batch(ROWS)


@pytest.fixture(scope="module")
def model():
  return tiny_eir.model()


@pytest.fixture(scope="module")
def variables(model, batch):
  """Of everything, as all stages leave it."""
  init = lambda method: jax.jit(functools.partial(model.init, method=method))
  reviewed = init("review")(jax.random.key(0), batch)
  head = init("embed")(jax.random.key(1), batch["image"][:, 0])["params"]["head"]
  return reviewed | {"params": reviewed["params"] | {"head": head}}


@pytest.fixture(scope="module")
def apply(model, variables):
  """States of topics."""
  return jax.jit(lambda batch: model.apply(variables, batch, method="classify"))


def embed(model, variables, image, mask=None, **options):
  return jax.jit(functools.partial(model.apply, method="embed", **options))(
    variables, image, mask
  )


def test_it_gives_log_probabilities_of_the_states_of_topics(apply, batch):
  out = apply(batch)
  assert out.shape == (ROWS, tiny_eir.TOPICS, tiny_eir.STATES)
  assert out.dtype == jnp.float32
  np.testing.assert_allclose(jnp.exp(out).sum(axis=-1), 1.0, rtol=1e-5)


def test_each_input_counts_and_each_study_by_itself(apply, batch):
  out = apply(batch)
  for name in ("image", "history", "node_kind", "node_tokens", "senders"):
    changed = jnp.roll(batch[name][0], 1) if name != "image" else 255 - batch[name][0]
    moved = jnp.abs(apply(batch | {name: batch[name].at[0].set(changed)}) - out)
    assert moved[0].max() > 1e-5, name
    assert (moved[1:] == 0).all(), name


def test_padding_changes_no_probability(apply, batch):
  """Spec eir 12, 5: history tokens and nodes beyond the masks, and absent views."""
  out = apply(batch)
  beyond = {
    "history": jnp.where(batch["history_mask"], batch["history"], 3),
    "node_tokens": jnp.where(batch["node_tokens_mask"], batch["node_tokens"], 3),
    "node_kind": jnp.where(batch["node_mask"], batch["node_kind"], 2),
    "edge_kind": jnp.where(batch["edge_mask"], batch["edge_kind"], 4),
  }
  places = batch["has_view"][..., None, None, None]
  beyond["image"] = jnp.where(places, batch["image"], 200)
  for name, x in beyond.items():
    assert (x != batch[name]).any(), name
  np.testing.assert_array_equal(apply(batch | beyond), out)
  # Of four rows none has a history of all five tokens.
  fewer = {name: batch[name][:, :-1] for name in ("history", "history_mask")}
  np.testing.assert_allclose(apply(batch | fewer), out, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("train", [False, True])
def test_a_view_that_is_not_there_is_as_none(model, variables, batch, train):
  """Spec eir 12, 8: two views of which one is padding equal one, in statistics too."""
  single = batch | {
    "image": batch["image"][:, :1],
    "has_view": batch["has_view"][:, :1],
  }
  padded = batch | {"has_view": batch["has_view"].at[:, 1].set(False)}
  run = jax.jit(
    lambda batch: model.apply(
      variables, batch, train=train, mutable=["batch_stats"] if train else False
    )
  )
  for a, b in zip(jax.tree.leaves(run(padded)), jax.tree.leaves(run(single))):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_order_of_views_does_not_matter(apply, batch):
  """Spec eir 12, 8."""
  turned = batch | {name: batch[name][:, ::-1] for name in ("image", "has_view")}
  np.testing.assert_allclose(apply(turned), apply(batch), rtol=1e-5, atol=1e-6)


def test_the_least_of_studies_is_finite(model, variables, batch):
  """Spec eir 12, 6: no history, a graph of loops or of nothing; gradients as well."""

  @jax.jit
  def gradient(batch):
    def loss(params):
      out = model.apply(variables | {"params": params}, batch, method="review")
      return -sum(x.mean() for x in out)

    return jax.value_and_grad(loss)(variables["params"])

  loops = batch["edge_mask"] & (batch["senders"] == batch["receivers"])
  nothing = {
    name: jnp.zeros_like(batch[name])
    for name in ("history_mask", "edge_mask", "node_mask", "node_tokens_mask")
  }
  for change in ({"edge_mask": loops}, nothing):
    for x in jax.tree.leaves(gradient(batch | change)):
      assert jnp.isfinite(x).all()


@pytest.mark.parametrize(
  ("missing", "paths"),
  [
    (("history",), {"vision", "topics", "tokens", "graph", "aggregation"}),
    (("graph",), {"vision", "topics", "tokens", "history", "aggregation"}),
    (("history", "graph", "tokens"), {"vision", "topics"}),
  ],
)
def test_a_modality_that_is_off_is_neither_asked_for_nor_learned(batch, missing, paths):
  model = tiny_eir.model(**dict.fromkeys(missing))
  names = {"history": ("history",), "graph": ("node", "senders", "receivers", "edge")}
  unread = tuple(name for part in missing for name in names.get(part, ()))
  fewer = {k: x for k, x in batch.items() if not k.startswith(unread)}
  assert len(fewer) < len(batch)
  params = jax.eval_shape(model.init, jax.random.key(0), fewer)["params"]
  assert params.keys() == paths | {"classifier", "labels", "generator"}


def test_without_history_and_graph_states_are_those_of_the_image_alone(
  model, variables, batch
):
  """Spec eir 12, 7: the enhanced representation is D_img, to the bit."""
  alone = tiny_eir.model(history=None, graph=None, tokens=None)

  @jax.jit
  def both(batch):
    enhanced = alone.apply(variables, batch, method="enhance")
    topics = lambda m, batch: m.topics(*m.encode_views(batch))
    return enhanced, alone.apply(variables, batch, method=topics)

  np.testing.assert_array_equal(*both(batch))


def test_history_and_nodes_share_a_table(variables, model, batch):
  assert "embedding" in variables["params"]["tokens"]
  word = 7

  @jax.jit
  def gradient(batch):
    def loss(params):
      of = variables | {"params": params}
      return -model.apply(of, batch, method="classify")[..., 0].mean()

    return jax.grad(loss)(variables["params"])["tokens"]["embedding"]

  other = {
    "history": batch["history"] % word,
    "node_tokens": batch["node_tokens"] % word,
  }
  assert (gradient(batch | other)[word] == 0).all()
  for name in other:
    once = other | {name: other[name].at[0, 0].set(word)}
    mask = batch[f"{name}_mask"]
    assert mask[0].any()
    once[f"{name}_mask"] = mask.at[0, 0].set(True)
    assert (gradient(batch | once)[word] != 0).any(), name


def test_images_are_compared_by_the_head_of_their_pooled_grid(model, variables, batch):
  image = batch["image"][:, 0]
  out = embed(model, variables, image)
  assert out.shape == (ROWS, 4)
  # Of bytes as of floats that were normalised.
  floats = jnp.repeat(image / 255.0, 3, axis=-1)
  np.testing.assert_allclose(embed(model, variables, floats), out, rtol=1e-5, atol=1e-6)
  run = lambda method, *x: model.apply(variables, *x, method=method)
  grid = run("encode_image", image)
  features = run("features", image)
  np.testing.assert_allclose(features, grid.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
  head = MlpHead(4).apply({"params": variables["params"]["head"]}, features)
  np.testing.assert_allclose(out, head, rtol=1e-5, atol=1e-6)


def test_rows_that_are_not_real_move_no_statistics(model, variables, batch):
  image, real = batch["image"][:, 0], jnp.arange(ROWS) < 2
  run = functools.partial(embed, model, variables, train=True, mutable=["batch_stats"])
  masked, extra = run(image, real)
  shorter, expected = run(image[:2], real[:2])
  np.testing.assert_allclose(masked[:2], shorter, rtol=1e-5, atol=1e-6)
  for a, b in zip(jax.tree.leaves(extra), jax.tree.leaves(expected)):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_dropout_acts_in_training_only(variables, batch, apply):
  model = tiny_eir.model(dropout_rate=0.5)

  @functools.partial(jax.jit, static_argnames="train")
  def run(key, train):
    options = dict(train=train, rngs={"dropout": key}, mutable=["batch_stats"])
    return model.apply(variables, batch, method="classify", **options)[0]

  plain = run(jax.random.key(0), False)
  np.testing.assert_allclose(plain, apply(batch), rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(plain, run(jax.random.key(1), False))
  trained = run(jax.random.key(0), True)
  assert not np.allclose(trained, run(jax.random.key(1), True), atol=1e-3)


@pytest.mark.parametrize(
  ("rate", "mask"),
  [("history_dropout", "history_mask"), ("graph_dropout", "node_mask")],
)
def test_training_takes_a_modality_from_whole_studies(variables, rate, mask):
  """Each study is as it is, or as if it had none; evaluation is spared."""
  rows = 16
  batch = tiny_eir.batch(rows)
  gone = batch | {mask: jnp.zeros_like(batch[mask])}

  @functools.partial(jax.jit, static_argnames=("share", "train"))
  def run(batch, share, train=True):
    options = {"rngs": {"dropout": jax.random.key(0)}, "mutable": ["batch_stats"]}
    model = tiny_eir.model(**{rate: share})
    return model.apply(variables, batch, train=train, method="classify", **options)[0]

  whole, without, half = run(batch, 0.0), run(gone, 0.0), run(batch, 0.5)
  np.testing.assert_allclose(run(batch, 1.0), without, rtol=1e-5, atol=1e-6)
  is_same = lambda x: (jnp.abs(half - x).max(axis=(1, 2)) < 1e-6).tolist()
  assert (jnp.abs(whole - without).max(axis=(1, 2)) > 1e-5).all()
  assert [a != b for a, b in zip(is_same(whole), is_same(without))] == [True] * rows
  assert 0 < sum(is_same(whole)) < rows
  np.testing.assert_array_equal(run(batch, 0.5, False), run(batch, 0.0, False))


# Every part in each of its forms; those of the published size by their shapes.


def shapes(model, batch, methods=("review", "embed")):
  """The parameters that the methods of a model have together, by path."""
  found = {}
  for method in methods:
    data = batch["image"][:, 0] if method == "embed" else batch
    init = functools.partial(model.init, method=method)
    params = jax.eval_shape(init, jax.random.key(0), data)["params"]
    found |= traverse_util.flatten_dict(params, sep="/")
  return found


CROSS_MODAL = functools.partial(
  CrossModalAggregation, tiny_eir.TOPICS, 1, tiny_eir.WIDTH, 2, 8
)


@pytest.mark.parametrize(
  "parts",
  [
    {},
    {"topics": AttentionTopics(*SHAPE, num_heads=2), "head": LinearHead(4)},
    {"topics": GridTokens(8), "aggregation": CROSS_MODAL(target="grid")},
    {"aggregation": CROSS_MODAL(order="parallel")},
    {
      "aggregation": AddNorm(*SHAPE),
      "graph": GraphEncoder(1, 2, 8, 8, relation_bias=True),
    },
    {"aggregation": Concat(*SHAPE), "num_states": 4, "reading": "gumbel_st"},
    {"reading": "residual"},
  ],
)
def test_every_parameter_has_a_place_and_every_form_the_same_output(batch, parts):
  model = tiny_eir.model(**parts)
  for path, x in shapes(model, batch).items():
    assert len(sharding.param_axes(path)) <= len(x.shape), path
  variables = jax.eval_shape(model.init, jax.random.key(0), batch)
  logits, out = jax.eval_shape(model.apply, variables, batch)
  states = parts.get("num_states", 2)
  assert (out.shape, out.dtype) == ((ROWS, tiny_eir.TOPICS, states), jnp.float32)
  words = (ROWS, tiny_eir.REPORT_LENGTH - 1, tiny_eir.VOCAB_SIZE)
  assert (logits.shape, logits.dtype) == (words, jnp.float32)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights(batch):
  model = tiny_eir.model(dtype=jnp.bfloat16)
  variables = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  enhance = functools.partial(model.apply, method="enhance")
  assert jax.eval_shape(enhance, variables, batch).dtype == jnp.bfloat16
  for out in jax.eval_shape(model.apply, variables, batch):
    assert out.dtype == jnp.float32


@pytest.fixture(scope="module")
def full():
  """EIR of the published widths, its image encoder apart, and its parameters' sizes."""
  model = EIR(
    vision=tiny_eir.Vision(2048),
    head=MlpHead(128),
    tokens=token_table(1000, 256),
    history=HistoryEncoder(1, 8, 256, 256, max_length=1000),
    graph=GraphEncoder(2, 8, 256, 1024),
    topics=DenseTopics(114, 256),
    aggregation=CrossModalAggregation(114, 2, 256, 8, 1024),
    classifier=StateClassifier(2, 256),
    labels=token_table(114, 256),
    generator=PrefixGenerator(1000, 12, 1, 256, 256, max_length=1000),
    interpreter=Interpreter(
      tokens=token_table(1000, 256),
      encoder=HistoryEncoder(1, 8, 256, 256, max_length=1000),
      readout=Readout(114, 256, 8),
      classifier=StateClassifier(2, 256, 8),
    ),
    reading="residual",  # As published: the others have no use for `rewrite`.
    threshold=0.25,
    norm="unit",
  )
  states = {"states": jnp.zeros((1, 114), jnp.int32)}
  return model, shapes(model, tiny_eir.batch(1) | states)


# Of the specification's total: the values of the state attention that nothing reads,
# the topic queries and the norm of a sum that cross-modal aggregation does not have.
# It does not count the first norm of the graph encoder, nor the vector of added nodes.
VISION, TOTAL = 23_508_032, 94_873_920
UNREAD, GRAPH = 132_096 + 29_184 + 512, 512 + 256


@pytest.mark.parametrize(
  ("parts", "size"),
  [
    (("history", "tokens"), 907_776),
    (("graph",), 1_649_920 + GRAPH),
    (("topics",), 59_798_016),
    (("aggregation",), 2 * 1_581_056),
    (("classifier",), 512 + 263_680 - 132_096),
    (("head",), 4_458_624),
    (("generator",), 5_524_992),
    (("labels",), 29_184),
    (
      (
        *("history", "tokens", "graph", "topics", "aggregation", "classifier"),
        *("labels", "generator"),
      ),
      TOTAL - VISION - UNREAD + GRAPH,
    ),
    # Likewise without the values of its state attention, and without a norm of it.
    (("interpreter",), 1_465_344 - 132_096 - 512),
  ],
)
def test_parts_have_the_sizes_of_the_specification(full, parts, size):
  """Spec eir 9."""
  _, shapes = full
  assert (
    sum(x.size for path, x in shapes.items() if path.split("/")[0] in parts) == size
  )


def test_large_parameters_are_spread_over_a_mesh(full):
  mesh = sharding.make_mesh((2, 2, 2))
  _, shapes = full
  placed = sharding.state_shardings(traverse_util.unflatten_dict(shapes, sep="/"), mesh)
  P = jax.sharding.PartitionSpec
  assert placed["topics"]["maps"]["kernel"].spec == P("fsdp", None, "tensor")
  assert placed["tokens"]["embedding"].spec == P("tensor", None)
  assert placed["head"]["wi"]["kernel"].spec == P("fsdp", "tensor")
  placed = traverse_util.flatten_dict(placed, sep="/")
  own = {path: x for path, x in shapes.items() if not path.startswith("vision/")}
  ways = lambda path: np.prod([2 for axis in placed[path].spec if axis] or [1])
  held = sum(x.size / ways(path) for path, x in own.items())
  # A quarter, but for the generator's attention: its one head parts in half.
  assert held / sum(x.size for x in own.values()) < 0.28


def test_the_mesh_changes_no_probability(model, variables):
  batch = tiny_eir.batch(8)
  run = jax.jit(functools.partial(model.apply, method="review"))
  expected = run(variables, batch)
  mesh = sharding.make_mesh((2, 2, 2))
  with jax.set_mesh(mesh), nn.logical_axis_rules(sharding.AXIS_RULES):
    placed = jax.device_put(variables, sharding.state_shardings(variables, mesh))
    rows = sharding.to_global(jax.tree.map(np.asarray, batch), mesh)
    out = run(placed, rows)
  for found, same in zip(out, expected, strict=True):
    np.testing.assert_allclose(found, same, rtol=1e-4, atol=1e-5)


def test_training_may_write_from_the_states_that_it_predicts(model, variables, batch):
  """Spec eir 6.2; evaluation writes from the true ones whatever is asked."""

  @functools.partial(jax.jit, static_argnames="train")
  def run(states, predicted=None, train=True):
    given = batch | {"states": states}
    if predicted is not None:
      given["predicted"] = predicted
    options = {"rngs": {"dropout": jax.random.key(0)}, "mutable": ["batch_stats"]}
    return model.apply(variables, given, train=train, **options)[0]

  _, log_probs = run(batch["states"])
  own = decide(log_probs, model.threshold)
  asked = (own, None), (1 - own, None), (1 - own, 0.5)
  from_own, from_others, mixed = (run(*states)[0] for states in asked)
  for some, other in itertools.combinations((from_own, from_others, mixed), 2):
    assert float(jnp.abs(some - other).max()) > 1e-3
  np.testing.assert_array_equal(run(1 - own, 1.0)[0], from_own)
  np.testing.assert_array_equal(run(1 - own, 0.0)[0], from_others)
  evaluated = run(1 - own, 1.0, train=False)[0]
  np.testing.assert_array_equal(evaluated, run(1 - own, train=False)[0])


@pytest.mark.parametrize("kind", [CrossModalAggregation, AddNorm, Concat])
def test_each_kind_of_fusion_learns_a_batch_by_heart(kind, batch):
  """Spec eir 12, 17: the loss of the words, to near zero."""
  small = dict(width=tiny_eir.WIDTH, num_heads=2, dropout_rate=0.0)
  cross = dict(num_layers=1, mlp_dim=16) if kind is CrossModalAggregation else {}
  model = tiny_eir.model(aggregation=kind(tiny_eir.TOPICS, **small, **cross))
  learn = objectives.reporting(model, {"generator": 1.0, "classifier": 1.0})
  variables = nn.unbox(jax.jit(model.init)(jax.random.key(0), batch))
  tx = optax.adam(1e-2)

  def step(carry, key):
    params, extra, moments = carry
    (_, (extra, metrics)), grads = jax.value_and_grad(learn, has_aux=True)(
      params, extra, batch, key
    )
    updates, moments = tx.update(grads, moments, params)
    params = optax.apply_updates(params, updates)
    return (params, extra, moments), metrics["generator_loss"]

  params = variables.pop("params")
  carry = (params, variables, tx.init(params))
  keys = jax.random.split(jax.random.key(1), 400)
  _, losses = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))(carry)
  assert losses[0] > 2.0
  assert losses[-1] < 0.02
