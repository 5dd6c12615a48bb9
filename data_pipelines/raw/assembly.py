"""Chosen studies, their priors and their films, as the records of splits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines.raw.priors import Prior
from data_pipelines.raw.studies import SPLITS, Film, Study

Record = dict[str, Any]


def assemble(
  kept: Sequence[Study],
  priors: Mapping[str, Prior],
  numbers: Mapping[str, int],
  target: Callable[[Study], str],
) -> tuple[dict[str, list[Record]], dict[str, int]]:
  """The records of each split, and how many of them are examples.

  One example a film of a kept study; `image` is its number in the store. A prior, by
  the id of the film that it is the prior of, is a film of the same split or else
  follows the examples, without a report. `target` is what shall be written of a study.
  """
  splits, counts = {}, {}
  for split in SPLITS:
    examples = [(s, film) for s in kept if s.split == split for film in s.films]
    if not examples:
      continue
    places = {film.id: place for place, (_, film) in enumerate(examples)}
    rows, behind = [], []
    for study, film in examples:
      prior = priors.get(film.id)
      if prior and prior.film.id not in places:
        places[prior.film.id] = len(examples) + len(behind)
        behind.append(_record(prior.study, prior.film, numbers))
      rows.append(
        _record(study, film, numbers)
        | _told(study, target)
        | (_prior(prior, places, target) if prior else {})
      )
    splits[split], counts[split] = rows + behind, len(rows)
  return splits, counts


def _record(study: Study, film: Film, numbers: Mapping[str, int]) -> Record:
  """A film as a record of which nothing is told."""
  return {
    "id": f"{study.patient_id}_{study.study_id}_{film.id}",
    "patient_id": study.patient_id,
    "study_id": study.study_id,
    "study_time": study.time,
    "view": film.view,
    "image": numbers[film.id],
    "prior": -1,
    **dict.fromkeys(("prior_view", "prior_report"), ""),
    **dict.fromkeys(("indication", "history", "findings", "impression"), ""),
    "labels": np.array(study.labels, np.int8),
    "truth": "",
  }


def _told(study: Study, target: Callable[[Study], str]) -> Record:
  parts = ("indication", "history", "impression")
  told = {part: study.sections.get(part, "") for part in parts}
  return told | {"findings": target(study)}


def _prior(
  prior: Prior, places: Mapping[str, int], target: Callable[[Study], str]
) -> Record:
  return {
    "prior": places[prior.film.id],
    "prior_view": prior.film.view,
    "prior_report": target(prior.study),
  }
