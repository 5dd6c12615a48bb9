"""RadGraph's own annotations, from a file of the package or of the data set."""

import json
import os
from collections.abc import Mapping

from data_pipelines.triples.entities import RELATIONS, Triple, status_of, triples_of

# The data set's test file has a level for its two annotators; the first is read.
_ANNOTATOR = "labeler_1"
_NEEDED = ("tokens", "label", "start_ix", "end_ix", "relations")
_INTEGER = ("start_ix", "end_ix")


def study_of(key: str) -> str:
  """The study that a report's key names: s123 for p10/p100/s123.txt, else the key."""
  return key.rpartition("/")[2].removesuffix(".txt")


def _unique(pairs: list[tuple[str, object]]) -> dict:
  found = dict(pairs)
  if len(found) < len(pairs):
    keys = [key for key, _ in pairs]
    twice = next(key for key in keys if keys.count(key) > 1)
    raise ValueError(f"the key {twice!r} occurs twice in one object")
  return found


def _parsed(path: str | os.PathLike) -> dict:
  with open(path, encoding="utf-8") as file:
    try:
      content = json.load(file, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
      raise ValueError(f"{path} is not a RadGraph file: not JSON: {error}") from None
  if not isinstance(content, dict):
    raise ValueError(
      f"{path} is not a RadGraph file: expected an object of reports by key, "
      f"found {type(content).__name__}"
    )
  return content


def _entities(report) -> dict:
  """The entities of a report, of the first annotator where there are two."""
  if not isinstance(report, dict):
    raise ValueError(f"the report is no object but {type(report).__name__}")
  if "entities" not in report and isinstance(report.get(_ANNOTATOR), dict):
    report = report[_ANNOTATOR]
  if not isinstance(report.get("entities"), dict):
    raise ValueError(
      f"no object `entities`, neither here nor under {_ANNOTATOR}; "
      f"found {', '.join(sorted(report)) or 'nothing'}"
    )
  return report["entities"]


def _check(name: str, entity, entities: Mapping) -> None:
  """Raises ValueError, one line, if an entity is not of RadGraph's shape."""
  if not isinstance(entity, dict):
    raise ValueError(f"entity {name} is no object but {type(entity).__name__}")
  missing = [field for field in _NEEDED if field not in entity]
  if missing:
    raise ValueError(f"entity {name} has no {', '.join(missing)}")
  for field in _INTEGER:
    if type(entity[field]) is not int:
      raise ValueError(f"entity {name}: {field} is no integer but {entity[field]!r}")
  tokens, label = entity["tokens"], entity["label"]
  if not isinstance(tokens, str) or not tokens.strip():
    raise ValueError(f"entity {name}: tokens is no text but {tokens!r}")
  if not isinstance(label, str) or status_of(label) is None:
    raise ValueError(f"entity {name}: unknown label {label!r}")
  if not isinstance(entity["relations"], list):
    raise ValueError(f"entity {name}: relations is no list")
  for relation in entity["relations"]:
    if not isinstance(relation, list) or len(relation) != 2:
      raise ValueError(f"entity {name}: {relation!r} is no [type, target]")
    kind, target = relation
    if kind not in RELATIONS:
      raise ValueError(
        f"entity {name}: unknown relation {kind!r}; known are {', '.join(RELATIONS)}"
      )
    if not isinstance(target, str) or target not in entities:
      raise ValueError(f"entity {name}: {kind} points to {target!r}, which is nowhere")


def load_radgraph(path: str | os.PathLike) -> dict[str, tuple[Triple, ...]]:
  """The triples of a RadGraph file, by the study that each report's key names.

  The file is JSON of what the package `radgraph` returns, {"0": {"entities": ...}},
  or of the data set's release, whose keys are the reports' paths and whose test file
  has a level for two annotators, of which the first is read. Of a path the last part
  without .txt is the study: s123 for p10/p100/s123.txt; any other key is kept. Labels
  are those of RadGraph or RadGraph-XL (spec eir 11.1).

  Raises OSError for a file that cannot be read, and ValueError naming file, report
  and entity where something has another shape or a relation points nowhere.
  """
  found, keys = {}, {}
  for key, report in _parsed(path).items():
    try:
      entities = _entities(report)
      for name, entity in entities.items():
        _check(name, entity, entities)
    except ValueError as error:
      raise ValueError(f"{path}, report {key!r}: {error}") from None
    study = study_of(key)
    if study in found:
      raise ValueError(
        f"{path}, report {key!r}: study {study} is there already, as {keys[study]!r}"
      )
    found[study], keys[study] = triples_of(entities), key
  return found
