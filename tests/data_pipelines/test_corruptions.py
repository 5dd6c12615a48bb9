"""Corrupted graphs are nested in their level, seeded, and still graphs."""

import itertools

import numpy as np
import pytest

from data_pipelines import base_graph, corruptions, graphs
from data_pipelines.triples import Triple

LEVELS = (0.0, 0.2, 0.5, 0.8, 1.0)
SEED = 3
STUDY = "s17"
TRIPLES = [
  Triple(source, "modify", target, "present", "present")
  for source, target in zip(
    ("left", "basal", "patchy", "small", "tortuous", "mild", "upper"),
    ("lung", "opacity", "opacity", "effusion", "aorta", "edema", "left"),
  )
]
GRAPH = graphs.build([TRIPLES])
RANDOM = ("drop_nodes", "drop_edges", "rewire")


def corrupt(name, level, graph=GRAPH, *, seed=SEED, study=STUDY):
  return getattr(corruptions, name)(graph, level, seed=seed, study=study)


def links(graph):
  """Edges but for self-loops, by name."""
  name = graph.names
  return {(name[a], name[b]) for a, b, _ in graph.edges if a != b}


def lost(name, level):
  """What a level takes of the graph: nodes, or edges."""
  after = corrupt(name, level)
  if name == "drop_nodes":
    return set(GRAPH.names) - set(after.names)
  return links(GRAPH) - links(after)


def test_there_is_something_to_corrupt():
  assert len(GRAPH.names) == 34
  assert GRAPH.attached == 6


@pytest.mark.parametrize("name", RANDOM)
def test_levels_are_nested(name):
  """Spec eir 12, 14: what a level corrupts, a higher one does too."""
  taken = [lost(name, level) for level in LEVELS]
  for less, more in itertools.pairwise(taken):
    assert less < more
  assert taken[0] == set()


@pytest.mark.parametrize("name", RANDOM)
def test_levels_are_seeded(name):
  """Spec eir 12, 14: by the seed and the study, and by nothing else."""
  assert corrupt(name, 0.5) == corrupt(name, 0.5)
  others = [corrupt(name, 0.5, seed=SEED + 1), corrupt(name, 0.5, study="s18")]
  assert all(links(other) != links(corrupt(name, 0.5)) for other in others)


@pytest.mark.parametrize("name", RANDOM)
def test_level_0_is_clean(name):
  """Spec eir 12, 14."""
  assert corrupt(name, 0.0) == GRAPH


def test_level_1_spares_nothing():
  """Spec eir 12, 14."""
  assert corrupt("drop_nodes", 1.0).names == ("(root)",)
  assert corrupt("drop_edges", 1.0).edges == tuple((i, i, 0) for i in range(34))
  assert not links(corrupt("rewire", 1.0)) & links(GRAPH)


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("level", LEVELS)
def test_a_corrupted_graph_is_a_graph(name, level):
  graph = corrupt(name, level)
  ends = {(a, b): kind for a, b, kind in graph.edges}
  assert len(ends) == len(graph.edges)
  assert all(ends[b, a] == kind for (a, b), kind in ends.items())
  assert all(ends[i, i] == base_graph.SELF for i in range(len(graph.names)))
  assert list(graph.edges) == sorted(graph.edges, key=lambda e: (e[1], e[0]))
  budget = dict(max_nodes=40, max_edges=300, name_length=1, pad_id=0)
  arrays = graphs.pad(graph, lambda name: [1], **budget)
  assert arrays["node_mask"].sum() == len(graph.names) > 0


def test_dropping_nodes_leaves_the_others_as_they_were():
  after = corrupt("drop_nodes", 0.5)
  assert after.names[0] == "(root)"
  kept = set(after.names)
  assert links(after) == {(a, b) for a, b in links(GRAPH) if {a, b} <= kept}
  rows = lambda g: dict(zip(g.names, zip(g.kinds, g.groups, g.added)))
  assert rows(after).items() <= rows(GRAPH).items()


@pytest.mark.parametrize("level", LEVELS)
def test_rewiring_keeps_the_number_of_edges_of_each_kind(level):
  after = corrupt("rewire", level)
  assert after.names == GRAPH.names
  count = lambda graph: np.bincount([kind for *_, kind in graph.edges]).tolist()
  assert count(after) == count(GRAPH)


def test_what_is_rewired_stays_where_it_went():
  new = [links(corrupt("rewire", level)) - links(GRAPH) for level in LEVELS]
  for fewer, more in itertools.pairwise(new):
    assert fewer < more


def test_a_complete_graph_cannot_be_rewired():
  names = ("a", "b", "c")
  edges = {(a, b): int(a != b) for a in range(3) for b in range(3)}
  complete = graphs.Graph(names, (3,) * 3, (7,) * 3, (True,) * 3, graphs.ordered(edges))
  assert corrupt("rewire", 1.0, complete) == complete


def test_shares_are_about_right():
  studies = [f"s{i}" for i in range(60)]
  dropped = [1 - len(corrupt("drop_nodes", 0.3, study=s).names) / 34 for s in studies]
  kept = [len(links(corrupt("drop_edges", 0.3, study=s))) for s in studies]
  assert abs(np.mean(dropped) - 0.3) < 0.03
  assert abs(1 - np.mean(kept) / len(links(GRAPH)) - 0.3) < 0.03


def test_what_a_node_meets_depends_on_no_other():
  """A node is dropped or kept whatever else was retrieved."""
  kept = set(corrupt("drop_nodes", 0.5, graphs.build(())).names)
  assert kept == set(corrupt("drop_nodes", 0.5).names) & set(base_graph.NAMES)


def test_no_graph_and_no_neighbours():
  assert corruptions.base_only(GRAPH) == graphs.build(())
  empty = corruptions.none(GRAPH)
  arrays = graphs.pad(
    empty, lambda name: [1], max_nodes=30, max_edges=215, name_length=1, pad_id=0
  )
  assert not arrays["node_mask"].any()
  assert arrays["edge_mask"].sum() == 30  # Self-loops alone, and no empty row.


CORPUS = {f"s{i:02}": f"p{i // 3}" for i in range(30)}


def test_random_neighbours_are_of_other_patients():
  found = [
    corruptions.random_neighbours(study, patient, CORPUS, 5, seed=SEED)
    for study, patient in CORPUS.items()
  ]
  for patient, neighbours in zip(CORPUS.values(), found):
    assert len(set(neighbours)) == 5
    assert patient not in {CORPUS[other] for other in neighbours}
  assert len(set(found)) > 25
  draw = lambda k, seed=SEED: corruptions.random_neighbours(
    "new", "nobody", CORPUS, k, seed=seed
  )
  assert draw(0) == ()
  assert draw(5)[:3] == draw(3) == draw(3)
  assert draw(5) != draw(5, SEED + 1)
  assert sorted(draw(99)) == sorted(CORPUS)


def test_random_neighbours_are_fewer_where_there_are_no_more():
  small = {"a": "p", "b": "p", "c": "q"}
  assert corruptions.random_neighbours("a", "p", small, 3, seed=0) == ("c",)
  assert corruptions.random_neighbours("c", "q", {"c": "q"}, 3, seed=0) == ()


def test_the_worst_come_worst_first():
  assert corruptions.worst_k(("near", "b", "c", "far"), 2) == ("far", "c")
  assert corruptions.worst_k(("near",), 3) == ("near",)
  assert corruptions.worst_k(("near",), 0) == ()
