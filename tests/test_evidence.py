"""What EIR's reports are written from, in words and as a drawing."""

import base64
import xml.etree.ElementTree as ElementTree

from data_pipelines import base_graph, graphs, triples
from jaxrg.evidence import Evidence, draw

SVG = "{http://www.w3.org/2000/svg}"


def grown(*reports):
  return graphs.build([triples.extract(report) for report in reports])


def drawn(graph):
  head, _, data = draw(graph).partition(",")
  assert head == "data:image/svg+xml;base64"
  return ElementTree.fromstring(base64.b64decode(data))


def words(picture):
  return [text.text for text in picture.iter(f"{SVG}text")]


def test_in_words():
  graph = grown("Small left pleural effusion.")
  told = str(Evidence((("s1", 0.987), ("s2", 0.5)), graph))
  added = [name for name, is_new in zip(graph.names, graph.added) if is_new]
  assert added
  assert told == f"like: s1 (0.99), s2 (0.50)\nin their reports: {', '.join(added)}"
  assert str(Evidence((), grown())) == "like: none\nin their reports: nothing more"


def test_a_drawing_has_what_was_added_and_what_it_hangs_on():
  graph = grown("Small left pleural effusion.", "Right rib fracture.")
  picture = drawn(graph)
  added = {name for name, is_new in zip(graph.names, graph.added) if is_new}
  caption, *shown = words(picture)
  assert caption.startswith(f"{len(added)} nodes added; ")
  assert added <= set(shown)
  assert "effusion" in shown
  assert "scoliosis" not in shown
  number = {name: i for i, name in enumerate(graph.names)}
  ends = {number[name] for name in shown}
  links = {
    (min(a, b), max(a, b))
    for a, b, _ in graph.edges
    if a != b and {a, b} <= ends and (graph.added[a] or graph.added[b])
  }
  assert len(list(picture.iter(f"{SVG}path"))) == len(links) > 0


def test_a_base_graph_is_counted():
  assert words(drawn(grown())) == [
    f"0 nodes added; {len(base_graph.NAMES)} of the base graph not drawn"
  ]


def test_names_are_no_markup():
  graph = grown("Small left pleural effusion.")
  names = tuple("a<b>&" if new else n for n, new in zip(graph.names, graph.added))
  picture = drawn(
    graphs.Graph(names, graph.kinds, graph.groups, graph.added, graph.edges)
  )
  assert "a<b>&" in words(picture)
