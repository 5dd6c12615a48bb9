"""Which studies and films of a download become examples, and why the others do not."""

import collections
import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from data_pipelines import history, records
from data_pipelines.raw import priors, splits
from data_pipelines.raw.studies import SPLITS, Download, Film, Study

SECTIONS = (
  *("findings", "impression", "indication"),
  *("history", "comparison", "technique"),
)
NO_REPORT, NO_FILM, NO_VIEW = "no report", "no film", "no usable view"
UNREADABLE, NO_SPLIT = "no readable film", "no split"
LEAK, TWO_SPLITS = "history tells the findings", "patient in two splits"
FILMS = ("all", "anchor")
UNSPLIT = ""  # The split of a study that has none, or none yet.


@dataclasses.dataclass(frozen=True)
class Rules:
  """What a study needs to be chosen, and what is taken of it."""

  name: str
  views: tuple[str, ...]  # Of a film that can be used; best first.
  split: str  # One of splits.KINDS.
  required: str = "findings"  # The section that has to be there.
  sections: tuple[str, ...] = ("findings",)  # What is to be written, in this order.
  min_words: int = 1  # Of what is to be written.
  films: str = "all"  # One of FILMS; the anchor of a study has its best view.
  exact_films: int | None = None  # How many a study has, none of them unusable.
  prior_order: str = "time"  # One of priors.ORDERS, or priors.GIVEN.

  def __post_init__(self):
    for name, given, known in (
      ("views", self.views, records.VIEWS),
      ("sections", self.sections, SECTIONS),
      ("required", (self.required,), SECTIONS),
      ("split", (self.split,), splits.KINDS),
      ("films", (self.films,), FILMS),
      ("prior_order", (self.prior_order,), (*priors.ORDERS, priors.GIVEN)),
    ):
      if not given or not set(given) <= set(known):
        raise ValueError(
          f"{name} of the rules {self.name}: {', '.join(given) or 'nothing'}; known "
          f"are {', '.join(known)}"
        )

  def target(self, study: Study) -> str:
    """What is to be written of a study; empty where it has none of the sections."""
    told = (study.sections.get(section, "").strip() for section in self.sections)
    return " ".join(text for text in told if text)


_FRONTAL_AND_LATERAL = ("PA", "AP", "LATERAL", "LL")

# What published splits did, as far as it is known. What `ours` does beyond: a target of
# one or two words ("As above.") is none, and priors are earlier.
PRESETS: Mapping[str, Mapping[str, Rules]] = {
  "mimic_cxr": {
    "ours": Rules("ours", _FRONTAL_AND_LATERAL, "official", min_words=3),
    # The official split, every image an example, findings only. How its annotation file
    # was filtered beyond that was never published; it has 3,858 test images. It has no
    # priors.
    "r2gen": Rules("r2gen", records.VIEWS, "official"),
    # R2Gen's images but for the studies without a "factual serialization", a list of
    # facts by RadGraph that only the published file holds: 3,852 test images remain
    # there, and here all do. Priors are those of its predecessor MLRG, by the number
    # of the study.
    "priorrg": Rules("priorrg", records.VIEWS, "official", prior_order="study_id"),
    # Studies with findings and a film in one of three views; its own split.
    "nguyen": Rules("nguyen", ("PA", "AP", "LATERAL"), "nguyen_mimic"),
  },
  # Open-I has neither patients nor dates: a study is its patient's only one.
  "iu_xray": {
    "ours": Rules("ours", records.VIEWS, "nguyen_open_i", min_words=3),
    # Studies of two films with findings; by this rule Open-I has 2,790, and R2Gen's
    # annotation file, of which it is recalled, has 2,955.
    "r2gen": Rules("r2gen", records.VIEWS, "r2gen_open_i", exact_films=2),
    # 3,337 studies with findings and a film. Published targets were impression and
    # findings, cleaned by an earlier project's code, which is not known.
    "nguyen": Rules(
      *("nguyen", records.VIEWS, "nguyen_open_i"), sections=("impression", "findings")
    ),
  },
  "mimic_abn": {
    # Its list states the splits. Half of the test films are lateral.
    "ours": Rules("ours", records.VIEWS, "official"),
  },
}


def changed(rules: Rules, fields: Mapping[str, Any]) -> Rules:
  """The rules with other values of some fields, and a name that tells which."""
  told = (
    f"-{field}-{'-'.join(map(str, value)) if isinstance(value, tuple) else value}"
    for field, value in fields.items()
  )
  name = rules.name + "".join(told).replace(" ", "")
  return dataclasses.replace(rules, **fields, name=name)


@dataclasses.dataclass(frozen=True)
class Step:
  """What was left after a filter: studies and films by split."""

  name: str  # What is left.
  studies: Mapping[str, int]
  films: Mapping[str, int]
  dropped: Mapping[str, int]  # Studies that it took, by the reason.


@dataclasses.dataclass(frozen=True)
class Choice:
  """The studies that are kept, with split and usable films, and why others are not."""

  kept: Sequence[Study]
  dropped: Mapping[str, str]  # The one reason by study.
  steps: Sequence[Step]


def preset(dataset: str, name: str) -> Rules:
  """The rules of a data set by name; raises ValueError that says which there are."""
  if name not in PRESETS[dataset]:
    known = ", ".join(PRESETS[dataset])
    raise ValueError(f"{dataset} has no preset {name!r}; known: {known}")
  return PRESETS[dataset][name]


def choose(
  download: Download, rules: Rules, unreadable: Collection[str] = ()
) -> Choice:
  """The studies of a download that the rules keep, in its order.

  `unreadable` are ids of films. They cost a study its place, but change no other's
  split: the splits that are drawn are drawn from the studies that the tables allow.
  """
  is_stated = rules.split == "official"
  sieve = _Sieve(download.studies if is_stated else _with_splits(download.studies, {}))
  sieve.step("with a report", lambda s: "" if s.has_report else NO_REPORT)
  sieve.step(f"with {rules.required}", lambda s: _text_fault(s, rules))
  sieve.step("with a film", lambda s: "" if s.films else NO_FILM)
  counts = {study.study_id: len(study.films) for study in sieve.left}
  sieve.only_films(lambda film: film.view in rules.views)
  sieve.step("with a usable view", lambda s: "" if s.films else NO_VIEW)
  if rules.exact_films is not None:
    name = f"exactly {rules.exact_films} films"
    is_exact = lambda s: counts[s.study_id] == len(s.films) == rules.exact_films
    sieve.step(f"with {name}", lambda s: "" if is_exact(s) else f"not {name}")
  sieve.left = _with_splits(sieve.left, splits.KINDS[rules.split](sieve.left))
  sieve.step("in a split", lambda s: "" if s.split in SPLITS else NO_SPLIT)
  sieve.only_films(lambda film: film.id not in unreadable)
  if rules.films == "anchor":
    sieve.left = [_anchored(study, rules.views) for study in sieve.left]
  sieve.step("with readable films", lambda s: _film_fault(s, rules))
  leak = lambda s: LEAK if _leaks(s, rules) else ""
  sieve.step("whose history keeps the findings", leak)
  homes = splits.straddling(sieve.left)
  # What a model is judged by stays whole; training gives way.
  last = {patient: max(found, key=SPLITS.index) for patient, found in homes.items()}
  fault = lambda s: TWO_SPLITS if last.get(s.patient_id, s.split) != s.split else ""
  sieve.step("with a patient of one split", fault)
  return Choice(sieve.left, sieve.dropped, sieve.steps)


class _Sieve:
  """The studies that are left, and an account of the others."""

  def __init__(self, studies: Sequence[Study]):
    self.left, self.dropped = list(studies), {}
    self.steps = []
    self._count("in the download", {})

  def only_films(self, keeps: Callable[[Film], bool]) -> None:
    """Takes from the studies the films that are not to be kept."""
    self.left = [
      study
      if all(map(keeps, study.films))
      else dataclasses.replace(study, films=tuple(filter(keeps, study.films)))
      for study in self.left
    ]

  def step(self, name: str, fault: Callable[[Study], str]) -> None:
    """Drops the studies of which a fault is told."""
    left, reasons = [], collections.Counter()
    for study in self.left:
      if reason := fault(study):
        self.dropped[study.study_id] = reason
        reasons[reason] += 1
      else:
        left.append(study)
    self.left = left
    self._count(name, dict(reasons))

  def _count(self, name: str, reasons: Mapping[str, int]) -> None:
    counts, films = collections.Counter(), collections.Counter()
    for study in self.left:
      counts[study.split] += 1
      films[study.split] += len(study.films)
    self.steps.append(Step(name, dict(counts), dict(films), reasons))


def _with_splits(studies: Iterable[Study], drawn: splits.Splits) -> list[Study]:
  split = lambda study: drawn.get(study.study_id, UNSPLIT)
  return [dataclasses.replace(study, split=split(study)) for study in studies]


def _text_fault(study: Study, rules: Rules) -> str:
  if not study.sections.get(rules.required, "").strip():
    return f"no {rules.required}"
  if len(rules.target(study).split()) < rules.min_words:
    return f"{' and '.join(rules.sections)} too short"
  return ""


def _film_fault(study: Study, rules: Rules) -> str:
  if not study.films:
    return UNREADABLE
  if rules.exact_films is not None and len(study.films) != rules.exact_films:
    return f"not exactly {rules.exact_films} films"
  return ""


def _leaks(study: Study, rules: Rules) -> bool:
  parts = {part: study.sections.get(part, "") for part in ("indication", "history")}
  try:
    history.check_leak(history.history_of(parts), rules.target(study), study.study_id)
  except ValueError:
    return True
  return False


def _anchored(study: Study, views: Sequence[str]) -> Study:
  films = sorted(study.films, key=lambda film: views.index(film.view))
  return dataclasses.replace(study, films=tuple(films[:1]))
