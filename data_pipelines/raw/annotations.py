"""The annotation files that papers publish, PriorRG's and R2Gen's, as studies.

Such a file has texts, splits and priors chosen already, but no dates, and images by
their paths only. It is read as it is: what its makers left out stays out.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from data_pipelines import records
from data_pipelines.raw import annotation_layouts as layouts
from data_pipelines.raw import studies
from data_pipelines.raw.priors import Prior

SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(
  ("val", "validate", "validation"), "validation"
)
DUPLICATE = "duplicate image id"
_SHOWN = 200  # Characters of a wrong file's keys that an error repeats.


@dataclasses.dataclass(frozen=True)
class Annotated:
  """The studies of an annotation file, and what only such a file decides."""

  download: studies.Download
  # By the id of the film that it is the prior of. The study of one that is not in the
  # file, or was dropped, has no split and only this film; that of one that is may lack
  # the film: as when it serves as a prior, but is no example.
  priors: Mapping[str, Prior]
  # Why a record is in no study, by its id; by its place, as "train[3]", where it has
  # none or shares it with an earlier record.
  dropped: Mapping[str, str]


def read(
  path: str | os.PathLike, image_root: str | os.PathLike, *, name: str
) -> Annotated:
  """The studies of an annotation file in the layout of PriorRG (and MLRG) or R2Gen.

  The whole file is in memory while it is read: several times its size. The other views
  of a study that MLRG calls auxiliary references are not read, as in PriorRG. A prior
  is used as given, even an odd one. No image is opened or looked for. Raises OSError
  for a file that cannot be read, ValueError for one of another kind.
  """
  entries = list(lists(path))
  parse = _layout(path, [record for _, _, record in entries])
  gathered = _Gathered()
  for place, split, record in entries:
    try:
      gathered.add(parse(record), split, place)
    except layouts.FaultError as fault:
      gathered.drop(fault, record, place)
  if not gathered.studies:
    first = "".join(
      f": {where}, {why}" for where, why in [*gathered.dropped.items()][:1]
    )
    raise ValueError(f"{path}: none of its {len(entries)} records can be used{first}")
  priors = gathered.priors()
  download = studies.Download(
    name,
    os.fspath(image_root),
    studies.in_order(list(gathered.studies.values())),
    tuple(gathered.oddities),
  )
  return Annotated(download, priors, gathered.dropped)


def lists(path: str | os.PathLike) -> Iterator[tuple[str, str, Any]]:
  """Every entry of a JSON file with a list a split: its place, its split, and itself.

  Raises OSError or ValueError, which names what was found, for a file of another kind.
  """
  found = _load(Path(path))
  if not isinstance(found, dict):
    raise ValueError(
      f"{path}: is a JSON {type(found).__name__}; expected an object with lists "
      "train, val and test"
    )
  keys = [key for key in found if key in SPLITS]
  if not keys:
    raise ValueError(
      f"{path}: has no lists train, val and test; its keys are {_shown(found)}"
    )
  for key in keys:
    if not isinstance(found[key], list):
      raise ValueError(
        f"{path}: {key!r} is a {type(found[key]).__name__}; expected a list"
      )
    for index, entry in enumerate(found[key]):
      yield f"{key}[{index}]", SPLITS[key], entry


def _load(path: Path) -> Any:
  try:
    with path.open(encoding="utf-8-sig") as file:
      return json.load(file)
  except OSError as error:
    raise type(error)(f"{path}: cannot be read ({error.strerror})") from None
  except json.JSONDecodeError as error:
    start = error.doc.lstrip()[:20]
    if start.startswith("version https://git"):
      problem = "is a Git LFS pointer, not the file itself: fetch it with git lfs pull"
    elif start.startswith("<"):
      problem = "is a web page, not JSON; was the download made signed in?"
    else:
      problem = f"is not JSON, or cut: line {error.lineno}, column {error.colno}"
    raise ValueError(f"{path}: {problem}") from None
  except (UnicodeDecodeError, RecursionError):
    raise ValueError(f"{path}: is not a JSON file in UTF-8") from None


def _layout(
  path: str | os.PathLike, found: Iterable[Any]
) -> Callable[[Any], layouts.Entry]:
  """What parses a record: told by the keys of all, as any one may be damaged."""
  keys = [record.keys() for record in found if isinstance(record, dict)]
  if any("anchor_scan" in names for names in keys):
    return layouts.parse_prior_rg
  if any({"report", "image_path"} <= names for names in keys):
    return layouts.parse_r2gen
  raise ValueError(
    f"{path}: has no record with anchor_scan (PriorRG), or report and image_path "
    f"(R2Gen); the keys of its first are {_shown(keys[0] if keys else ())}"
  )


def _shown(keys: Iterable[str]) -> str:
  return ", ".join(keys)[:_SHOWN] or "none"


class _Gathered:
  """Studies while their records come in, image by image."""

  def __init__(self):
    self.studies: dict[str, studies.Study] = {}
    self.dropped: dict[str, str] = {}
    self.oddities: list[studies.Oddity] = []
    self._homes: dict[str, str] = {}  # The study, by the path of a film and by its id.
    self._films: dict[str, studies.Film] = {}  # Likewise.
    self._references: dict[str, tuple[str, str, str]] = {}

  def odd(self, kind: str, where: str) -> None:
    self.oddities.append(studies.Oddity(kind, where))

  def drop(self, fault: layouts.FaultError, record: Any, place: str) -> None:
    """Leaves a record out and says why; a filter of the file's makers is not odd."""
    if fault.kind != layouts.NO_FACTS:
      self.odd(fault.kind, f"{place}.{fault.part}" if fault.part else place)
    own = record.get("id") if isinstance(record, dict) else None
    if fault.kind == DUPLICATE or not isinstance(own, str) or own in self.dropped:
      own = place
    self.dropped[own] = fault.kind

  def add(self, entry: layouts.Entry, split: str, place: str) -> None:
    """Joins a record to its study. Raises `FaultError` where that cannot be."""
    study = self.studies.get(entry.study_id)
    if study and study.patient_id != entry.patient_id:
      raise layouts.FaultError("study of two patients")
    if study and study.split != split:
      raise layouts.FaultError("study in two splits")
    scans = {scan.id: scan for scan in reversed(entry.scans)}
    fresh = [scan for scan in reversed(scans.values()) if scan.id not in self._films]
    if not fresh:
      raise layouts.FaultError(DUPLICATE)
    if len(fresh) < len(entry.scans):
      self.odd(DUPLICATE, place)
    if entry.outside:
      self.odd(layouts.OUTSIDE, f"{place}.{entry.outside}")
    films = []
    for scan in fresh:
      film = studies.Film(scan.id, scan.path, self._view(scan.view, scan.id))
      films.append(film)
      for key in (film.id, film.path):
        self._films.setdefault(key, film)
        self._homes.setdefault(key, entry.study_id)
      if entry.prior:
        self._references[film.id] = entry.prior
    if study is None:
      study = studies.Study(
        entry.patient_id, entry.study_id, (), split=split, sections=entry.sections
      )
    elif study.sections != entry.sections:
      self.odd("texts of a study differ", place)
    films = (*study.films, *films)
    self.studies[entry.study_id] = dataclasses.replace(study, films=films)

  def priors(self) -> dict[str, Prior]:
    """The priors that the file names, by the film that each is the prior of."""
    return {id_: self._prior(id_, *stated) for id_, stated in self._references.items()}

  def _prior(self, film_id: str, path: str, view: str, findings: str) -> Prior:
    of = self.studies[self._homes[film_id]]
    id_ = path if path in self._films else layouts.plain(PurePosixPath(path).stem)
    known = self._films.get(id_)
    # A path without a patient's folder says nothing of the patient.
    patient_id = layouts.folder(path, "p") or of.patient_id
    if known:
      film = dataclasses.replace(known, view=self._view(view, film_id))
      study = self.studies[self._homes[id_]]
    else:
      film = studies.Film(id_, path, self._view(view, film_id))
      study = self.studies.get(layouts.folder(path, "s")) or studies.Study(
        patient_id,
        layouts.folder(path, "s") or id_,
        (film,),
        sections={"findings": findings} if findings else {},
        has_report=bool(findings),
      )
    if film.id == film_id:
      self.odd("prior is the image itself", film_id)
    if {patient_id, study.patient_id} != {of.patient_id}:
      self.odd("prior of another patient", film_id)
    return Prior(study, film)

  def _view(self, stated: str | None, where: str) -> str:
    if stated in records.VIEWS:
      return stated
    if stated is not None:
      self.odd("unknown view", where)
    return "unk"
