"""Graph self-attention along edges, against dense attention under their mask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny_eir
from jaxrg.models import graph as graph_lib
from jaxrg.models.graph import GraphEncoder, NodeFeatures, edge_attention

N, H, K = 9, 2, 4


def random_graph(seed: int) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Edges of a graph in which every node sees itself, in no order, some masked."""
  rng = np.random.default_rng(seed)
  linked = (rng.random((N, N)) < 0.3) | np.eye(N, dtype=bool)
  receivers, senders = rng.permutation(np.argwhere(linked)).T.astype(np.int32)
  mask = (rng.random(senders.size) < 0.8) | (senders == receivers)
  return tuple(map(jnp.asarray, (senders, receivers, mask)))


def qkv(dtype):
  rng = np.random.default_rng(0)
  return tuple(jnp.asarray(rng.normal(size=(N, H, K)), dtype) for _ in range(3))


def dense_mask(senders, receivers, mask):
  seen = np.zeros((N, N), bool)
  seen[receivers[mask], senders[mask]] = True
  return seen


def dense(query, key, value, seen, bias=0.0):
  """As it is written: -inf where an edge is missing (spec eir 4.8)."""
  logits = jnp.einsum("nhk,mhk->hnm", query, key) / jnp.sqrt(K) + bias
  weights = jax.nn.softmax(jnp.where(seen, logits, -jnp.inf))
  return jnp.einsum("hnm,mhk->nhk", weights, value)


def with_gradients(attention, inputs):
  """Its value, and the gradient of a sum in which all values count differently."""
  weight = np.random.default_rng(1).normal(size=(N, H, K))
  total = lambda *inputs: (attention(*inputs) * weight).sum()
  argnums = tuple(range(len(inputs)))
  run = jax.jit(lambda *x: (attention(*x), jax.grad(total, argnums)(*x)))
  return jax.tree.leaves(run(*inputs))


def assert_close(ours, theirs, tolerance):
  for a, b in zip(ours, theirs, strict=True):
    scale = np.abs(np.asarray(b)).max()
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sparse_attention_is_dense_attention(seed):
  """Spec eir 12, 3: values and gradients, in float64 and in float32."""
  edges = random_graph(seed)
  sparse = lambda *x: edge_attention(*x, *edges)
  oracle = functools.partial(dense, seen=dense_mask(*edges))
  with jax.enable_x64(True):
    inputs = qkv(jnp.float64)
    exact = with_gradients(oracle, inputs)
    assert_close(with_gradients(sparse, inputs), exact, 1e-13)
  assert_close(with_gradients(sparse, qkv(jnp.float32)), exact, 1e-5)


def test_bfloat16_attention_is_that_of_float32_up_to_its_precision():
  """Spec eir 12, 3: in bfloat16."""
  edges, inputs = random_graph(0), qkv(jnp.bfloat16)
  out = edge_attention(*inputs, *edges)
  assert out.dtype == jnp.bfloat16
  exact = edge_attention(*(x.astype(jnp.float32) for x in inputs), *edges)
  assert_close([out.astype(jnp.float32)], [exact], 1e-2)


def test_a_node_without_edges_yields_zero_where_dense_forms_err():
  """Spec eir 12, 3: the first break; gradients stay finite, and 0 for what is lost."""
  senders, receivers, mask = random_graph(0)
  mask = mask & (receivers != 4)
  inputs = qkv(jnp.float32)
  sparse = lambda *x: edge_attention(*x, senders, receivers, mask)
  seen = dense_mask(senders, receivers, mask)
  out, to_query, to_key, to_value = with_gradients(sparse, inputs)
  assert (out[4] == 0).all()
  assert (to_query[4] == 0).all()
  assert all(jnp.isfinite(x).all() for x in (to_query, to_key, to_value))
  assert jnp.isnan(dense(*inputs, seen)[4]).all()
  large = dense(*inputs, np.ones((N, N), bool), bias=jnp.where(seen, 0.0, -1e30))
  np.testing.assert_allclose(large[4], inputs[2].mean(axis=0), rtol=1e-5, atol=1e-6)


def test_an_edge_that_is_there_twice_counts_twice():
  """Spec eir 12, 3: the second break, and that a bias of log 2 on one is the same."""
  senders, receivers, mask = random_graph(0)
  inputs = qkv(jnp.float32)
  i = int(mask.argmax())
  sender, receiver = int(senders[i]), int(receivers[i])
  twice = [jnp.append(x, x[i]) for x in (senders, receivers, mask)]
  out = edge_attention(*inputs, *twice)
  once = edge_attention(*inputs, senders, receivers, mask)
  assert not np.allclose(out[receiver], once[receiver], atol=1e-3)
  bias = np.zeros((N, N), np.float32)
  bias[receiver, sender] = np.log(2)
  expected = dense(*inputs, dense_mask(senders, receivers, mask), bias)
  np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_receivers_may_be_called_sorted_where_they_are():
  """Spec eir 12, 3: the third break: what is promised of the indices must be true."""
  senders, receivers, mask = random_graph(0)
  assert (jnp.diff(receivers) < 0).any()
  inputs = qkv(jnp.float32)
  out = edge_attention(*inputs, senders, receivers, mask)
  order = jnp.argsort(receivers)
  edges = (senders[order], receivers[order], mask[order])
  promised = functools.partial(edge_attention, sorted_receivers=True)
  np.testing.assert_allclose(promised(*inputs, *edges), out, rtol=1e-5, atol=1e-6)
  hlo = lambda run: jax.jit(run).lower(*inputs, *edges).as_text()
  assert "indices_are_sorted = true" in hlo(promised)
  assert "indices_are_sorted = true" not in hlo(edge_attention)


def test_a_bias_is_added_to_the_logits():
  edges, inputs = random_graph(0), qkv(jnp.float32)
  senders, receivers, _ = edges
  bias = jax.random.normal(jax.random.key(2), (senders.size, H))
  table = np.zeros((H, N, N), np.float32)
  table[:, receivers, senders] = bias.T
  expected = dense(*inputs, dense_mask(*edges), table)
  out = edge_attention(*inputs, *edges, bias)
  np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


ROWS, WIDTH = 4, 8


@pytest.fixture(scope="module")
def encoder():
  return GraphEncoder(num_layers=2, num_heads=2, width=WIDTH, mlp_dim=16)


@pytest.fixture(scope="module")
def graph():
  return jax.tree.map(jnp.asarray, tiny_eir.graphs(ROWS))


@pytest.fixture(scope="module")
def table():
  return jax.random.normal(jax.random.key(1), (tiny_eir.VOCAB_SIZE, WIDTH))


@pytest.fixture(scope="module")
def variables(encoder, graph, table):
  init = lambda key: encoder.init(key, table[graph["node_tokens"]], graph)
  return jax.jit(init)(jax.random.key(0))


@pytest.fixture(scope="module")
def encode(encoder, variables, table):
  """The jitted nodes of a graph, with a vector on top of those of each node's words."""

  @jax.jit
  def encode(graph, more=0.0):
    words = table[graph["node_tokens"]] + more
    return encoder.apply(variables, words, graph)[0]

  return encode


def relabel(graph, order):
  """The same graphs, their nodes stored in another order."""
  new = np.argsort(order)
  nodes = (*graph_lib.NODES, "node_mask")
  out = graph | {name: graph[name][:, order] for name in nodes}
  return out | {
    name: jnp.asarray(new)[graph[name]] for name in ("senders", "receivers")
  }


def test_relabelled_nodes_have_the_same_meaning(encode, graph):
  """Spec eir 12, 4: the encoder is equivariant."""
  order = np.random.default_rng(3).permutation(tiny_eir.NODES)
  np.testing.assert_allclose(
    encode(relabel(graph, order)), encode(graph)[:, order], rtol=1e-5, atol=1e-5
  )


def test_the_order_of_edges_does_not_matter(encode, graph):
  order = np.random.default_rng(3).permutation(tiny_eir.EDGES)
  edges = ("senders", "receivers", "edge_kind", "edge_mask")
  shuffled = graph | {name: graph[name][:, order] for name in edges}
  np.testing.assert_allclose(encode(shuffled), encode(graph), rtol=1e-5, atol=1e-5)


def test_padding_changes_no_real_node(encode, graph):
  """Spec eir 12, 5: of nodes and of edges; and what padding holds is not read."""
  pad = lambda x, count, value: jnp.pad(
    x, ((0, 0), (0, count), *((0, 0),) * (x.ndim - 2)), constant_values=value
  )
  larger = {name: pad(x, 3, 1) for name, x in graph.items() if "node" in name}
  larger["node_mask"] = pad(graph["node_mask"], 3, False)
  last = tiny_eir.NODES + 2
  for name in ("senders", "receivers"):
    moved = jnp.where(graph["edge_mask"], graph[name], last)
    larger[name] = pad(moved, 5, last)
  larger["edge_kind"] = pad(graph["edge_kind"], 5, 0)
  larger["edge_mask"] = pad(graph["edge_mask"], 5, False)
  real = graph["node_mask"]
  out = encode(graph)
  np.testing.assert_allclose(
    encode(larger)[:, : tiny_eir.NODES][real], out[real], rtol=1e-5, atol=1e-5
  )
  # An edge from padding into a real node, were it counted, would be seen.
  leak = jnp.where(graph["edge_mask"], graph["receivers"], 0)
  np.testing.assert_allclose(
    encode(graph | {"receivers": leak})[real], out[real], rtol=1e-5, atol=1e-6
  )
  counted = graph | {"receivers": leak, "edge_mask": jnp.ones_like(graph["edge_mask"])}
  assert not np.allclose(encode(counted)[real], out[real], atol=1e-3)


def test_graphs_end_to_end_are_graphs_side_by_side(encode, graph):
  """Spec eir 12, 3: padding scheme A = padding scheme B."""
  real = np.asarray(graph["node_mask"])
  count = int(real.sum())
  num_edges = int(graph["edge_mask"].sum()) + 7
  row = graph_lib.concatenate(tiny_eir.graphs(ROWS), count + 3, num_edges)
  assert {name: x.dtype for name, x in row.items()} == {
    name: x.dtype for name, x in graph.items()
  }
  assert row["node_mask"].sum() == count
  # All padding edges are those of the first padding node.
  assert (row["receivers"][~row["edge_mask"]] == count).all()
  out = encode(jax.tree.map(jnp.asarray, row))[0, :count]
  np.testing.assert_allclose(out, encode(graph)[real], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("nodes", "edges"), [(0, 0), (1, -1)])
def test_graphs_that_do_not_fit_one_row_are_refused(graph, nodes, edges):
  num_nodes = int(graph["node_mask"].sum()) + nodes
  num_edges = int(graph["edge_mask"].sum()) + edges
  with pytest.raises(ValueError, match=rf"need .* not {num_nodes} and {num_edges}"):
    graph_lib.concatenate(tiny_eir.graphs(ROWS), num_nodes, num_edges)


def test_a_graph_of_self_loops_or_without_edges_is_finite(
  encoder, variables, graph, table
):
  """Spec eir 12, 6: values and gradients, whatever is masked."""
  words = table[graph["node_tokens"]]

  @jax.jit
  def gradient(edge_mask):
    masked = graph | {"edge_mask": edge_mask}
    total = lambda v, w: jnp.square(encoder.apply(v, w, masked)[0]).sum()
    return jax.value_and_grad(total, (0, 1))(variables, words)

  loops = graph["edge_mask"] & (graph["senders"] == graph["receivers"])
  for edge_mask in (loops, jnp.zeros_like(loops)):
    for x in jax.tree.leaves(gradient(edge_mask)):
      assert jnp.isfinite(x).all()


def test_information_flows_from_senders_to_receivers(encode):
  """In a chain, of two layers: two nodes away, and not against the edges."""
  graph = {name: x[:1] for name, x in tiny_eir.graphs(ROWS).items()}
  loops = np.arange(4)
  edges = {"senders": np.append(loops, [0, 1, 2])}
  edges |= {"receivers": np.append(loops, [1, 2, 3]), "edge_kind": np.zeros(7)}
  graph |= {name: x[None].astype(np.int32) for name, x in edges.items()}
  graph = jax.tree.map(jnp.asarray, graph | {"edge_mask": np.ones((1, 7), bool)})
  more = jnp.zeros((tiny_eir.NODES, 1, WIDTH))
  out = encode(graph, more)
  for node, reached in ((0, [0, 1, 2]), (1, [1, 2, 3]), (3, [3])):
    moved = jnp.abs(encode(graph, more.at[node, :, 0].set(3.0)) - out).max(axis=-1)
    assert np.flatnonzero(moved[0] > 1e-6).tolist() == reached


def test_a_node_starts_as_what_is_known_of_it(variables, graph, table):
  """Spec eir 4.5, in numpy: the mean of its words, its kind, group and origin."""
  params = jax.tree.map(np.asarray, variables["params"]["nodes"])
  words, mask = table[graph["node_tokens"]], np.asarray(graph["node_tokens_mask"])
  features = NodeFeatures(WIDTH, 1.0).apply({"params": params}, words, graph)
  places = ((0, 0), (1, 2), (3, 1), (2, 0), (2, 1))
  assert {bool(graph["node_added"][place]) for place in places} == {True, False}
  for row, node in places:
    real = np.asarray(words[row, node])[mask[row, node]]
    x = real.mean(axis=0) @ params["word_proj"]["kernel"]
    x = x + params["kinds"][graph["node_kind"][row, node]]
    x = x + params["groups"][graph["node_group"][row, node]]
    x = x + params["added"] * bool(graph["node_added"][row, node])
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    np.testing.assert_allclose(features[row, node], x, rtol=1e-5, atol=1e-5)


def test_relations_have_a_bias_only_where_they_are_told_to(encoder, table, graph):
  """It starts at 0, and is that of an edge's kind."""
  encoder = encoder.clone(num_layers=1)
  biased = encoder.clone(relation_bias=True)
  words = table[graph["node_tokens"]]
  variables = jax.jit(biased.init)(jax.random.key(0), words, graph)
  apply = jax.jit(lambda v, graph: biased.apply(v, words, graph)[0])
  layer = variables["params"]["layer_0"]
  out = apply(variables, graph)
  plain = {"params": variables["params"] | {"layer_0": dict(layer)}}
  del plain["params"]["layer_0"]["relations"]
  without = jax.jit(lambda v: encoder.apply(v, words, graph)[0])(plain)
  np.testing.assert_allclose(out, without, rtol=1e-6, atol=1e-6)
  layer["relations"] = layer["relations"].at[2].set(-1e9)
  hidden = graph["edge_mask"] & (graph["edge_kind"] != 2)
  kept = graph | {"edge_mask": hidden}
  # Where a node has other edges, one of so low a bias is none.
  others = jax.vmap(lambda r, m: jnp.zeros(tiny_eir.NODES, bool).at[r].max(m))(
    graph["receivers"], hidden
  )
  assert (graph["edge_mask"] & (graph["edge_kind"] == 2)).any()
  np.testing.assert_allclose(
    apply(variables, graph)[others], apply(variables, kept)[others], atol=1e-6
  )


@pytest.mark.parametrize(
  ("changes", "size"),
  # Of the specification 1,649,920: it counts neither the first LayerNorm nor `added`.
  [({}, 1_649_920 + 512 + 256), ({"relation_bias": True}, 1_650_688 + 2 * 7 * 8)],
)
def test_its_size_is_that_of_the_specification(graph, changes, size):
  encoder = GraphEncoder(2, 8, 256, 1024, **changes)
  words = jnp.zeros((*graph["node_tokens"].shape, 256))
  shapes = jax.eval_shape(
    lambda key: encoder.init(key, words, graph), jax.random.key(0)
  )
  assert sum(x.size for x in jax.tree.leaves(shapes)) == size


def test_graphs_on_different_devices_need_not_talk(encoder, variables, table):
  """A row a device: no collective in the compiled program."""
  graph = jax.tree.map(jnp.asarray, tiny_eir.graphs(8))
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  words = table[graph["node_tokens"]]
  run = jax.jit(
    lambda words, graph: encoder.apply(variables, words, graph)[0],
    in_shardings=rows,
    out_shardings=rows,
  )
  hlo = run.lower(words, graph).compile().as_text()
  for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
    assert collective not in hlo
