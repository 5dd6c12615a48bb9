"""The records of published annotation files: two layouts, one kind of entry."""

import dataclasses
import re
from pathlib import PurePosixPath
from typing import Any

DAMAGED = "record damaged"
OUTSIDE = "path outside the root"
NO_FACTS = "no factual serialization"

_OPTIONAL = {  # By section, the keys that may hold it: the first that is there does.
  "indication": ("indication_pure", "indication"),
  "history": ("history_pure", "history"),
  "impression": ("impression",),
  "comparison": ("comparison",),
}


class FaultError(Exception):
  """Why a record is dropped, and the part of it that is at fault if it is not all."""

  def __init__(self, kind: str, part: str = ""):
    super().__init__(kind)
    self.kind, self.part = kind, part


@dataclasses.dataclass(frozen=True)
class Scan:
  """An image as a record states it; `view` is None in files without views."""

  id: str
  path: str
  view: str | None


@dataclasses.dataclass(frozen=True)
class Entry:
  """A record without a fault of its own."""

  patient_id: str
  study_id: str
  scans: list[Scan]
  sections: dict[str, str]
  prior: tuple[str, str, str] | None = None  # Path, view and findings; "" if unstated.
  outside: str = ""  # The part left out, a prior, as its path leaves the root.


def parse_prior_rg(record: Any) -> Entry:
  """A record of PriorRG's or MLRG's file: one image, and the text of its study.

  Raises `FaultError` where it is to be dropped, also because the published loader does.
  """
  ids = _id(record, "subject_id"), _id(record, "study_id")
  path = _path(_first(record, "anchor_scan.image_path"), "anchor_scan.image_path")
  scan = Scan(_id(record, "id"), path, _view(record["anchor_scan"]))
  sections = {"findings": _part(record, "findings", str).strip()}
  for section, keys in _OPTIONAL.items():
    key = next((key for key in keys if key in record), keys[0])
    sections[section] = _optional(record, key)
  sections = {section: text for section, text in sections.items() if text}
  prior, outside = None, ""
  if record.get("prior_study") and _part(record, "prior_study", dict):
    place = "prior_study.latest_study"
    latest = _part(record, place, dict)
    part = f"{place}.image_path"
    text = _optional(latest, "findings", place)
    try:
      prior = _path(_first(record, part), part), _view(latest), text
    except FaultError as error:
      if error.kind != OUTSIDE:
        raise
      outside = error.part
  facts = "findings_factual_serialization"
  if facts in record and not _part(record, facts, list):
    raise FaultError(NO_FACTS)
  return Entry(*ids, [scan], sections, prior, outside)


def parse_r2gen(record: Any) -> Entry:
  """A record of R2Gen's file: MIMIC-CXR's of one image, or IU X-ray's of a study's.

  Its text is cleaned already, and findings as a whole. Raises `FaultError`.
  """
  text = _part(record, "report", str).strip()
  stated = _part(record, "image_path", (list, str))
  stated = [stated] if isinstance(stated, str) else stated
  if not stated or not all(isinstance(path, str) for path in stated):
    raise FaultError(DAMAGED, "image_path")
  paths = [PurePosixPath(_path(path, "image_path")) for path in stated]
  if "subject_id" in record or "study_id" in record:
    ids = _id(record, "subject_id"), _id(record, "study_id")
    names = [path.stem for path in paths]
  else:  # IU X-ray: CXR2384_IM-0942 is a report; its images are all called 0 and 1.
    own = _part(record, "id", str)
    ids = plain(own.partition("_")[0]), plain(own)
    names = [str(path.with_suffix("")) for path in paths]
  scans = [Scan(plain(n), str(p), None) for n, p in zip(names, paths)]
  return Entry(*ids, scans, {"findings": text} if text else {})


def _part(record: Any, key: str, kind: type | tuple[type, ...]) -> Any:
  """The value at `outer.inner`; a fault that names it where there is no such."""
  value = record
  for name in key.split("."):
    value = value.get(name) if isinstance(value, dict) else None
  if not isinstance(value, kind) or isinstance(value, bool):
    raise FaultError(DAMAGED, key)
  return value


def _first(record: Any, key: str) -> str:
  """A text, or the first of a list of them: both are written."""
  value = _part(record, key, (str, list))
  value = value if isinstance(value, str) else next(iter(value), None)
  if not isinstance(value, str):
    raise FaultError(DAMAGED, key)
  return value


def _optional(record: dict, key: str, place: str = "") -> str:
  value = record.get(key)
  if value is None or value != value:  # pandas writes NaN for what is missing.
    return ""
  if not isinstance(value, str):
    raise FaultError(DAMAGED, f"{place}.{key}" if place else key)
  return value.strip()


def _view(scan: dict) -> str:
  try:
    return _first(scan, "view_position").strip()
  except FaultError:
    return ""


def _id(record: Any, key: str) -> str:
  text = plain(str(_part(record, key, (int, str))).strip())
  if not text:
    raise FaultError(DAMAGED, key)
  return re.sub(r"^[ps](?=[0-9]+$)", "", text)


def plain(text: str) -> str:
  """An id that can be joined to others by underscores."""
  return re.sub(r"[_/]", "-", text)


def _path(text: str, part: str) -> str:
  path = PurePosixPath(text.strip().replace("\\", "/"))
  if not path.name or "\0" in text:
    raise FaultError(DAMAGED, part)
  if path.is_absolute() or ".." in path.parts or path.parts[0].endswith(":"):
    raise FaultError(OUTSIDE, part)
  return str(path)


def folder(path: str, letter: str) -> str:
  """The number in a folder's name: of MIMIC-CXR's p10000032 or s50414267; or empty."""
  found = re.findall(rf"(?:^|/){letter}([0-9]{{3,}})(?=/)", path)
  return found[-1] if found else ""
