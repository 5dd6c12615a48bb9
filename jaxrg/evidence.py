"""What EIR writes from: similar studies, and the graph grown from their reports."""

import base64
import dataclasses
import html
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from data_pipelines.graphs import Graph
from jaxrg import inputs, neighbours

ROW, LEFT, RIGHT, WIDTH = 18, 150, 260, 420  # Pixels of a drawing.


@dataclasses.dataclass(frozen=True)
class Evidence:
  """What a report was written from, besides the film and what was told."""

  similar: tuple[tuple[str, float], ...]  # Training studies and how much, best first.
  graph: Graph

  def __str__(self) -> str:
    pairs = zip(self.graph.names, self.graph.added)
    added = ", ".join(name for name, is_added in pairs if is_added)
    return f"like: {self.cases()}\nin their reports: {added or 'nothing more'}"

  def cases(self) -> str:
    """The similar studies in words."""
    known = (f"{study} ({score:.2f})" for study, score in self.similar)
    return ", ".join(known) or "none"


def of_studies(config: Any, folder: epath.Path) -> Callable[[str], Evidence]:
  """The function from the id of a study of some split to its evidence.

  `folder` is a run's or an export's.
  """
  grow, found = inputs.eir.make_grow(config, folder), None
  if inputs.eir.reads_neighbours(config):
    found = neighbours.read(folder / inputs.eir.NEIGHBOURS)

  def of(study: str) -> Evidence:
    similar = found.of(study)[: grow.count] if found else ()
    return Evidence(tuple(similar), grow([case for case, _ in similar]))

  return of


def draw(graph: Graph) -> str:
  """The graph as an SVG in a data URI: what was added, and what it hangs on.

  Nodes of the base graph that nothing was added to are only counted: they are the same
  for every study.
  """
  added = [i for i, is_added in enumerate(graph.added) if is_added]
  links = sorted({(min(a, b), max(a, b)) for a, b, _ in graph.edges if a != b})
  links = [(a, b) for a, b in links if graph.added[a] or graph.added[b]]
  ends = {end for link in links for end in link}
  base = sorted(ends - set(added) - {0})  # The root is linked to all of them.
  places = {node: (LEFT, (i + 2) * ROW) for i, node in enumerate(base)}
  places |= {node: (RIGHT, (i + 2) * ROW) for i, node in enumerate(added)}
  rest = len(graph.names) - len(places)
  caption = f"{len(added)} nodes added; {rest} of the base graph not drawn"
  height = (max(len(base), len(added)) + 3) * ROW
  parts = [
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
    f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
    '<rect width="100%" height="100%" fill="#fff"/>',
    f'<text x="8" y="{ROW}" fill="#586474">{caption}</text>',
    *(_line(places, link) for link in links),
    *(_word(graph.names[node], *places[node]) for node in places),
    "</svg>",
  ]
  data = base64.b64encode("".join(parts).encode()).decode()
  return f"data:image/svg+xml;base64,{data}"


def _line(places: Mapping[int, tuple[int, int]], link: tuple[int, int]) -> str:
  if not all(end in places for end in link):
    return ""
  (x1, y1), (x2, y2) = (places[end] for end in link)
  bend = 40 if x1 == x2 else 0  # Between two that were added.
  middle = f"{(x1 + x2) // 2 - bend} {(y1 + y2) // 2}"
  path = f"M{x1} {y1} Q{middle} {x2} {y2}"
  return f'<path d="{path}" fill="none" stroke="#9fb3cc"/>'


def _word(name: str, x: int, y: int) -> str:
  is_base = x == LEFT
  anchor, at, ink = (
    ("end", x - 6, "#586474") if is_base else ("start", x + 6, "#1f5fa8")
  )
  dot = f'<circle cx="{x}" cy="{y}" r="3" fill="{ink}"/>'
  style = f'text-anchor="{anchor}" fill="{ink}"'
  return f'{dot}<text x="{at}" y="{y + 4}" {style}>{html.escape(name)}</text>'
