"""The triples of many reports, by rule or from a file of annotations."""

import dataclasses
import gzip
import json
import os
import zlib
from collections.abc import Mapping, Sequence

from data_pipelines.triples.entities import Triple
from data_pipelines.triples.radgraph import load_radgraph
from data_pipelines.triples.rules import extract

RULES = "rules"


def of_reports(
  reports: Mapping[str, str], source: str | os.PathLike = RULES
) -> tuple[dict[str, tuple[Triple, ...]], int]:
  """(triples by study, the number of studies without annotation).

  `reports` are texts by study; `source` is RULES or the path of a RadGraph file,
  whose keys name the studies as `load_radgraph` says. A study that the file lacks
  has no triples, and is counted; by rule, none is. Raises what `load_radgraph` does,
  and ValueError if the file has none of the studies.
  """
  if source == RULES:
    return {study: extract(report) for study, report in reports.items()}, 0
  annotated = load_radgraph(source)
  missing = len(reports.keys() - annotated.keys())
  if reports and missing == len(reports):
    raise ValueError(
      f"{source} annotates none of the {len(reports)} studies: its keys name "
      f"{next(iter(annotated), 'nothing')!r}, the studies are named "
      f"{next(iter(reports))!r}"
    )
  return {study: annotated.get(study, ()) for study in reports}, missing


def to_bytes(found: Mapping[str, Sequence[Triple]]) -> bytes:
  """The triples of studies as a file of ours, the same bytes for the same triples."""
  rows = {study: [*map(dataclasses.astuple, said)] for study, said in found.items()}
  text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
  return gzip.compress(text.encode(), mtime=0)


def from_bytes(data: bytes) -> dict[str, tuple[Triple, ...]]:
  """What `to_bytes` gave; raises ValueError for anything else."""
  try:
    found = json.loads(gzip.decompress(data))
    return {study: tuple(Triple(*row) for row in rows) for study, rows in found.items()}
  except (OSError, EOFError, zlib.error, AttributeError, TypeError) as error:
    raise ValueError(str(error) or type(error).__name__) from error
