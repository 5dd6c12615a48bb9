"""A fake download of MIMIC-CXR: every oddity in it is planted, and counted."""

import collections
import dataclasses
import datetime
import itertools
import pathlib

import numpy as np

import fake_films
import fake_reports
import fake_tables
from data_pipelines import records

SPLITS = {"train": "train", "validate": "validation", "test": "test"}
VIEWS = ("PA", "AP", "LATERAL", "LL", "AP AXIAL", "PA LLD")
# Each is planted in the same number of studies, no two in the same.
REPORTS = ("missing", "empty", "latin-1", "too large", "control characters")
FAULTS = (
  *(f"report {fault}" for fault in REPORTS),
  *(f"report {kind}" for kind in fake_reports.KINDS if kind),
  *("date missing", "date impossible", "time missing", "time impossible"),
  *("same second", "same day", "small hours"),
  *("view blank", "view strange", "only lateral", "only unknown view"),
  *(f"film {kind}" for kind in fake_films.KINDS),
  *("no film readable", "image twice"),
  *("split missing", "split unknown", "split damaged", "another split"),
  *("labels missing", "labels damaged", "study without images"),
)


@dataclasses.dataclass
class Film:
  """An image: its view as it is written, its split too, and what its file holds."""

  id: str
  view: str
  split: str
  kind: str = "good"


@dataclasses.dataclass
class Study:
  """A study as the tables have it; `stamp` is None where its date or time is none."""

  patient: str
  id: str
  date: str
  time: str
  stamp: datetime.datetime | None
  films: list[Film]
  fault: str = ""
  findings: str = ""

  @property
  def folder(self) -> str:
    return f"files/p{self.patient[:2]}/p{self.patient}/s{self.id}"

  @property
  def split(self) -> str:
    """As a reader names it: that of the first film that has one."""
    return next((SPLITS[f.split] for f in self.films if f.split in SPLITS), "")

  def is_prior(self, views) -> bool:
    """Whether a film of it can be read and has one of the views as it is written."""
    shown = (film.view if film.view in records.VIEWS else "unk" for film in self.films)
    return any(
      view in views and film.kind not in fake_films.UNREADABLE
      for view, film in zip(shown, self.films)
    )


@dataclasses.dataclass
class Truth:
  """What a reader has to find, exactly. Studies and films are named by their ids."""

  studies: int  # With films; fewer than were asked for, where oddities are planted.
  films: int
  studies_by_split: dict[str, int]  # "" where a study has none.
  with_findings: dict[str, int]  # By split.
  oddities: dict[str, int]  # By kind.
  damaged: tuple[str, ...]  # Films that cannot be read, missing ones among them.
  missing: tuple[str, ...]  # Films without a file.
  findings: dict[str, str]  # By study, white space made one; empty if none.
  times: dict[str, str]  # By study, ISO 8601 or empty.
  # The latest study strictly before, with a readable film of a usable view; of several
  # in one second, that with the highest id. Empty where there is none.
  priors: dict[str, str]
  priors_by_id: dict[str, str]  # The study of the next lower id with such a film.
  reversals: int  # Priors by id, both dated, that are not before their study.


def build(
  root,
  studies: int = 2000,
  seed: int = 0,
  layout: str = "jpg",
  *,
  image_size: tuple[int, int] = (80, 64),
  usable_views=("PA", "AP", "LATERAL", "LL"),
  zipped_reports: bool = False,
  gzipped: bool = True,
  with_metadata: bool = True,
) -> Truth:
  """Writes a download of so many studies; layout is jpg or dicom, size height, width.

  Of DICOM, `with_metadata=False` leaves out the tables of MIMIC-CXR-JPG.
  """
  root = pathlib.Path(root)
  rng = np.random.default_rng(seed)
  made = _studies(rng, studies)
  if studies >= 3 * len(FAULTS):
    _plant(rng, made, max(1, studies // 250))
  odd = collections.Counter()
  _write_films(root, made, fake_films.contents(layout, image_size), layout)
  fake_reports.write(root, rng, made, zipped_reports, odd)
  write = lambda name, rows: fake_tables.write(root / name, rows, gzipped)
  shown = [study for study in made if study.films]
  odd["study without images"] = len(made) - len(shown)
  planted = any(study.fault for study in made)
  if layout == "dicom":
    write("cxr-record-list.csv", fake_tables.images(shown, layout, planted, odd))
    write("cxr-study-list.csv", fake_tables.listed(made))
  if layout == "jpg" or with_metadata:
    metadata = fake_tables.images(shown, "jpg", planted and layout == "jpg", odd)
    write("mimic-cxr-2.0.0-metadata.csv", metadata)
    write("mimic-cxr-2.0.0-split.csv", fake_tables.split(shown, planted, odd))
    write("mimic-cxr-2.0.0-chexpert.csv", fake_tables.labels(rng, shown, planted, odd))
    fake_tables.count_stated(shown, odd)
  else:
    _forget(shown, odd)
  return _truth(shown, +odd, usable_views)


def _forget(made: list[Study], odd) -> None:
  """All that only the tables of MIMIC-CXR-JPG tell."""
  odd.update(("no metadata", "no splits", "no labels"))
  for study in made:
    study.stamp = None
    for film in study.films:
      film.view = film.split = ""


def _truth(made: list[Study], odd, usable_views) -> Truth:
  films = [film for study in made for film in study.films]
  splits = {study.id: study.split for study in made}
  damaged = [film for film in films if film.kind in fake_films.UNREADABLE]
  by_time, by_id, reversals = {}, {}, 0
  patients = collections.defaultdict(list)
  for study in made:
    patients[study.patient].append(study)
  for study in made:
    others = [s for s in patients[study.patient] if s.is_prior(usable_views)]
    before = [s for s in others if s.stamp and study.stamp and s.stamp < study.stamp]
    lower = [s for s in others if int(s.id) < int(study.id)]
    prior = max(before, key=lambda s: (s.stamp, int(s.id)), default=None)
    below = max(lower, key=lambda s: int(s.id), default=None)
    by_time[study.id] = prior.id if prior else ""
    by_id[study.id] = below.id if below else ""
    if below and below.stamp and study.stamp:
      reversals += below.stamp >= study.stamp
  return Truth(
    studies=len(made),
    films=len(films),
    studies_by_split=dict(collections.Counter(splits.values())),
    with_findings=dict(collections.Counter(splits[s.id] for s in made if s.findings)),
    oddities=dict(odd),
    damaged=tuple(film.id for film in damaged),
    missing=tuple(film.id for film in damaged if film.kind == "missing"),
    findings={study.id: study.findings for study in made},
    times={s.id: s.stamp.isoformat() if s.stamp else "" for s in made},
    priors=by_time,
    priors_by_id=by_id,
    reversals=reversals,
  )


def _studies(rng, count: int) -> list[Study]:
  """Patients of one to six studies, whose ids know nothing of their dates."""
  ids = rng.choice(10**7, count, replace=False) + 5 * 10**7
  groups = rng.choice(10, count // 50 + 2)  # So that patients share few folders.
  made = []
  while len(made) < count:
    number = len(made)
    patient = f"1{groups[number % len(groups)]}{number:06d}"
    split = rng.choice(tuple(SPLITS), p=(0.8, 0.1, 0.1)).item()
    moment = datetime.datetime(2110, 1, 1) + datetime.timedelta(
      days=int(rng.integers(30000)), seconds=int(rng.integers(86400))
    )
    for study_id in ids[number : number + rng.integers(1, 7)]:
      # At least an hour: no two of a patient in one second, but those planted.
      moment += datetime.timedelta(seconds=int(rng.integers(3600, 10**7)))
      views = rng.choice(VIEWS, rng.integers(1, 4), p=(0.3, 0.3, 0.25, 0.1, 0.03, 0.02))
      films = [
        Film("-".join(f"{rng.integers(2**32):08x}" for _ in range(5)), str(view), split)
        for view in views
      ]
      made.append(_dated(Study(patient, str(study_id), "", "", None, films), moment))
  return made


def _dated(study: Study, moment: datetime.datetime) -> Study:
  """The study with its date and time as the tables write them: numbers."""
  study.stamp = moment
  study.date = f"{moment:%Y%m%d}"
  study.time = f"{int(f'{moment:%H%M%S}')}.{moment.second % 10}"
  return study


def _plant(rng, made: list[Study], times: int) -> None:
  order = [made[i] for i in rng.permutation(len(made))]
  earlier = {b.id: a for a, b in itertools.pairwise(made) if a.patient == b.patient}
  # One that another study of the patient is before, which stays as it was made.
  follows = lambda s: s.id in earlier and not earlier[s.id].fault
  for fault in [fault for fault in FAULTS for _ in range(times)]:
    related = fault in ("same second", "same day", "another split")
    free = (study for study in order if not study.fault)
    study = next(filter(follows, free) if related else free)
    study.fault = fault
    if related:
      earlier[study.id].fault = "kept as it is"
    _spoil(study, fault, earlier.get(study.id))


def _spoil(study: Study, fault: str, earlier: Study | None) -> None:
  films = study.films
  what, _, kind = fault.partition(" ")
  written = {"missing": "", "impossible": "21801332" if what == "date" else "246100.5"}
  match fault:
    case "date missing" | "date impossible" | "time missing" | "time impossible":
      setattr(study, what, written[kind])
      study.stamp = None
    case "same second":
      _dated(study, earlier.stamp)
    case "same day":
      clock = datetime.time(23, 59, 59)
      _dated(study, datetime.datetime.combine(earlier.stamp.date(), clock))
    case "small hours":
      _dated(study, study.stamp.replace(hour=0, minute=0, second=7))
    case "view blank" | "view strange":
      films[0].view = "" if kind == "blank" else "SWIMMERS"
    case "only lateral" | "only unknown view":
      for film in films:
        film.view = "LATERAL" if kind == "lateral" else ""
    case "no film readable":
      for film, kind in zip(films, ("truncated", "empty", "missing")):
        film.kind = kind
    case "split missing" | "split unknown" | "split damaged":
      for film in films[: None if kind == "missing" else 1]:
        film.split = {"missing": "", "unknown": "holdout"}.get(kind, kind)
    case "another split":
      other = "test" if films[0].split != "test" else "train"
      for film in films:
        film.split = other
    case "study without images":
      films.clear()
    case _ if what == "film":
      films[0].kind = kind


def _write_films(root, made: list[Study], contents, layout: str) -> None:
  for number, study in enumerate(made):
    if study.films:
      (root / study.folder).mkdir(parents=True)
    for film in study.films:
      if film.kind != "missing":
        choice = contents[film.kind]
        path = root / study.folder / f"{film.id}.{'jpg' if layout == 'jpg' else 'dcm'}"
        path.write_bytes(choice[number % len(choice)])
