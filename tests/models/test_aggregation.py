"""How topics take up a history and a graph: each form against its formula."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg.models.aggregation import (
  ORDERS,
  AddNorm,
  Concat,
  CrossModal,
  CrossModalAggregation,
)

ROWS, TOPICS, WORDS, NODES, WIDTH = 3, 5, 6, 4, 8
CROSS_MODAL = CrossModalAggregation(
  TOPICS, num_layers=1, width=WIDTH, num_heads=2, mlp_dim=16, dropout_rate=0.0
)
ADD_NORM, CONCAT = (kind(TOPICS, WIDTH, dropout_rate=0.0) for kind in (AddNorm, Concat))
KINDS = (CROSS_MODAL, ADD_NORM, CONCAT)


@pytest.fixture(scope="module")
def inputs():
  """Topics, history, its mask, graph, its mask."""
  draw = lambda key, length: jax.random.normal(
    jax.random.key(key), (ROWS, length, WIDTH)
  )
  history_mask = jnp.arange(WORDS) < jnp.array([[6], [3], [1]])
  graph_mask = jnp.arange(NODES) < jnp.array([[2], [4], [3]])
  return draw(0, TOPICS), draw(1, WORDS), history_mask, draw(2, NODES), graph_mask


def without(inputs, *, text=False, graph=False):
  """The inputs, of which a modality is not there at all."""
  topics, history, history_mask, nodes, graph_mask = inputs
  history, history_mask = (None, None) if text else (history, history_mask)
  nodes, graph_mask = (None, None) if graph else (nodes, graph_mask)
  return topics, history, history_mask, nodes, graph_mask


def masked(inputs, rows, *, text=False, graph=False):
  """The inputs, of which a modality is masked as a whole in some rows."""
  topics, history, history_mask, nodes, graph_mask = inputs
  empty = jnp.zeros((ROWS, 1), bool).at[jnp.array(rows)].set(True)
  history_mask = history_mask & ~(empty & text)
  return topics, history, history_mask, nodes, graph_mask & ~(empty & graph)


def init(module, inputs):
  """Parameters, none of them as it starts: biases are not 0, nor scales 1."""
  shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs))
  rng = np.random.default_rng(4)
  spread = lambda x: 1 / np.sqrt(x.shape[0]) if len(x.shape) > 1 else 0.3
  draw = lambda x: jnp.asarray(spread(x) * rng.normal(size=x.shape), x.dtype)
  return jax.tree.map(draw, shapes)


@functools.cache
def run(module):
  return jax.jit(module.apply)


def assert_close(a, b, tolerance=1e-5):
  np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("module", KINDS, ids=lambda m: type(m).__name__)
def test_with_neither_modality_topics_stay_what_they_are(module, inputs):
  """Spec eir 12, 7: exactly, and without any parameter."""
  neither = without(inputs, text=True, graph=True)
  out, variables = module.init_with_output(jax.random.key(0), *neither)
  assert not variables
  np.testing.assert_array_equal(out, inputs[0])


@pytest.mark.parametrize("order", ORDERS)
def test_a_modality_that_is_not_there_has_no_stage(order, inputs):
  module = CROSS_MODAL.clone(order=order)
  stages = lambda **missing: init(module, without(inputs, **missing))["params"].keys()
  joined = {"streams_proj", "norm"} if order == "parallel" else set()
  assert stages() == {"text", "graph"} | joined
  assert stages(text=True) == {"graph"} | joined
  assert stages(graph=True) == {"text"} | joined


# The formulas, in float64.


def normalised(x, p):
  x = x - x.mean(axis=-1, keepdims=True)
  x = x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + 1e-5)
  return x * p["scale"] + p["bias"]


def attention(p, x, memory, mask, num_heads):
  """MHA(x; memory, memory) with a mask of the memory; 0 where it is all masked."""
  affine = lambda q, x: x @ q["kernel"].reshape(WIDTH, WIDTH) + q["bias"].reshape(-1)
  memory = np.asarray(memory, np.float64)
  query, key, value = (
    affine(p[name], y)
    for name, y in zip(("query", "key", "value"), (x, memory, memory))
  )
  reads = []
  for own in np.split(np.arange(WIDTH), num_heads):
    logits = query[..., own] @ key[..., own].swapaxes(1, 2) / np.sqrt(own.size)
    weights = np.exp(logits) * np.asarray(mask)[:, None]
    total = np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300)
    reads.append(weights / total @ value[..., own])
  out = affine(p["out"], np.concatenate(reads, axis=-1))
  return out * np.asarray(mask).any(axis=1)[:, None, None]


def summary(p, memory, mask):
  """LN(MHA(Q; M, M) + Q), of one head (spec eir 5.1)."""
  queries = p["queries"]
  return normalised(
    attention(p["attention"], queries, memory, mask, 1) + queries, p["norm"]
  )


def cross_modal(p, x, source, mask):
  """CMT(x, source) of two heads, every layer reading the same source (spec eir 5.2)."""
  source = np.asarray(source, np.float64)
  for i in range(len(p) - 1):
    q = p[f"layer_{i}"]
    sides = normalised(x, q["norm_1"]), normalised(source, q["norm_2"])
    x = x + attention(q["attention"], *sides, mask, 2)
    wi, wo = q["mlp"]["wi"], q["mlp"]["wo"]
    hidden = np.maximum(normalised(x, q["norm_3"]) @ wi["kernel"] + wi["bias"], 0)
    x = x + hidden @ wo["kernel"] + wo["bias"]
  return normalised(x, p["norm"])


def joined(p, streams, residual=0.0):
  """LN(W [streams] + residual)."""
  w = p["streams_proj"]
  x = np.concatenate(streams, axis=-1) @ w["kernel"] + w["bias"]
  return normalised(x + residual, p["norm"])


def in_numpy(variables, topics):
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])
  return p, np.asarray(topics, np.float64)


@pytest.mark.parametrize(
  "missing", [{"graph": True}, {"text": True}, {}], ids=["text", "graph", "both"]
)
def test_add_norm_is_the_published_form(missing, inputs):
  """Spec eir 12, 7: LN(D_img + LN(MHA(Q; M, M) + Q)), a term of each modality."""
  given = without(inputs, **missing)
  variables = init(ADD_NORM, given)
  p, x = in_numpy(variables, given[0])
  assert p.keys() == {"text", "graph", "norm"} - missing.keys()
  if "text" in p:
    x = x + summary(p["text"], *given[1:3])
  if "graph" in p:
    x = x + summary(p["graph"], *given[3:5])
  assert_close(run(ADD_NORM)(variables, *given), normalised(x, p["norm"]))


def test_concat_maps_topics_and_summaries_side_by_side(inputs):
  variables = init(CONCAT, inputs)
  p, x = in_numpy(variables, inputs[0])
  summaries = summary(p["text"], *inputs[1:3]), summary(p["graph"], *inputs[3:5])
  assert_close(run(CONCAT)(variables, *inputs), joined(p, [x, *summaries]))


@pytest.mark.parametrize("order", ORDERS)
def test_cross_modal_aggregation_is_what_the_formulas_say(order, inputs):
  """Of three rows the second has no history, and the third no graph."""
  module = CROSS_MODAL.clone(order=order, num_layers=2)
  given = masked(masked(inputs, [1], text=True), [2], graph=True)
  variables = init(module, given)
  p, x = in_numpy(variables, given[0])
  text = lambda x: cross_modal(p["text"], x, *given[1:3])
  graph = lambda x: cross_modal(p["graph"], x, *given[3:5])
  expected = {
    "text_graph": lambda: graph(text(x)),
    "graph_text": lambda: text(graph(x)),
    "parallel": lambda: joined(p, [text(x), graph(x)], x),
  }
  assert_close(run(module)(variables, *given), expected[order]())


@pytest.mark.parametrize("module", KINDS, ids=lambda m: type(m).__name__)
def test_the_nodes_of_a_graph_are_a_set(module, inputs):
  """Spec eir 12, 4: so are the words of a history, which carry their places."""
  variables = init(module, inputs)
  topics, history, history_mask, graph, graph_mask = inputs
  order = np.array([2, 0, 3, 1])
  moved = (
    history[:, ::-1],
    history_mask[:, ::-1],
    graph[:, order],
    graph_mask[:, order],
  )
  assert_close(run(module)(variables, topics, *moved), run(module)(variables, *inputs))


@pytest.mark.parametrize("module", KINDS, ids=lambda m: type(m).__name__)
def test_what_is_masked_is_not_read(module, inputs):
  """Spec eir 12, 5: the padding of histories and of graphs."""
  variables = init(module, inputs)
  topics, history, history_mask, graph, graph_mask = inputs
  history = jnp.where(history_mask[..., None], history, 7.0)
  graph = jnp.where(graph_mask[..., None], graph, -7.0)
  other = (topics, history, history_mask, graph, graph_mask)
  out = run(module)(variables, *inputs)
  np.testing.assert_array_equal(run(module)(variables, *other), out)
  longer = lambda x: jnp.pad(x, ((0, 0), (0, 2), *((0, 0),) * (x.ndim - 2)))
  assert_close(run(module)(variables, topics, *map(longer, inputs[1:])), out)


@pytest.mark.parametrize("module", KINDS, ids=lambda m: type(m).__name__)
def test_a_study_without_anything_to_read_is_finite(module, inputs):
  """Spec eir 12, 6: and what is masked gets no gradient at all."""
  given = masked(inputs, [1], text=True, graph=True)
  variables = init(module, given)

  @jax.jit
  def gradient(history, graph):
    topics, _, history_mask, _, graph_mask = given
    total = lambda v, history, graph: jnp.square(
      module.apply(v, topics, history, history_mask, graph, graph_mask) - 1.0
    ).sum()
    return jax.value_and_grad(total, (0, 1, 2))(variables, history, graph)

  value, (params, history, graph) = gradient(given[1], given[3])
  for x in jax.tree.leaves((value, params, history, graph)):
    assert jnp.isfinite(x).all()
  for x in (history, graph):
    assert (x[1] == 0).all()
    assert (x[0] != 0).any()


def test_an_absent_source_does_not_even_add_a_bias():
  """Spec eir 5.2: attention gives exactly 0; residual and perceptron act."""
  x = jax.random.normal(jax.random.key(0), (1, TOPICS, WIDTH))
  module = CrossModal(1, WIDTH, 2, 16, 0.0)
  absent = jnp.zeros((1, NODES), bool)
  source = jnp.ones((1, NODES, WIDTH))
  variables = init(module, (x, source, absent))
  out = jax.jit(lambda v: module.apply(v, x, source, absent))
  heads = variables["params"]["layer_0"]["attention"]
  gradients = jax.jit(jax.grad(lambda v: jnp.square(out(v) - 1.0).sum()))(variables)
  for gradient in jax.tree.leaves(gradients["params"]["layer_0"]["attention"]):
    assert (gradient == 0).all()
  before = out(variables)
  heads["out"]["bias"] += 5.0
  np.testing.assert_array_equal(out(variables), before)


def test_topics_can_be_read_from_a_grid_that_was_enhanced(inputs):
  """Spec eir 5.3: cross-modal stages on the places, then topic queries read these."""
  module = CROSS_MODAL.clone(target="grid", num_topics=7)
  places, *rest = inputs
  variables = init(module, inputs)
  p, x = in_numpy(variables, places)
  x = cross_modal(p["graph"], cross_modal(p["text"], x, *rest[:2]), *rest[2:])
  queries = p["readout"]["queries"]
  everything = np.ones(x.shape[:2], bool)
  read = attention(p["readout"]["attention"], queries, x, everything, 2)
  out = run(module)(variables, *inputs)
  assert out.shape == (ROWS, 7, WIDTH)
  assert_close(out, normalised(read + queries, p["readout"]["norm"]))


@pytest.mark.parametrize(
  ("module", "match"),
  [
    (CROSS_MODAL.clone(order="both"), "aggregation.order='both' .*text_graph, graph_t"),
    (CROSS_MODAL.clone(target="map"), "aggregation.target='map' .*topics, grid"),
  ],
)
def test_what_is_not_known_is_named(module, match, inputs):
  with pytest.raises(ValueError, match=match):
    module.init(jax.random.key(0), *inputs)


def test_dropout_acts_in_training_only(inputs):
  for module in KINDS:
    variables, dropping = init(module, inputs), module.clone(dropout_rate=0.5)
    out = run(module)(variables, *inputs)
    rngs = {"dropout": jax.random.key(0)}
    np.testing.assert_array_equal(run(dropping)(variables, *inputs), out)
    training = jax.jit(functools.partial(dropping.apply, train=True, rngs=rngs))
    trained = training(variables, *inputs)
    assert not np.allclose(trained, out, atol=1e-3)


@pytest.mark.parametrize(
  ("module", "size"),
  [
    (CrossModalAggregation(114, 2, 256, 8, 1024), 2 * 1_581_056),
    (CrossModalAggregation(114, 1, 256, 8, 1024), 2 * (790_272 + 512)),
    (AddNorm(114, 256), 2 * (263_680 + 29_184) + 512),
  ],
)
def test_their_sizes_are_those_of_the_specification(module, size):
  """Spec eir 9: two streams, each of its layers and a norm; summaries and tables."""
  memory = (jnp.zeros((1, 4, 256)), jnp.ones((1, 4), bool))
  init = lambda key: module.init(key, jnp.zeros((1, 114, 256)), *memory, *memory)
  shapes = jax.eval_shape(init, jax.random.key(0))
  assert sum(x.size for x in jax.tree.leaves(shapes)) == size
