"""The graph of a study: base nodes, and what the reports of similar studies add.

A graph depends on the neighbours' triples and their order alone. It never outgrows its
budget: what finds no room is dropped and counted (spec eir 4.3, 4.7).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from data_pipelines import base_graph
from data_pipelines.triples import RELATIONS, Triple

Edge = tuple[int, int, int]
KIND_OF = {
  "modify": base_graph.MODIFY,
  "located_at": base_graph.LOCATED_AT,
  "suggestive_of": base_graph.SUGGESTIVE_OF,
}


@dataclasses.dataclass(frozen=True)
class Graph:
  """Nodes and edges, and what has become of the triples.

  An edge is (sender, receiver, kind); edges are ordered by receiver, then sender, and
  no two have the same ends. What is there one way is there the other way too.
  """

  names: tuple[str, ...] = ()
  kinds: tuple[int, ...] = ()
  groups: tuple[int, ...] = ()
  added: tuple[bool, ...] = ()
  edges: tuple[Edge, ...] = ()
  attached: int = 0  # Triples whose two ends are in the graph.
  unattached: int = 0  # Neither end was known.
  dropped: int = 0  # Over the budget of the report or of the graph.
  ignored: int = 0  # Absent, of a stop entity, or of one entity alone.


def build(
  neighbours: Sequence[Sequence[Triple]],
  *,
  max_nodes: int = 96,
  max_edges: int = 640,
  drop_absent: bool = True,
  max_triples: int = 30,
) -> Graph:
  """The base graph, and the triples of similar studies' reports, the nearest first.

  One pass: a triple that knows neither end is skipped even if a later one would make it
  known. One that needs more room than is left is dropped; a later one may still fit.
  `max_nodes` counts the padding node, `max_edges` a self-loop of every node, padding
  too, so that `pad` finds room. Without neighbours it is the static graph.

  Raises ValueError where the base graph exceeds the budget, or for an unknown relation.
  Source: spec eir 4.3, ours.
  """
  draft = _Draft(max_nodes, max_edges)
  counts = dict.fromkeys(("attached", "unattached", "dropped", "ignored"), 0)
  for triples in neighbours:
    for place, triple in enumerate(triples):
      fate = "dropped"
      if place < max_triples:
        fate = draft.update(triple, drop_absent)
      counts[fate] += 1
  return dataclasses.replace(draft.graph(), **counts)


class _Draft:
  """A graph as it grows."""

  def __init__(self, max_nodes: int, max_edges: int):
    self.index = {name: i for i, name in enumerate(base_graph.NAMES)}
    self.kinds, self.groups = list(base_graph.KINDS), list(base_graph.GROUPS)
    self.edges = dict(base_graph.EDGES)
    self.max_nodes, self.max_links = max_nodes - 1, max_edges - max_nodes
    if len(self.index) > self.max_nodes:
      raise ValueError(
        f"config.graph.max_nodes={max_nodes} has no room for the {len(self.index)} "
        "nodes of the base graph and a padding node; raise it."
      )
    if self._links() > self.max_links:
      raise ValueError(
        f"config.graph.max_edges={max_edges} has no room for the {self._links()} edges "
        f"of the base graph and the self-loops of {max_nodes} nodes; raise it."
      )

  def update(self, triple: Triple, drop_absent: bool) -> str:
    """Attaches a triple, or not; the name of its count."""
    if triple.relation not in KIND_OF:
      raise ValueError(
        f"Unknown relation {triple.relation!r} of {triple.source!r} to "
        f"{triple.target!r}; known: {', '.join(RELATIONS)}."
      )
    ends = [base_graph.canonical(name) for name in (triple.source, triple.target)]
    absent = "absent" in (triple.source_status, triple.target_status)
    if "" in ends or ends[0] == ends[1] or (absent and drop_absent):
      return "ignored"
    new = [place for place, name in enumerate(ends) if name not in self.index]
    if len(new) == 2:
      return "unattached"
    number = len(self.index)
    source, target = (self.index.get(name, number) for name in ends)
    pairs = [(source, target, KIND_OF[triple.relation])]
    if new:
      pairs.append((0, number, base_graph.LINK))
    both = [edge for a, b, kind in pairs for edge in ((a, b, kind), (b, a, kind))]
    links = {(a, b): kind for a, b, kind in both if (a, b) not in self.edges}
    full = number + len(new) > self.max_nodes
    if full or self._links() + len(links) > self.max_links:
      return "dropped"
    for place in new:
      self.index[ends[place]] = number
      self.kinds.append(_kind(triple.relation, is_source=place == 0))
      self.groups.append(self.groups[target if place == 0 else source])
      self.edges[number, number] = base_graph.SELF
    self.edges |= links
    return "attached"

  def graph(self) -> Graph:
    return Graph(
      names=tuple(self.index),
      kinds=tuple(self.kinds),
      groups=tuple(self.groups),
      added=tuple(i >= len(base_graph.NAMES) for i in range(len(self.index))),
      edges=ordered(self.edges),
    )

  def _links(self) -> int:
    return len(self.edges) - len(self.index)


def ordered(edges: Mapping[tuple[int, int], int]) -> tuple[Edge, ...]:
  """(sender, receiver) -> kind, as a graph lists it: by receiver, then sender."""
  listed = ((sender, receiver, kind) for (sender, receiver), kind in edges.items())
  return tuple(sorted(listed, key=lambda edge: (edge[1], edge[0])))


def _kind(relation: str, *, is_source: bool) -> int:
  """What a new node is, by the part that it plays in its triple."""
  if relation == "modify" and is_source:
    return base_graph.MODIFIER
  if relation == "located_at" and not is_source:
    return base_graph.ORGAN
  return base_graph.OBSERVATION


def pad(
  graph: Graph,
  tokens_of: Callable[[str], Sequence[int]],
  *,
  max_nodes: int,
  max_edges: int,
  name_length: int,
  pad_id: int,
) -> dict[str, np.ndarray]:
  """The arrays of one example: `max_nodes` nodes (N) and `max_edges` edges (E).

  Nodes: `node_tokens` (N, name_length) and its `node_tokens_mask`, `node_kind`,
  `node_group`, `node_added`, `node_mask`. Edges: `senders`, `receivers`, `edge_kind`,
  `edge_mask`; receivers never decrease. A longer name is cut.

  Every node, real or not, has its self-loop exactly once among the edges of
  `edge_mask`: attention over those, sparse or dense, never meets an empty row (spec
  eir 4.8). All other padding is the last node's self-loop again, which `edge_mask`
  leaves out; attention that does not read the mask errs at that node alone, and not
  even there, as equal values have the same mean. The mask of the tokens is empty for
  padding.

  Raises ValueError for a graph that exceeds the budget. Source: spec eir 4.7, B.
  """
  size, nodes = len(graph.names), np.arange(max_nodes)
  loops = [(node, node, base_graph.SELF) for node in range(size, max_nodes)]
  edges = [*graph.edges, *loops]
  if size >= max_nodes or len(edges) > max_edges:
    raise ValueError(
      f"A graph of {size} nodes needs config.graph.max_nodes > {size} and, with "
      f"{max_nodes}, config.graph.max_edges >= {len(edges)}; it is {max_edges}."
    )
  tokens = np.full((max_nodes, name_length), pad_id, np.int32)
  tokens_mask = np.zeros((max_nodes, name_length), bool)
  for node, name in enumerate(graph.names):
    ids = list(tokens_of(name))[:name_length]
    tokens[node, : len(ids)] = ids
    tokens_mask[node, : len(ids)] = True
  spare = [(max_nodes - 1, max_nodes - 1, base_graph.SELF)] * (max_edges - len(edges))
  senders, receivers, kinds = np.array(edges + spare, np.int32).T
  fill = lambda values, rest: np.array([*values, *[rest] * (max_nodes - size)])
  return {
    "node_tokens": tokens,
    "node_tokens_mask": tokens_mask,
    "node_kind": fill(graph.kinds, 0).astype(np.int32),
    "node_group": fill(graph.groups, base_graph.NO_GROUP).astype(np.int32),
    "node_added": fill(graph.added, False).astype(bool),
    "node_mask": nodes < size,
    "senders": senders,
    "receivers": receivers,
    "edge_kind": kinds,
    "edge_mask": np.arange(max_edges) < len(edges),
  }
