"""What a report says as triples: entities, and what one says of another."""

from data_pipelines.triples.corpus import RULES, from_bytes, of_reports, to_bytes
from data_pipelines.triples.entities import RELATIONS, Triple, triples_of
from data_pipelines.triples.radgraph import load_radgraph
from data_pipelines.triples.rules import annotate, extract

__all__ = [
  "RELATIONS",
  "RULES",
  "Triple",
  "annotate",
  "extract",
  "from_bytes",
  "load_radgraph",
  "of_reports",
  "to_bytes",
  "triples_of",
]
