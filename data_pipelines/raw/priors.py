"""Which earlier film is a film's prior, and whether it is earlier at all."""

import bisect
import collections
import dataclasses
import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from data_pipelines.raw.studies import Film, Study

# By time, or by the study's number as published: numbers that are random in MIMIC-CXR.
ORDERS = ("time", "study_id")
GIVEN = "given"  # By whoever made an annotation file: then nothing is linked here.


@dataclasses.dataclass(frozen=True)
class Prior:
  """A film of another study of the same patient, which a film is compared with."""

  study: Study
  film: Film
  gap_days: float | None = None  # From the prior on; None where either has no time.


@dataclasses.dataclass(frozen=True)
class Check:
  """Of how many studies the prior is earlier, of which it is not, and of which unknown.

  It is earlier where its time is strictly less, and unknown where either has no time.
  """

  earlier: int
  not_earlier: Sequence[str]
  unknown: Sequence[str]


def link(
  studies: Iterable[Study],
  *,
  order: str,
  views: Sequence[str],
  unreadable: Collection[str] = (),
) -> dict[str, Prior]:
  """The prior of each film that has one, by the film's id.

  Its study is the latest strictly before, by time or by number, that has a readable
  film of one of `views`; of several in one second, that with the highest number. Of its
  films it is the first with the view of the current one, else with the first of `views`
  that there is. `studies` are all of a download: one without a report is a prior, too.
  """
  if order not in ORDERS:
    raise ValueError(f"priors are by {' or '.join(ORDERS)}, not {order!r}")
  of_patients = collections.defaultdict(list)
  for study in studies:
    of_patients[study.patient_id].append(study)
  ranks = {view: rank for rank, view in enumerate(views)}
  links = {}
  for own in of_patients.values():
    if len(own) > 1:
      for study, earlier in _pairs(own, order, ranks, unreadable):
        usable = _usable(earlier, ranks, unreadable)
        gap = gap_days(earlier, study)
        for film in study.films:
          links[film.id] = Prior(earlier, _like(film, usable), gap)
  return links


def gap_days(earlier: Study, later: Study) -> float | None:
  """Days from one study to the other; negative where it is none the earlier."""
  if not earlier.time or not later.time:
    return None
  start, end = map(datetime.datetime.fromisoformat, (earlier.time, later.time))
  return (end - start).total_seconds() / 86400


def check(studies: Iterable[Study], links: Mapping[str, Prior]) -> Check:
  """Whether the priors of studies are earlier than they are."""
  earlier, not_earlier, unknown = 0, [], []
  for study in studies:
    found = [links[film.id].study for film in study.films if film.id in links]
    if not found:
      continue
    if not study.time or not all(prior.time for prior in found):
      unknown.append(study.study_id)
    elif all(prior.time < study.time for prior in found):
      earlier += 1
    else:
      not_earlier.append(study.study_id)
  return Check(earlier, not_earlier, unknown)


def _pairs(
  own: Sequence[Study],
  order: str,
  ranks: Mapping[str, int],
  unreadable: Collection[str],
) -> Iterator[tuple[Study, Study]]:
  """The studies of a patient that have a prior, each with it."""
  is_timed = order == "time"
  # Times of one form sort as text.
  place = (lambda s: s.time) if is_timed else _number
  known = [study for study in own if study.time or not is_timed]
  able = [study for study in known if _usable(study, ranks, unreadable)]
  able.sort(key=lambda study: (place(study), _number(study)))
  places = [place(study) for study in able]
  for study in known:
    before = bisect.bisect_left(places, place(study))
    if before:
      yield study, able[before - 1]


def _number(study: Study) -> tuple[int, str]:
  """What sorts ids as the numbers they are, whatever may stand before these."""
  return len(study.study_id), study.study_id


def _usable(
  study: Study, ranks: Mapping[str, int], unreadable: Collection[str]
) -> list[Film]:
  """The films that may be a prior, best first."""
  films = [f for f in study.films if f.view in ranks and f.id not in unreadable]
  return sorted(films, key=lambda film: ranks[film.view])


def _like(film: Film, usable: Sequence[Film]) -> Film:
  return next((other for other in usable if other.view == film.view), usable[0])
