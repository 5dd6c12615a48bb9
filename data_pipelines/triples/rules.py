"""Reads triples out of radiology prose, by rule, in RadGraph's shape (spec eir 11.4).

Standard library only and fast, for it reads whole corpora. Sentences, negation and
doubt are those of `findings`; the words are in lexicon.py, what binds them in links.py.
"""

import functools
from typing import NamedTuple

from data_pipelines.findings import sentences
from data_pipelines.triples import grammar, links
from data_pipelines.triples.entities import ANATOMY, OBSERVATIONS, Triple, triples_of


class _Entity(NamedTuple):
  tokens: str
  label: str
  start: int
  end: int  # The last word.
  relations: tuple[tuple[str, int], ...]  # (type, number of the entity).


class _Sentence(NamedTuple):
  words: tuple[str, ...]
  entities: tuple[_Entity, ...]


def _relations(spans: list[grammar.Span]) -> list[tuple[int, str, int]]:
  """(source, relation, target) of the spans of a sentence."""
  found = []
  for i, span in enumerate(spans):
    if span.role == "modifier":
      found.append((i, "modify", links.modified(spans, i)))
    elif span.role == "part":
      found.append((i, "modify", span.owner))
    elif span.role in ("anatomy", "observation") and links.is_compound(spans, i):
      found.append((i, "modify", i + 1))
  found += [(i, "located_at", j) for i, j in links.places(spans)]
  found += [(i, "suggestive_of", j) for i, j in links.suggestions(spans)]
  return [(i, relation, j) for i, relation, j in found if j >= 0]


def _label(span: grammar.Span) -> str:
  return OBSERVATIONS[span.status] if span.role == "observation" else ANATOMY


@functools.lru_cache(maxsize=16384)
def _read(sentence: str) -> _Sentence:
  words = sentences.words_of(sentence)
  spans = grammar.read(words)
  relations = _relations(spans)
  said_of = {i: j for i, relation, j in relations if relation == "modify"}
  kept = [
    i
    for i, span in enumerate(spans)
    if span.role in ("observation", "anatomy") or i in said_of
  ]
  number = {i: n for n, i in enumerate(kept)}
  entities = tuple(
    _Entity(
      " ".join(words[spans[i].start : spans[i].end]),
      # A modifier is what its target is, and as certain.
      _label(spans[said_of[i]] if spans[i].role == "modifier" else spans[i]),
      spans[i].start,
      spans[i].end - 1,
      tuple((relation, number[j]) for source, relation, j in relations if source == i),
    )
    for i in kept
  )
  return _Sentence(tuple(words), entities)


def annotate(report: str) -> dict:
  """The entities of a report and their relations, in RadGraph's shape.

  {"text", "entities"}: the words that are read, each sentence closed by a full stop,
  and the entities by number from "1" in the order of the text, with the labels of
  RadGraph's first version; `start_ix` and `end_ix` count the words of `text`, the
  last included (spec eir 11.1). Only findings and impression are read of a report
  with headings. Any text is read; what has no meaning gives no entity.
  """
  words, entities = [], {}
  for sentence in map(_read, sentences.split(report)):
    if not sentence.words:
      continue
    first, at = len(entities) + 1, len(words)
    for n, entity in enumerate(sentence.entities):
      entities[str(first + n)] = {
        "tokens": entity.tokens,
        "label": entity.label,
        "start_ix": at + entity.start,
        "end_ix": at + entity.end,
        "relations": [[kind, str(first + j)] for kind, j in entity.relations],
      }
    words += [*sentence.words, "."]
  return {"text": " ".join(words), "entities": entities}


def extract(report: str) -> tuple[Triple, ...]:
  """The triples of a report, in its order; equal triples once."""
  return triples_of(annotate(report)["entities"])
