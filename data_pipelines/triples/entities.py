"""The triple, and the entities in RadGraph's shape that triples are made of.

An entity is {"tokens", "label", "start_ix", "end_ix", "relations"}: its words, what it
is and how certain, its first and last word, and [type, id of the target] of what it
is the source of.
"""

import dataclasses
from collections.abc import Mapping

RELATIONS = ("modify", "located_at", "suggestive_of")

# What the rules write, as RadGraph's first version does.
ANATOMY = "ANAT-DP"
OBSERVATIONS = {"present": "OBS-DP", "uncertain": "OBS-U", "absent": "OBS-DA"}

_STATUSES = {ANATOMY: "present"} | {v: k for k, v in OBSERVATIONS.items()}
# RadGraph-XL's labels: Observation::measurement::definitely present.
_KINDS = ("Anatomy", "Observation")
_CERTAINTIES = {
  "definitely present": "present",
  "uncertain": "uncertain",
  "definitely absent": "absent",
}


@dataclasses.dataclass(frozen=True)
class Triple:
  """One relation between two entities of a report (spec eir 4.2).

  The ends are words in lower case; a status is present, absent or uncertain.
  """

  source: str
  relation: str  # One of RELATIONS.
  target: str
  source_status: str = "present"
  target_status: str = "present"


def status_of(label: str) -> str | None:
  """The status that a label of either version states; None for an unknown label."""
  if label in _STATUSES:
    return _STATUSES[label]
  kind, _, rest = label.partition("::")
  return _CERTAINTIES.get(rest.rpartition("::")[2]) if kind in _KINDS else None


def triples_of(entities: Mapping[str, Mapping]) -> tuple[Triple, ...]:
  """The triples of a report's entities: by source, then target, in the text's order.

  Equal triples are given once. `entities` are whole, as `annotate` writes them and
  `load_radgraph` has checked them.
  """
  place = lambda entity: (entity["start_ix"], entity["end_ix"])
  found = []
  for source in entities.values():
    for relation, name in source["relations"]:
      target = entities[name]
      order = (place(source), place(target), RELATIONS.index(relation))
      ends = [" ".join(end["tokens"].lower().split()) for end in (source, target)]
      statuses = [status_of(end["label"]) for end in (source, target)]
      found.append((order, Triple(ends[0], relation, ends[1], *statuses)))
  return tuple(dict.fromkeys(triple for _, triple in sorted(found, key=_order)))


def _order(ranked: tuple[tuple, Triple]) -> tuple:
  return ranked[0]
