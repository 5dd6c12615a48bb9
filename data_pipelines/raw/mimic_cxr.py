"""MIMIC-CXR as PhysioNet gives it out: JPG or DICOM, with its tables and reports."""

import dataclasses
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from data_pipelines import records, sections
from data_pipelines.raw import stamps, studies, texts
from data_pipelines.raw.tables import DAMAGED, find, rows, search

LABELERS = ("chexpert", "negbio")
SPLITS = {"train": "train", "validate": "validation", "test": "test"}
METADATA, SPLIT = "mimic-cxr-*metadata.csv", "mimic-cxr-*split.csv"
RECORDS, STUDIES = "cxr-record-list.csv", "cxr-study-list.csv"

OUTSIDE = "path outside the root"
NO_STUDY = "image without study"

_IDS = ("subject_id", "study_id", "dicom_id")
_STATED = ("ViewPosition", "StudyDate", "StudyTime")
_LABELS = {"": records.UNMENTIONED} | {
  text: value
  for value in (records.PRESENT, records.ABSENT, records.UNCERTAIN)
  for text in (f"{value}.0", str(value))
}
_NUMBER = re.compile(r"[0-9]{3,}")
_IMAGE = re.compile(r"[0-9A-Za-z.-]+")

Key = tuple[str, str]  # Patient and study.
Progress = Callable[[Iterable, int, str, str], Iterable]
Oddities = list[studies.Oddity]


@dataclasses.dataclass(slots=True)
class _Gathered:
  """A study while its films come in; date and time are those of its first film."""

  date: str
  time: str
  split: str = ""
  films: list[studies.Film] = dataclasses.field(default_factory=list)


def read(
  root: str | os.PathLike,
  *,
  reports: str | os.PathLike | None = None,
  tables: str | os.PathLike | None = None,
  labels: str = "chexpert",
  section_reader: Callable[[str], Mapping[str, str]] = sections.read,
  progress: Progress = lambda items, total, name, unit: items,
) -> studies.Download:
  """All studies of the download in `root`, which holds files/, and what is odd of it.

  With cxr-record-list.csv in it the images are DICOM files, else JPEG. `reports` is
  mimic-cxr-reports.zip or its unpacked folder, else looked for in `root`; `tables` is
  the folder of MIMIC-CXR-JPG's tables where `root` has none. `progress` wraps the loop
  over reports and is told how many, what is done, and of what. No image is opened or
  looked for. Raises OSError where a file is missing, ValueError where one is damaged.
  """
  if labels not in LABELERS:
    raise ValueError(f"labels are of {' or '.join(LABELERS)}, not {labels!r}")
  root, folder = Path(root), Path(tables or root)
  oddities = []
  record_list, metadata = _sources(root, folder)
  reports = Path(reports) if reports else _reports(root)
  if record_list is None:
    images = rows(metadata, _IDS + _STATED, oddities)
  else:
    images = _recorded(record_list, metadata, oddities)
  gathered = _gather(images, _splits(folder, oddities), metadata is None, oddities)
  if not gathered:
    raise ValueError(f"{record_list or metadata}: names no image that could be used")
  known = _labels(folder, labels, gathered, oddities)
  found = []
  with texts.Reports(reports, oddities) as opened:
    keys = sorted(gathered)
    for patient_id, study_id in progress(keys, len(keys), "reports", "report"):
      entry = gathered[patient_id, study_id]
      text = opened.read(patient_id, study_id)
      if text is None:
        oddities.append(studies.Oddity("report missing", study_id))
      study = studies.Study(
        patient_id,
        study_id,
        films=tuple(entry.films),
        time=_time(entry, study_id, oddities) if metadata else "",
        split=entry.split,
        sections={k: v for k, v in section_reader(text).items() if v} if text else {},
        has_report=bool(text),
        labels=known.get((patient_id, study_id), studies.NO_LABELS),
      )
      found.append(study)
    others = _listed(root, oddities).union(opened.keys()) - gathered.keys()
  oddities += [studies.Oddity("study without images", s) for _, s in sorted(others)]
  return studies.Download(
    "mimic_cxr", str(root), studies.in_order(found), tuple(oddities)
  )


def _sources(root: Path, folder: Path) -> tuple[Path | None, Path | None]:
  """The list of DICOM files and the table of metadata; one of them may be None."""
  record_list = search(root, RECORDS) or search(folder, RECORDS)
  if record_list is None:
    metadata = find(folder, METADATA, "table of images")
  else:
    metadata = search(folder, METADATA)
  if not (root / "files").is_dir():
    raise FileNotFoundError(
      f"{root}: has no folder files/, in which the images are expected as "
      f"{texts.EXAMPLE.removesuffix('.txt')}/*{'.dcm' if record_list else '.jpg'}"
    )
  return record_list, metadata


def _reports(root: Path) -> Path:
  archive = root / "mimic-cxr-reports.zip"
  if archive.exists():
    return archive
  for folder in (root / "mimic-cxr-reports", root):
    if texts.has_reports(folder):
      return folder
  raise FileNotFoundError(
    f"{root}: has no reports: {archive.name} was expected in it, or {texts.EXAMPLE} "
    "and its like; they come with MIMIC-CXR, not with MIMIC-CXR-JPG: say where they are"
  )


def _recorded(
  record_list: Path, metadata: Path | None, oddities: Oddities
) -> Iterator[dict[str, str]]:
  """The rows of the list of DICOM files, with what the metadata state of them."""
  stated = {}
  if metadata is None:
    oddities.append(studies.Oddity("no metadata", METADATA))
  else:
    for row in rows(metadata, ("dicom_id", *_STATED), oddities):
      values = tuple(sys.intern(row[column]) for column in _STATED)
      stated.setdefault(row["dicom_id"], values)
  listed = set()
  for row in rows(record_list, (*_IDS, "path"), oddities):
    listed.add(row["dicom_id"])
    values = stated.get(row["dicom_id"], ("", "", ""))
    yield row | dict(zip(_STATED, values))
  for dicom_id in sorted(stated.keys() - listed):
    oddities.append(studies.Oddity(NO_STUDY, dicom_id))


def _gather(
  images: Iterable[dict[str, str]],
  splits: dict[str, str] | None,
  plain: bool,
  oddities: Oddities,
) -> dict[Key, _Gathered]:
  """The studies by patient and id; `plain` if there are no metadata to be missed."""
  odd = lambda kind, where: oddities.append(studies.Oddity(kind, where))
  gathered, seen, owners = {}, set(), {}
  homes = {}  # The splits by patient.
  for row in images:
    patient_id, study_id, dicom_id = (row[column] for column in _IDS)
    fault = _fault(row)
    if not fault and dicom_id in seen:
      fault = "duplicate image id"
    if not fault and owners.setdefault(study_id, patient_id) != patient_id:
      fault = "study of two patients"
    seen.add(dicom_id)
    if fault:
      odd(fault, dicom_id or study_id or patient_id or "a row without ids")
      continue
    view = row["ViewPosition"]
    if view not in records.VIEWS:
      view = "unk"
      if not plain:
        odd("unknown view", dicom_id)
    key = patient_id, study_id
    entry = gathered.get(key)
    if entry is None:
      entry = gathered[key] = _Gathered(row["StudyDate"], row["StudyTime"])
    entry.films.append(studies.Film(dicom_id, _path(row), sys.intern(view)))
    if splits is not None:
      split = _split(dicom_id, splits, oddities)
      entry.split = entry.split or split
      homes.setdefault(patient_id, set()).add(split)
  for dicom_id in sorted((splits or {}).keys() - seen):
    odd(NO_STUDY, dicom_id)
  for patient_id, found in homes.items():
    if len(found - {""}) > 1:
      odd("patient in two splits", patient_id)
  return gathered


def _fault(row: dict[str, str]) -> str:
  """Why a row names no image of a study, or nothing."""
  ids = [row[column] for column in _IDS]
  path = row.get("path", "")
  if path.startswith("/") or ".." in path.split("/"):
    return OUTSIDE
  if any("/" in text or "\\" in text or ".." in text for text in ids):
    return OUTSIDE
  if not ids[0] or not ids[1]:
    return NO_STUDY
  numbers = all(_NUMBER.fullmatch(text) for text in ids[:2])
  named = _IMAGE.fullmatch(ids[2]) and row.get("path") != ""
  return "" if numbers and named else DAMAGED


def _path(row: dict[str, str]) -> str:
  if "path" in row:
    return row["path"]
  patient_id, study_id, dicom_id = (row[column] for column in _IDS)
  return f"files/p{patient_id[:2]}/p{patient_id}/s{study_id}/{dicom_id}.jpg"


def _splits(folder: Path, oddities: Oddities) -> dict[str, str] | None:
  """The split of each image as it is written; None where there is no such table."""
  path = search(folder, SPLIT)
  if path is None:
    oddities.append(studies.Oddity("no splits", SPLIT))
    return None
  found = {}
  for row in rows(path, ("dicom_id", "split"), oddities):
    found.setdefault(row["dicom_id"], sys.intern(row["split"]))
  return found


def _split(dicom_id: str, splits: dict[str, str], oddities: Oddities) -> str:
  written = splits.get(dicom_id, "")
  if written in SPLITS:
    return SPLITS[written]
  kind = "split unknown" if written else "split missing"
  oddities.append(studies.Oddity(kind, dicom_id))
  return ""


def _labels(
  folder: Path, labeler: str, gathered: Mapping[Key, _Gathered], oddities: Oddities
) -> dict[Key, tuple[int, ...]]:
  path = search(folder, f"mimic-cxr-*{labeler}.csv")
  if path is None:
    oddities.append(studies.Oddity("no labels", f"mimic-cxr-*{labeler}.csv"))
    return {}
  found, shared = {}, {}  # Most rows are like others: they share a tuple.
  for row in rows(path, (*_IDS[:2], *records.LABELS), oddities):
    key = row["subject_id"], row["study_id"]
    if key not in gathered:
      oddities.append(studies.Oddity("labels without study", key[1]))
      continue
    try:
      values = tuple(_LABELS[row[label]] for label in records.LABELS)
    except KeyError:
      oddities.append(studies.Oddity(DAMAGED, f"{path.name}: study {key[1]}"))
      continue
    found[key] = shared.setdefault(values, values)
  for _, study_id in sorted(gathered.keys() - found.keys()):
    oddities.append(studies.Oddity("labels missing", study_id))
  return found


def _listed(root: Path, oddities: Oddities) -> set[Key]:
  """The studies of MIMIC-CXR's list of studies, if it is there."""
  path = search(root, STUDIES)
  if path is None:
    return set()
  return {tuple(row.values()) for row in rows(path, _IDS[:2], oddities)}


def _time(entry: _Gathered, study_id: str, oddities: Oddities) -> str:
  """Date and time of a study in ISO 8601; empty, and odd, where there is none."""
  try:
    return stamps.iso(entry.date, entry.time)
  except ValueError as error:
    oddities.append(studies.Oddity(str(error), study_id))
    return ""
