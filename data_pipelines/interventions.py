"""What the model sees of a study, were a part of it missing, or another one's.

Each function takes `meta`, the records of a split without their images, and gives an
`Intervention`. The same arguments give the same one: what is random depends on (seed,
id) alone. A part that is missing stays so; nothing is invented in its place.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines import loader
from data_pipelines.chance import uniform
from data_pipelines.loader import Edit, Record

Meta = Sequence[Mapping[str, Any]]

FRONTAL, LATERAL = ("PA", "AP", "AP AXIAL", "PA LLD"), ("LATERAL", "LL")
ACROSS = {**dict.fromkeys(FRONTAL, LATERAL), **dict.fromkeys(LATERAL, FRONTAL)}
NO_PRIOR = {"prior": np.int64(-1), "prior_view": "", "prior_report": ""}
NO_CONTEXT = {"indication": "", "history": ""}
# What `masked_context` takes at a time, and how to find it in a text.
UNITS = {"token": r"\S+", "sentence": r"\S(?:.*?[.?!;](?=\s|$)|.*)", "study": ""}
# What `config.data.without` can take from a model.
PARTS = {"prior": NO_PRIOR, "context": NO_CONTEXT}


@dataclasses.dataclass(frozen=True)
class Intervention:
  """An edit of a split, and which of its studies it changes."""

  edit: Edit
  applies: np.ndarray  # (n,) bool
  # From a study, those like it (the nearest first) and what grows a graph of such to
  # another graph; None: as it grows.
  graph: Callable[[str, Sequence[str], Any], Any] | None = None


def without(parts: Collection[str]) -> Edit:
  """The edit that takes the parts, names of PARTS, from every study of any split.

  Raises ValueError, naming the key of a config, for an unknown part.
  """
  if unknown := [part for part in parts if part not in PARTS]:
    raise ValueError(
      f"Unknown config.data.without {unknown[0]!r}; known: {', '.join(PARTS)}."
    )
  missing = {name: value for part in parts for name, value in PARTS[part].items()}
  return lambda index, record: record | missing


def in_turn(*edits: Edit) -> Edit:
  """One edit after the other."""

  def edit(index: int, record: Record) -> Record:
    for one in edits:
      record = one(index, record)
    return record

  return edit


def drop_priors(meta: Meta, share: float, seed: int) -> Intervention:
  """No prior for a `share` of the studies; what one share drops, a larger one does."""
  dropped = [uniform(seed, record["id"]) < share for record in meta]
  return _replace(meta, [NO_PRIOR if drops else {} for drops in dropped])


def other_patients_prior(meta: Meta) -> Intervention:
  """Another patient's prior in place of the own; none where nobody else has one."""
  owners = [i for i, record in enumerate(meta) if record["prior"] >= 0]
  changes = [NO_PRIOR if record["prior"] >= 0 else {} for record in meta]
  for i, other in _exchange(meta, owners).items():
    changes[i] = _prior(meta, i, int(meta[other]["prior"]))
  return _replace(meta, changes)


def prior_of_another_view(meta: Meta) -> Intervention:
  """The prior study's lateral film in place of its frontal one, or the other way."""
  studies, changes = _studies(meta), []
  for i, record in enumerate(meta):
    films = []
    if record["prior"] >= 0:
      prior = meta[int(record["prior"])]
      # A prior that is nobody's example stands alone.
      study = studies.get(prior["patient_id"], {}).get(prior["study_id"], ())
      wanted = ACROSS.get(prior["view"], ())
      films = [film for film in study if meta[film]["view"] in wanted]
    changes.append(_prior(meta, i, films[0]) if films else {})
  return _replace(meta, changes)


def oldest_prior(meta: Meta) -> Intervention:
  """The patient's first study as prior, for those who have at least two earlier ones.

  Its film of the same view, else its frontal one.
  """
  studies, changes = _studies(meta), []
  for i, record in enumerate(meta):
    films, time = [], lambda study: meta[study[0]]["study_time"]
    others = studies[record["patient_id"]].values()
    earlier = [s for s in others if "" < time(s) < record["study_time"]]
    if record["prior"] >= 0 and len(earlier) >= 2:
      oldest = min(earlier, key=time)
      choices = ((record["view"],), FRONTAL)
      films = [f for views in choices for f in oldest if meta[f]["view"] in views]
    changes.append(_prior(meta, i, films[0]) if films else {})
  return _replace(meta, changes)


def without_context(meta: Meta) -> Intervention:
  """Neither indication nor history."""
  return _replace(meta, [NO_CONTEXT] * len(meta))


def masked_indication(meta: Meta) -> Intervention:
  """No indication; the history stays."""
  return _replace(meta, [{"indication": ""}] * len(meta))


def swapped_context(meta: Meta) -> Intervention:
  """Indication and history of another patient, for those who have any of the two."""
  owners = [i for i, r in enumerate(meta) if r["indication"] or r["history"]]
  changes = [{} for _ in meta]
  for i, other in _exchange(meta, owners).items():
    changes[i] = {name: meta[other][name] for name in NO_CONTEXT}
  return _replace(meta, changes)


def masked_context(meta: Meta, level: float, unit: str, seed: int) -> Intervention:
  """A share `level` of the indication and the history taken away, by words or more.

  `unit` is one of UNITS: single words, single sentences, or all that is known of a
  study. What a level takes, a higher one takes too; 1 leaves nothing. All films of a
  study lose the same. Raises ValueError for an unknown unit.
  """
  if unit not in UNITS:
    raise ValueError(f"Unknown unit {unit!r} of masking; known: {', '.join(UNITS)}.")

  def masked(record: Mapping[str, Any], name: str) -> str:
    text, study = record[name], record["study_id"]
    if unit == "study":
      return "" if uniform(seed, study) < level else text
    parts = re.findall(UNITS[unit], text)
    draws = [uniform(seed, study, name, place) for place in range(len(parts))]
    if all(draw >= level for draw in draws):
      return text
    return " ".join(part for part, draw in zip(parts, draws) if draw >= level)

  names = ("indication", "history")
  return _replace(meta, [{name: masked(r, name) for name in names} for r in meta])


def noisy_indication(meta: Meta, level: float, seed: int) -> Intervention:
  """A share `level` of an indication's words replaced by words of other studies.

  Those come from indications and histories. What a level replaces, a higher one
  replaces by the same.
  """
  studies = {record["study_id"]: record for record in meta}
  pool = [
    (study, word)
    for study, record in studies.items()
    for word in f"{record['indication']} {record['history']}".split()
  ]
  bare = lambda word: word.strip(".,;:").lower()

  def noisy(record: Mapping[str, Any]) -> str:
    def word(match: re.Match) -> str:
      if uniform(seed, record["id"], match.start()) >= level:
        return match[0]
      first = int(uniform(seed, record["id"], match.start(), "word") * len(pool))
      for turn in range(len(pool)):
        study, other = pool[(first + turn) % len(pool)]
        if study != record["study_id"] and bare(other) != bare(match[0]):
          return other
      return match[0]

    return re.sub(r"\S+", word, record["indication"])

  return _replace(meta, [{"indication": noisy(record)} for record in meta])


def blank_image(meta: Meta, grey: int) -> Intervention:
  """A film of one level of grey (0 to 255); its view is told as before."""
  blank = lambda index, record: record | {"image": np.full_like(record["image"], grey)}
  return Intervention(blank, np.ones(len(meta), bool))


def swapped_image(meta: Meta, source: Sequence[Any]) -> Intervention:
  """Another patient's film of the same view, which is read from the split itself."""
  others: dict[int, int] = {}
  for view in {record["view"] for record in meta}:
    owners = [i for i, record in enumerate(meta) if record["view"] == view]
    others |= _exchange(meta, owners)

  def edit(index: int, record: Record) -> Record:
    if index not in others:
      return record
    return record | {"image": loader.parse(source, others[index])["image"]}

  return Intervention(edit, np.array([i in others for i in range(len(meta))], bool))


def other_graph(
  meta: Meta, change: Callable[[str, Sequence[str], Any], Any]
) -> Intervention:
  """Other graphs, by `change`; the records stay."""
  same = lambda index, record: record
  return Intervention(same, np.ones(len(meta), bool), change)


def _replace(meta: Meta, changes: Sequence[Mapping[str, Any]]) -> Intervention:
  """Fields of each record by other values; it applies where one differs."""
  applies = [
    any(record[name] != value for name, value in change.items())
    for record, change in zip(meta, changes)
  ]
  edit = lambda index, record: record | changes[index]
  return Intervention(edit, np.array(applies, bool))


def _prior(meta: Meta, i: int, prior: int) -> dict[str, Any]:
  """What makes record `prior` the prior of record `i`."""
  if meta[i]["prior"] == prior:
    return {}
  view, report = meta[prior]["view"], meta[prior]["findings"]
  return {"prior": np.int64(prior), "prior_view": view, "prior_report": report}


def _exchange(meta: Meta, owners: Sequence[int]) -> dict[int, int]:
  """For each owner one of another patient, where there is any.

  The same exchange every time: a turn of the list by half, and on until the patient
  differs.
  """
  others = {}
  for place, i in enumerate(owners):
    for turn in range(len(owners)):
      other = owners[(place + len(owners) // 2 + turn) % len(owners)]
      if meta[other]["patient_id"] != meta[i]["patient_id"]:
        others[i] = other
        break
  return others


def _studies(meta: Meta) -> dict[str, dict[str, list[int]]]:
  """Patient -> study -> its films, all in the order of the split."""
  studies: dict = collections.defaultdict(dict)
  for i, record in enumerate(meta):
    studies[record["patient_id"]].setdefault(record["study_id"], []).append(i)
  return studies
