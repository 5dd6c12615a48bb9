"""What a report says as triples: entities, and what one says of another."""

from data_pipelines.triples.corpus import RULES, of_reports
from data_pipelines.triples.entities import RELATIONS, Triple, triples_of
from data_pipelines.triples.radgraph import load_radgraph
from data_pipelines.triples.rules import annotate, extract

__all__ = [
  "RELATIONS",
  "RULES",
  "Triple",
  "annotate",
  "extract",
  "load_radgraph",
  "of_reports",
  "triples_of",
]
