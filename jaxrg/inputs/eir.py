"""What EIR reads: films alone for stage S, then studies with history and graph."""

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

NEIGHBOURS, TOPICS = "neighbours.npz", "topics.json"  # In a run, and in its export.


def read_films(config: Any, source: Sequence[Any]) -> films.Films:
  """A split, film by film."""
  return films.Films(
    source,
    image_size=config.data.image_size,
    views=config.data.views,
    in_memory=config.data.in_memory,
  )


def case_reader(
  config: Any, tokenizer: Any, train: Sequence[Any], folder: epath.Path
) -> Callable[[Sequence[Any]], films.Cases]:
  """The function from a split to its studies, with their histories and graphs.

  `folder`, a run's or an export's, holds the topics and who is alike; `train` is the
  training split, whose reports the graphs are grown from.
  """
  encode = make_encode(config, tokenizer, read_topics(folder))
  graph_of = make_graph_of(config, tokenizer, make_build(config, train, folder))
  return lambda source: films.Cases(
    source,
    encode,
    graph_of,
    image_size=config.data.image_size,
    views=config.data.views,
    max_films=config.data.max_films,
    edit=interventions.without(config.data.without),
    in_memory=config.data.in_memory,
  )


def first_records(source: Sequence[Any]) -> Iterator[Record]:
  """The record of each study's first film, of those that can be read."""
  seen = set()
  for record in loader.parse_all(source, skip_damaged=True):
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
  found = [name for name in (TOPICS, NEIGHBOURS) if (folder / name).exists()]
  return {name: (folder / name).read_bytes() for name in found}


def make_build(
  config: Any, train: Sequence[Any], folder: epath.Path
) -> Callable[[str], graphs.Graph]:
  """The function from a study's id to its graph (spec eir 4.3).

  Where the config asks for no neighbours, every graph is the base graph.
  """
  found = read_triples(config, train)[0] if reads_neighbours(config) else {}
  return _make_build(config, found, folder)


def _make_build(
  config: Any, found: Mapping[str, Sequence[triples.Triple]], folder: epath.Path
) -> Callable[[str], graphs.Graph]:
  settings = dict(config.graph)
  budget = ("max_nodes", "max_edges", "max_triples", "drop_absent")
  build = functools.partial(graphs.build, **{key: settings[key] for key in budget})
  if not reads_neighbours(config):
    base = build(())
    return lambda study: base
  similar = neighbours.read(
    folder / NEIGHBOURS, data_name=config.data.name, k=config.graph.neighbours
  )
  return lambda study: build([found.get(other, ()) for other, _ in similar.of(study)])


def read_triples(
  config: Any, train: Sequence[Any]
) -> tuple[dict[str, Sequence[triples.Triple]], int]:
  """The triples of each training study, and of how many studies nobody knows any."""
  reports = {r["study_id"]: r["findings"] for r in first_records(train)}
  found, missing = triples.of_reports(reports, config.graph.triples)
  return {study: found.get(study, ()) for study in reports}, missing


def reads_neighbours(config: Any) -> bool:
  """Whether graphs are grown from similar studies, so that these must be known."""
  return config.model.use_graph and config.graph.neighbours > 0


def describe_graphs(config: Any, train: Sequence[Any], folder: epath.Path) -> str:
  """What there is to say of the training studies' graphs, a line or two."""
  found, missing = read_triples(config, train)
  build = _make_build(config, found, folder)
  made = [build(study) for study in found]
  mean = lambda of: np.mean([of(graph) for graph in made])
  given = lambda g: g.attached + g.unattached + g.dropped + g.ignored
  over = [graph.dropped for graph in made if graph.dropped]
  text = (
    f"graphs: {mean(lambda g: len(g.names)):.1f} nodes and "
    f"{mean(lambda g: len(g.edges)):.1f} edges a study; "
    f"{mean(lambda g: g.attached):.1f} of {mean(given):.1f} triples attached"
  )
  if missing:
    text += f"\n{missing} studies have no triples in {config.graph.triples}"
  if over:
    text += (
      f"\n{sum(over)} triples of {len(over)} graphs were over the budget, and the "
      "lowest-ranked left out (config.graph.max_nodes, max_edges, max_triples)"
    )
  return text


def make_encode(
  config: Any, tokenizer: Any, asked: Topics
) -> Callable[[Record], dict[str, np.ndarray]]:
  """The arrays of a study's record: `history`, its mask, and the `states` of topics."""
  length, num_states = config.text.history_length, config.model.num_states

  def encode(record: Record) -> dict[str, np.ndarray]:
    text = history.history_of(record)
    ids, mask = tokenizer.encode(text, length)
    if not text and config.text.mask_missing:
      mask = np.zeros_like(mask)
    states = asked.states(record, num_states)
    return {"history": ids, "history_mask": mask, "states": states}

  return encode


def make_graph_of(
  config: Any, tokenizer: Any, build: Callable[[str], graphs.Graph]
) -> Callable[[str], dict[str, np.ndarray]]:
  """The function from a study's id to the arrays of its graph (spec eir 4.7)."""
  tokens_of = functools.lru_cache(maxsize=None)(tokenizer.encode_name)
  pad = functools.partial(
    graphs.pad,
    tokens_of=tokens_of,
    max_nodes=config.graph.max_nodes,
    max_edges=config.graph.max_edges,
    name_length=config.graph.name_length,
    pad_id=tokenizer.pad,
  )
  return lambda study: pad(build(study))


def film(image_size: int) -> jax.Array:
  """A film of zeros, as `embed` takes it."""
  return jnp.zeros((1, image_size, image_size, 1), jnp.uint8)


def example(config: Any) -> dict[str, jax.Array]:
  """A batch of one, all zeros, of the shapes that EIR takes."""
  size, count = config.data.image_size, config.data.max_films
  nodes, edges = config.graph.max_nodes, config.graph.max_edges
  shapes = {
    "history": (config.text.history_length,),
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
    "history_mask": (config.text.history_length,),
    "node_tokens_mask": shapes["node_tokens"],
    "node_added": (nodes,),
    "node_mask": (nodes,),
    "edge_mask": (edges,),
  }
  return batch | {k: jnp.ones((1, *shape), bool) for k, shape in masks.items()}
