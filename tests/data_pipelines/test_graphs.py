"""The graph of a study: the base table, the update rule, the padding."""

import itertools
import re

import numpy as np
import pytest

from data_pipelines import base_graph, graphs
from data_pipelines.triples import RELATIONS, Triple

BASE = graphs.build(())
NODES = len(base_graph.NODES)


def triple(source, relation, target, status="present", other="present"):
  return Triple(source, relation, target, status, other)


def grown(*triples, **options):
  """The graph of one neighbour."""
  return graphs.build([triples], **options)


def kinds(graph):
  """Edges by name -> kind."""
  name = graph.names
  return {(name[a], name[b]): kind for a, b, kind in graph.edges}


def new_edges(graph):
  return {e: k for e, k in kinds(graph).items() if e not in kinds(BASE)}


def both(a, b, kind):
  return {(a, b): kind, (b, a): kind}


def of_new(name):
  """What every new node brings."""
  return {(name, name): base_graph.SELF, **both("(root)", name, base_graph.LINK)}


def counts(graph):
  return (graph.attached, graph.unattached, graph.dropped, graph.ignored)


def test_the_base_graph():
  """Spec eir 12, 1: nodes, edges, symmetry and degrees of the published table."""
  assert (len(BASE.names), len(set(BASE.names)), len(BASE.edges)) == (28, 28, 210)
  ends = {(a, b): kind for a, b, kind in BASE.edges}
  assert len(ends) == 210
  assert all(ends[b, a] == kind for (a, b), kind in ends.items())
  assert all((a == b) == (kind == base_graph.SELF) for (a, b), kind in ends.items())
  assert np.bincount([kind for _, _, kind in BASE.edges]).tolist() == [28, 54, 42, 86]
  degrees = np.bincount([a for a, b, _ in BASE.edges if a != b])
  assert degrees.sum() == 2 * 91
  # The root knows all; an organ six others, its group and the root.
  by_name = dict(zip(BASE.names, degrees.tolist()))
  assert (by_name["(root)"], by_name["normal"], by_name["opacity"]) == (27, 1, 8)
  organs = {
    name: by_name[name] for name, kind in zip(BASE.names, BASE.kinds) if kind == 2
  }
  assert organs == {
    "heart": 8,
    "spine": 8,
    "pleural": 10,
    "bone": 8,
    "lung": 14,
    "mediastinum": 9,
    "airspace": 9,
  }


PUBLISHED = (
  "(root)",
  "normal",
  "other finding",
  "heart, cardiomegaly",
  "spine, scoliosis",
  "pleural, effusion, thickening, pneumothorax",
  "bone, bone fractures",
  "lung, emphysema, pneumonia, edema, atelectasis, cicatrix, opacity, lesion",
  "mediastinum, hernia, calcinosis",
  "foreign object",
  "airspace, airspace disease, hypoinflation",
)


def test_the_table_is_the_published_one():
  """Spec eir 12, 1: table equality."""
  table = [(name, g) for g, names in enumerate(PUBLISHED) for name in names.split(", ")]
  assert list(zip(BASE.names, BASE.groups)) == table
  first = {names.split(", ")[0] for names in PUBLISHED}
  general = {"normal", "other finding", "foreign object"}
  for name, kind, added in zip(BASE.names, BASE.kinds, BASE.added):
    expected = base_graph.ORGAN if name in first else base_graph.OBSERVATION
    expected = base_graph.GENERAL if name in general else expected
    assert (kind, added) == (base_graph.ROOT if name == "(root)" else expected, False)


def test_neither_end_known():
  """Spec eir 12, 2: the triple is skipped and counted."""
  graph = grown(triple("blunt", "modify", "apex"))
  assert (graph.names, graph.edges) == (BASE.names, BASE.edges)
  assert counts(graph) == (0, 1, 0, 0)


def test_both_ends_known():
  """Spec eir 12, 2: a new edge, both ways; no new node."""
  graph = grown(triple("opacity", "suggestive_of", "effusion"))
  assert graph.names == BASE.names
  assert new_edges(graph) == both("opacity", "effusion", base_graph.SUGGESTIVE_OF)
  assert counts(graph) == (1, 0, 0, 0)


def test_the_source_alone_is_known():
  """Spec eir 12, 2: the target joins the source's group, linked to it and the root."""
  graph = grown(triple("edema", "located_at", "lobe"))
  assert graph.names == (*BASE.names, "lobe")
  assert (graph.kinds[-1], graph.groups[-1]) == (base_graph.ORGAN, 7)
  assert graph.added == (*[False] * 28, True)
  edges = of_new("lobe") | both("edema", "lobe", base_graph.LOCATED_AT)
  assert new_edges(graph) == edges


def test_the_target_alone_is_known():
  """Spec eir 12, 2: the source joins the target's group, linked to it and the root."""
  graph = grown(triple("tortuous", "modify", "spine"))
  assert graph.names == (*BASE.names, "tortuous")
  assert (graph.kinds[-1], graph.groups[-1]) == (base_graph.MODIFIER, 4)
  edges = of_new("tortuous") | both("tortuous", "spine", base_graph.MODIFY)
  assert new_edges(graph) == edges


@pytest.mark.parametrize(
  ("new", "kind"),
  [
    (triple("x", "modify", "lung"), base_graph.MODIFIER),
    (triple("lung", "modify", "x"), base_graph.OBSERVATION),
    (triple("x", "located_at", "lung"), base_graph.OBSERVATION),
    (triple("lesion", "located_at", "x"), base_graph.ORGAN),
    (triple("x", "suggestive_of", "edema"), base_graph.OBSERVATION),
    (triple("edema", "suggestive_of", "x"), base_graph.OBSERVATION),
  ],
)
def test_the_kind_of_a_node_is_its_part(new, kind):
  assert grown(new).kinds[-1] == kind


def test_a_new_node_pulls_in_the_next():
  """And passes on the group of the base node."""
  graph = grown(
    triple("lesion", "located_at", "lobe"), triple("upper", "modify", "lobe")
  )
  assert graph.names[28:] == ("lobe", "upper")
  assert graph.groups[28:] == (7, 7)
  assert counts(graph) == (2, 0, 0, 0)


def test_the_order_matters():
  """Spec eir 12, 2: one pass; what is known only later comes too late."""
  first, second = (
    triple("lesion", "located_at", "lobe"),
    triple("upper", "modify", "lobe"),
  )
  in_order, reverse = grown(first, second), grown(second, first)
  assert len(in_order.names) == 30
  assert reverse.names == (*BASE.names, "lobe")
  assert counts(reverse) == (1, 1, 0, 0)
  # The nearest neighbour comes first, whatever its texts' order.
  assert graphs.build([[first], [second]]).names == in_order.names
  assert graphs.build([[second], [first]]).names == reverse.names


def test_edges_are_a_set():
  """Spec eir 12, 2: deduplication; the first relation wins, in the base graph too."""
  a, b = (
    triple("opacity", "suggestive_of", "effusion"),
    triple("effusion", "modify", "opacity"),
  )
  graph = grown(a, a, b)
  assert new_edges(graph) == both("opacity", "effusion", base_graph.SUGGESTIVE_OF)
  assert graph.attached == 3
  known = grown(triple("edema", "located_at", "lung"))
  assert known.edges == BASE.edges
  assert kinds(known)["edema", "lung"] == base_graph.WITHIN


@pytest.mark.parametrize("absent", [("absent", "present"), ("present", "absent")])
def test_absent_triples(absent):
  """Spec eir 12, 2: an absent end drops the triple, unless it is asked for."""
  one = triple("vague", "modify", "opacity", *absent)
  graph = grown(one)
  assert (graph.names, counts(graph)) == (BASE.names, (0, 0, 0, 1))
  assert grown(one, drop_absent=False).names[-1] == "vague"
  assert grown(triple("vague", "modify", "opacity", "uncertain")).names[-1] == "vague"


@pytest.mark.parametrize(
  ("source", "target"),
  [("Lungs", "pulmonary"), ("findings", "lung"), ("lung", "chest"), ("", "lung")],
)
def test_an_entity_alone_is_no_triple(source, target):
  graph = grown(triple(source, "located_at", target))
  assert (graph.names, counts(graph)) == (BASE.names, (0, 0, 0, 1))


def test_an_unknown_relation_is_named():
  with pytest.raises(ValueError, match=r"Unknown relation 'near' of 'lung' to 'heart'"):
    grown(triple("lung", "near", "heart"))
  assert tuple(graphs.KIND_OF) == RELATIONS


def many(reports, each=30):
  """Neighbours whose triples all want a node of their own."""
  name = lambda report, i: f"{'abcdefgh'[report]}{i:02}q"
  return [
    [triple(name(report, i), "modify", "lung") for i in range(each)]
    for report in range(reports)
  ]


def test_a_report_has_a_budget():
  """Spec eir 12, 2: caps; what a report has too much counts as dropped."""
  graph = graphs.build(many(1, each=33))
  assert len(graph.names) == NODES + 30
  assert counts(graph) == (30, 0, 3, 0)
  assert counts(graphs.build(many(2, each=5), max_triples=2)) == (4, 0, 6, 0)


def test_the_nodes_have_a_budget():
  """Spec eir 12, 2: caps; the last are dropped, one that needs no node is not."""
  reports = [*many(3), [triple("edema", "suggestive_of", "effusion")]]
  graph = graphs.build(reports)
  assert len(graph.names) == 95
  assert counts(graph) == (68, 0, 23, 0)
  kept = [one.source for report in reports[:3] for one in report][:67]
  assert list(graph.names[NODES:]) == kept
  assert kinds(graph)["edema", "effusion"] == base_graph.SUGGESTIVE_OF


def test_the_edges_have_a_budget():
  """Spec eir 12, 2: caps; the self-loops of padding are kept free."""
  graph = graphs.build(many(1), max_nodes=60, max_edges=182 + 60 + 4 * 7 + 3)
  assert counts(graph) == (7, 0, 23, 0)
  assert len(graph.edges) == 210 + 7 * 5


def test_the_published_budget_holds_three_reports():
  reports = [
    [triple(f"w{i:02}q", "modify", BASE.names[1 + (i + r) % 27]) for i in range(30)]
    for r in range(3)
  ]
  assert counts(graphs.build(reports)) == (90, 0, 0, 0)


def test_a_budget_below_the_base_graph_is_named():
  assert len(graphs.build((), max_nodes=29, max_edges=211).names) == 28
  with pytest.raises(ValueError, match=r"^config\.graph\.max_nodes=28 .* 28 nodes"):
    graphs.build((), max_nodes=28)
  with pytest.raises(ValueError, match=r"^config\.graph\.max_edges=210 .* 182 edges"):
    graphs.build((), max_nodes=29, max_edges=210)


@pytest.mark.parametrize(
  ("name", "canonical"),
  [
    ("Lungs", "lung"),
    ("cardiac", "heart"),
    ("Enlarged  heart", "cardiomegaly"),
    ("pleural effusions", "effusion"),
    ("vertebrae", "spine"),
    ("thoracic spine", "spine"),
    ("ribs", "bone"),
    ("Fx", "bone fractures"),
    ("fractures", "bone fractures"),
    ("bone fractures", "bone fractures"),
    ("pneumothoraces", "pneumothorax"),
    ("opacities", "opacity"),
    ("masses", "lesion"),
    ("air-space consolidations", "air space consolidation"),
    ("consolidations", "airspace disease"),
    ("low lung volumes", "hypoinflation"),
    ("hila", "hilum"),
    ("atelectasis", "atelectasis"),
    ("abscesses", "abscess"),
    ("lobes", "lobe"),
    ("bases", "base"),
    ("nodes", "node"),
    ("gas", "gas"),
    ("osseous", "bone"),
    ("T12", "t12"),
    ("root", "root"),
    ("Findings", ""),
    ("chest.", ""),
    (" / ", ""),
  ],
)
def test_canonical_forms(name, canonical):
  """Spec eir 12, 2: lower case, singular, the table of synonyms, stop entities."""
  assert base_graph.canonical(name) == canonical


def test_the_table_of_synonyms_can_be_reached_and_ends():
  forms = base_graph.SYNONYMS
  assert len(forms) == sum(map(len, base_graph.FORMS.values()))  # None stands twice.
  for form, name in forms.items():
    assert base_graph.canonical(form) == name
    assert base_graph.canonical(name) == name
  for name in base_graph.NAMES[1:]:
    assert base_graph.canonical(name) == name
  assert not base_graph.STOP & {*forms, *base_graph.FORMS}


def words_of(name):
  """A token per letter."""
  return [ord(letter) for letter in name]


def padded(graph, nodes=40, edges=300, length=6):
  return graphs.pad(
    graph, words_of, max_nodes=nodes, max_edges=edges, name_length=length, pad_id=3
  )


GROWN = grown(triple("lesion", "located_at", "lobe"), triple("upper", "modify", "lobe"))


def test_the_arrays_of_a_graph():
  """Spec eir 12, 5: real nodes and edges are as in the graph, the rest is masked."""
  arrays = padded(GROWN)
  shapes = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
  nodes, edges = {"node_kind", "node_group"}, {"senders", "receivers", "edge_kind"}
  assert shapes == {
    "node_tokens": ((40, 6), "int32"),
    "node_tokens_mask": ((40, 6), "bool"),
    "node_added": ((40,), "bool"),
    "node_mask": ((40,), "bool"),
    "edge_mask": ((300,), "bool"),
    **dict.fromkeys(nodes, ((40,), "int32")),
    **dict.fromkeys(edges, ((300,), "int32")),
  }
  assert arrays["node_mask"].tolist() == [True] * 30 + [False] * 10
  assert arrays["node_kind"][:30].tolist() == list(GROWN.kinds)
  assert arrays["node_group"].tolist() == [*GROWN.groups, *[11] * 10]
  assert arrays["node_added"].tolist() == [False] * 28 + [True] * 2 + [False] * 10
  size = len(GROWN.edges)
  listed = zip(*(arrays[name][:size].tolist() for name in ("senders", "receivers")))
  assert list(listed) == [(a, b) for a, b, _ in GROWN.edges]
  assert arrays["edge_kind"][:size].tolist() == [kind for *_, kind in GROWN.edges]


def test_the_tokens_of_names():
  arrays = padded(GROWN)
  heart, cut = arrays["node_tokens"][3], arrays["node_tokens"][4]
  assert heart.tolist() == [*words_of("heart"), 3]
  assert arrays["node_tokens_mask"][3].tolist() == [True] * 5 + [False]
  assert cut.tolist() == words_of("cardio")
  assert (arrays["node_tokens"][30:] == 3).all()
  assert not arrays["node_tokens_mask"][30:].any()


@pytest.mark.parametrize("graph", [BASE, GROWN, graphs.Graph()])
def test_padding_edges(graph):
  """Spec eir 12, 5: no row of attention is empty, and none has an edge twice."""
  arrays = padded(graph)
  senders, receivers, mask = (
    arrays[name] for name in ("senders", "receivers", "edge_mask")
  )
  assert (np.diff(receivers) >= 0).all()
  real = list(zip(senders[mask].tolist(), receivers[mask].tolist()))
  assert len(real) == len(set(real)) == len(graph.edges) + 40 - len(graph.names)
  assert [a for a, b in real if a == b] == list(range(40))
  # No edge joins a real node with padding, and what is masked is the last node's.
  assert all((a < len(graph.names)) == (b < len(graph.names)) for a, b in real)
  assert set(senders[~mask]) == set(receivers[~mask]) == {39}
  assert not arrays["edge_kind"][len(graph.edges) :].any()


def test_more_padding_changes_no_real_node():
  """Spec eir 12, 5: what is real does not depend on how much is padding."""
  small, large = padded(GROWN), padded(GROWN, nodes=96, edges=640)
  for name, array in small.items():
    size = len(GROWN.names) if name.startswith("node") else len(GROWN.edges)
    np.testing.assert_array_equal(array[:size], large[name][:size])


def test_a_graph_that_fits_its_budget_can_be_padded():
  budget = dict(max_nodes=60, max_edges=182 + 60 + 4 * 7)
  graph = graphs.build(many(1), **budget)
  assert padded(graph, 60, budget["max_edges"])["edge_mask"].all()
  message = (
    r"config\.graph\.max_nodes > 30 and, with 60, config\.graph\.max_edges >= 250"
  )
  with pytest.raises(ValueError, match=message):
    padded(GROWN, nodes=60, edges=249)
  with pytest.raises(ValueError, match=re.escape("max_nodes > 30")):
    padded(GROWN, nodes=30)


def test_every_way_of_growing_stays_symmetric():
  names = ("Lungs", "edema", "lobe", "patchy", "apex", "hila", "fx")
  triples = [
    triple(a, relation, b)
    for (a, b), relation in zip(
      itertools.permutations(names, 2), itertools.cycle(RELATIONS)
    )
  ]
  graph = graphs.build([triples], max_triples=99)
  ends = {(a, b): kind for a, b, kind in graph.edges}
  assert len(ends) == len(graph.edges)
  assert all(ends[b, a] == kind for (a, b), kind in ends.items())
  assert sum(counts(graph)) == len(triples)
  assert list(graph.edges) == sorted(graph.edges, key=lambda e: (e[1], e[0]))
