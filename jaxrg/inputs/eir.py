"""What EIR reads: films alone for stage S, then studies with history and graph."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from data_pipelines import (
  films,
  graphs,
  history,
  interventions,
  loader,
  topics,
  triples,
)
from data_pipelines.loader import Record
from data_pipelines.topics import Topics
from jaxrg import neighbours

# In a run, and in its export.
NEIGHBOURS, TOPICS, TRIPLES = "neighbours.npz", "topics.json", "triples.json.gz"
RETRIEVER = "retriever.npz"
FILES = (TOPICS, NEIGHBOURS, TRIPLES, RETRIEVER)


def read_films(config: Any, source: Sequence[Any]) -> films.Films:
  """A split, film by film."""
  return films.Films(
    source,
    image_size=config.data.image_size,
    views=config.data.views,
    in_memory=config.data.in_memory,
  )


def text_reader(
  config: Any, tokenizer: Any, folder: epath.Path
) -> Callable[[Sequence[Any]], films.Texts]:
  """The function from a split to what is written of its studies.

  `folder`, a run's or an export's, holds the topics.
  """
  encode = make_encode(config, tokenizer, read_topics(folder))
  return lambda source: films.Texts(source, encode, **_options(config))


def case_reader(
  config: Any, tokenizer: Any, folder: epath.Path
) -> Callable[..., films.Cases]:
  """The function from a split to its studies, with their texts, films and graphs.

  `folder`, a run's or an export's, holds the topics, who is alike, and the triples that
  graphs are grown from. Edits of records may follow the split, and what grows another
  `graph` of similar studies.
  """
  encode = make_encode(config, tokenizer, read_topics(folder))
  build, pad = make_build(config, folder), make_pad(config, tokenizer)
  options = _options(config) | {"max_films": config.data.max_films}

  def read(
    source: Sequence[Any], *edits: loader.Edit, graph: ChangeGraph | None = None
  ) -> films.Cases:
    edit = interventions.in_turn(*edits, options["edit"])
    graph_of = lambda study: pad(build(study, graph or grow_nearest))
    return films.Cases(source, encode, graph_of, **options | {"edit": edit})

  return read


def _options(config: Any) -> dict[str, Any]:
  return dict(
    image_size=config.data.image_size,
    views=config.data.views,
    edit=interventions.without(config.data.without),
    in_memory=config.data.in_memory,
  )


def first_records(source: Sequence[Any]) -> Iterator[Record]:
  """The record of each study's first film, of those that can be read."""
  seen = set()
  for record in loader.parse_texts(source, skip_damaged=True):
    if record["study_id"] not in seen:
      seen.add(record["study_id"])
      yield record


def check_histories(config: Any, sources: Iterable[Sequence[Any]]) -> None:
  """Raises ValueError, naming the study, where a history tells what the report says."""
  if not config.model.use_text or "context" in config.data.without:
    return
  for record in itertools.chain.from_iterable(map(first_records, sources)):
    told = history.history_of(record)
    history.check_leak(told, record["findings"], record["study_id"])


def make_topics(config: Any, train: Sequence[Any]) -> Topics:
  """The topics of a run: CheXpert's labels, and phrases of the training reports."""
  findings = [record["findings"] for record in first_records(train)]
  count = config.model.num_topics - len(topics.LABELS)
  return Topics(phrases=topics.mine(findings, count))


def read_topics(folder: epath.Path) -> Topics:
  """The topics that a run or an export holds."""
  path = folder / TOPICS
  try:
    return Topics.from_json(path.read_text())
  except ValueError as error:
    raise ValueError(f"{path} is damaged: {error}") from error


def files(folder: epath.Path) -> dict[str, bytes]:
  """What a run's folder holds that its export needs, too."""
  found = [name for name in FILES if (folder / name).exists()]
  return {name: (folder / name).read_bytes() for name in found}


@dataclasses.dataclass(frozen=True)
class Grow:
  """From similar studies, the nearest first, to the graph of the first `count`."""

  triples: Mapping[str, Sequence[triples.Triple]]  # Of the training studies.
  count: int
  settings: Mapping[str, Any]  # Of `graphs.build`.

  def __call__(self, studies: Sequence[str]) -> graphs.Graph:
    told = [self.triples.get(study, ()) for study in studies[: self.count]]
    return graphs.build(told, **self.settings)


# From a study, those like it and a Grow to its graph.
ChangeGraph = Callable[[str, Sequence[str], Grow], graphs.Graph]


def make_grow(config: Any, folder: epath.Path) -> Grow:
  """How a run's or an export's graphs grow (spec eir 4.3)."""
  found = read_triples(folder) if reads_neighbours(config) else {}
  budget = ("max_nodes", "max_edges", "max_triples", "drop_absent")
  settings = {key: config.graph[key] for key in budget}
  return Grow(found, config.graph.neighbours, settings)


def grow_nearest(study: str, similar: Sequence[str], grow: Grow) -> graphs.Graph:
  """The graph as it is meant: of the studies most like this one."""
  return grow(similar)


def make_build(config: Any, folder: epath.Path) -> Callable[..., graphs.Graph]:
  """The function from a study's id to its graph, or to one by another `ChangeGraph`.

  Where the config asks for no neighbours, every graph is the base graph.
  """
  grow, similar = make_grow(config, folder), None
  if reads_neighbours(config):
    similar = neighbours.read(
      folder / NEIGHBOURS, data_name=config.data.name, least=config.graph.neighbours
    )

  def build(study: str, change: ChangeGraph = grow_nearest) -> graphs.Graph:
    ranked = [other for other, _ in similar.of(study)] if similar else []
    return change(study, ranked, grow)

  return build


def make_triples(config: Any, train: Sequence[Any]) -> bytes:
  """The triples of each training study, as a run keeps them."""
  reports = {r["study_id"]: r["findings"] for r in first_records(train)}
  found, missing = triples.of_reports(reports, config.graph.triples)
  if missing and jax.process_index() == 0:
    print(f"{missing} studies have no triples in {config.graph.triples}")
  return triples.to_bytes(found)


def read_triples(folder: epath.Path) -> dict[str, tuple[triples.Triple, ...]]:
  """The triples that a run or an export holds, by study."""
  path = folder / TRIPLES
  try:
    return triples.from_bytes(path.read_bytes())
  except ValueError as error:
    raise ValueError(f"{path} is damaged: {error}") from error


def reads_neighbours(config: Any) -> bool:
  """Whether graphs are grown from similar studies, so that these must be known."""
  return config.model.use_graph and config.graph.neighbours > 0


def describe_graphs(config: Any, folder: epath.Path) -> str:
  """What there is to say of the training studies' graphs, a line or two."""
  build = make_build(config, folder)
  made = [build(study) for study in read_triples(folder)]
  mean = lambda of: np.mean([of(graph) for graph in made])
  given = lambda g: g.attached + g.unattached + g.dropped + g.ignored
  over = [graph.dropped for graph in made if graph.dropped]
  text = (
    f"graphs: {mean(lambda g: len(g.names)):.1f} nodes and "
    f"{mean(lambda g: len(g.edges)):.1f} edges a study; "
    f"{mean(lambda g: g.attached):.1f} of {mean(given):.1f} triples attached"
  )
  if over:
    text += (
      f"\n{sum(over)} triples of {len(over)} graphs were over the budget, and the "
      "lowest-ranked left out (config.graph.max_nodes, max_edges, max_triples)"
    )
  return text


def make_encode(
  config: Any, tokenizer: Any, asked: Topics
) -> Callable[[Record], dict[str, np.ndarray]]:
  """The arrays of a study's record: texts with their masks, and `states` of topics.

  The texts are its `history` and, as `tokens`, its report.
  """
  length, num_states = config.text.history_length, config.model.num_states
  report_length = config.text.report_length

  def encode(record: Record) -> dict[str, np.ndarray]:
    text = history.history_of(record)
    ids, mask = tokenizer.encode(text, length)
    if not text and config.text.mask_missing:
      mask = np.zeros_like(mask)
    told = history.clean(record["findings"])
    tokens, tokens_mask = tokenizer.encode(told, report_length)
    return {
      "history": ids,
      "history_mask": mask,
      "tokens": tokens,
      "tokens_mask": tokens_mask,
      "states": asked.states(record, num_states),
    }

  return encode


def make_pad(
  config: Any, tokenizer: Any
) -> Callable[[graphs.Graph], dict[str, np.ndarray]]:
  """The function from a graph to its arrays (spec eir 4.7)."""
  tokens_of = functools.lru_cache(maxsize=None)(tokenizer.encode_name)
  return functools.partial(
    graphs.pad,
    tokens_of=tokens_of,
    max_nodes=config.graph.max_nodes,
    max_edges=config.graph.max_edges,
    name_length=config.graph.name_length,
    pad_id=tokenizer.pad,
  )


def film(image_size: int) -> jax.Array:
  """A film of zeros, as `embed` takes it."""
  return jnp.zeros((1, image_size, image_size, 1), jnp.uint8)


def example(config: Any) -> dict[str, jax.Array]:
  """A batch of one, all zeros, of the shapes that EIR takes."""
  size, count = config.data.image_size, config.data.max_films
  nodes, edges = config.graph.max_nodes, config.graph.max_edges
  shapes = {
    "history": (config.text.history_length,),
    "tokens": (config.text.report_length,),
    "states": (config.model.num_topics,),
    "view": (count,),
    "node_tokens": (nodes, config.graph.name_length),
    "node_kind": (nodes,),
    "node_group": (nodes,),
    "senders": (edges,),
    "receivers": (edges,),
    "edge_kind": (edges,),
  }
  batch = {k: jnp.zeros((1, *shape), jnp.int32) for k, shape in shapes.items()}
  batch["image"] = jnp.zeros((1, count, size, size, 1), jnp.uint8)
  batch["study"] = batch["patient"] = jnp.zeros((1, 2), jnp.uint32)
  masks = {
    "has_view": (count,),
    "history_mask": shapes["history"],
    "tokens_mask": shapes["tokens"],
    "node_tokens_mask": shapes["node_tokens"],
    "node_added": (nodes,),
    "node_mask": (nodes,),
    "edge_mask": (edges,),
  }
  return batch | {k: jnp.ones((1, *shape), bool) for k, shape in masks.items()}
