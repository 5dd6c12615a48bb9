"""Graphs, and neighbours, as a retrieval that fails would leave them.

What is random is drawn by seed, study and the names of the nodes. What a level takes or
moves, a higher one does too; level 0 is the graph as it was, level 1 spares nothing but
the root and the self-loops (spec eir 8.3).
"""

import dataclasses
from collections.abc import Mapping, Sequence

from data_pipelines import base_graph, graphs
from data_pipelines.chance import uniform
from data_pipelines.graphs import Graph

Pair = tuple[int, int]


def none(graph: Graph) -> Graph:
  """No graph at all; padded, it has no real node."""
  return Graph()


def base_only(graph: Graph) -> Graph:
  """The base graph, as if nothing had been retrieved."""
  return graphs.build(())


def drop_nodes(graph: Graph, level: float, *, seed: int, study: str) -> Graph:
  """Without a share of the nodes, and without their edges; the root stays."""
  kept = [
    node
    for node, name in enumerate(graph.names)
    if graph.kinds[node] == base_graph.ROOT
    or uniform(seed, study, "node", name) >= level
  ]
  place = {node: i for i, node in enumerate(kept)}
  edges = {
    (place[a], place[b]): kind
    for a, b, kind in graph.edges
    if a in place and b in place
  }
  pick = lambda values: tuple(values[node] for node in kept)
  return dataclasses.replace(
    graph,
    names=pick(graph.names),
    kinds=pick(graph.kinds),
    groups=pick(graph.groups),
    added=pick(graph.added),
    edges=graphs.ordered(edges),
  )


def drop_edges(graph: Graph, level: float, *, seed: int, study: str) -> Graph:
  """Without a share of the edges, both directions at once; self-loops stay."""
  pairs = {
    (a, b): kind
    for (a, b), kind in _pairs(graph).items()
    if _draw(graph, (a, b), seed, study) >= level
  }
  return _with_pairs(graph, pairs)


def rewire(graph: Graph, level: float, *, seed: int, study: str) -> Graph:
  """With a share of the edges moved, both directions at once; self-loops stay.

  One end of a moved edge is another node, to which it had none. As no two edges move
  to the same place, there are as many as before. One that has nowhere to go, in a
  graph almost complete, stays.
  """
  old = _pairs(graph)
  moved = _moves(graph, old, seed, study)
  pairs = {
    moved[pair] if _draw(graph, pair, seed, study) < level else pair: kind
    for pair, kind in old.items()
  }
  return _with_pairs(graph, pairs)


def random_neighbours(
  study: str, patient: str, corpus: Mapping[str, str], k: int, *, seed: int
) -> tuple[str, ...]:
  """`k` studies of other patients; fewer where the corpus has no more.

  `corpus` has the patient of each of its studies. What k chooses, a larger one does.
  """
  studies, chosen = sorted(corpus), {}
  for turn in range(min(k, len(studies))):
    first = int(uniform(seed, study, "neighbour", turn) * len(studies))
    for step in range(len(studies)):
      other = studies[(first + step) % len(studies)]
      if other not in chosen and corpus[other] != patient:
        chosen[other] = None
        break
  return tuple(chosen)


def worst_k(neighbours: Sequence[str], k: int) -> tuple[str, ...]:
  """The `k` least similar of a study's ranked neighbours, the least similar first."""
  return tuple(reversed(neighbours))[:k]


def _pairs(graph: Graph) -> dict[Pair, int]:
  """Edges between two nodes, each once, the lower number first."""
  return {(a, b): kind for a, b, kind in graph.edges if a < b}


def _with_pairs(graph: Graph, pairs: Mapping[Pair, int]) -> Graph:
  loops = {(a, b): kind for a, b, kind in graph.edges if a == b}
  both = {**pairs, **{(b, a): kind for (a, b), kind in pairs.items()}}
  return dataclasses.replace(graph, edges=graphs.ordered(loops | both))


def _draw(graph: Graph, pair: Pair, seed: int, study: str) -> float:
  names = sorted(graph.names[node] for node in pair)
  return uniform(seed, study, "edge", *names)


def _moves(graph: Graph, old: Mapping[Pair, int], seed: int, study: str) -> dict:
  """Pair -> where it goes if it is moved, whatever the level; no two to one place."""
  size, moves, taken = len(graph.names), {}, set(old)
  for a, b in old:
    names = graph.names[a], graph.names[b]
    stays, leaves = (a, b) if uniform(seed, study, "end", *names) < 0.5 else (b, a)
    first = int(uniform(seed, study, "to", *names) * size)
    places = [
      (kept, (first + i) % size) for kept in (stays, leaves) for i in range(size)
    ]
    ordered = ((min(place), max(place)) for place in places if place[0] != place[1])
    moves[a, b] = next((place for place in ordered if place not in taken), (a, b))
    taken.add(moves[a, b])
  return moves
