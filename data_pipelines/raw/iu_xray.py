"""Open-I's chest films of Indiana University (IU X-ray), as its archives give them out.

Its reports know neither patients nor dates: each study counts as a patient's only one.
They do not say which film has which view: captions name all views that were asked for,
where a study has only one film, too. A table of views has to tell, or they are unknown.
"""

import csv
import functools
import gzip
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO
from xml.etree import ElementTree

from data_pipelines.raw import mimic_cxr, studies, tables, texts

ARCHIVES = ("NLMCXR_reports.tgz", "NLMCXR_reports.tar.gz", "NLMCXR_reports.tar")
REPORTS = ("ecgen-radiology", "NLMCXR_reports/ecgen-radiology", "NLMCXR_reports", "")
IMAGES = ("NLMCXR_png", "images/images_normalized", "images", "")
# The headers of Open-I's DICOM files, and Kaggle's table of its films.
METADATA, PROJECTIONS = "nlmcxr_dicom_metadata.csv", "indiana_projections.csv"
MAX_BYTES = 2**26  # Of all reports, unpacked: they are a third of it.

_VIEWS = {view: view for view in ("PA", "AP", "LL", "LATERAL")}
_VIEWS |= dict.fromkeys(("RL", "LARGE LATERAL", "Lateral"), "LATERAL")
# Nine of ten frontal films whose view is stated are PA.
_VIEWS["Frontal"] = "PA"
_SECTIONS = ("findings", "impression", "indication", "history", "comparison")
_STUDY, _IMAGE = re.compile(r"CXR[0-9]+"), re.compile(r"[0-9A-Za-z._-]+")
_NUMBERS = re.compile(r"^([0-9]+)-[0-9]+-(?=IM-)")  # Tables give the first only.
_BLANK = re.compile(r"X{4,}")
_GZIP = b"\x1f\x8b"

Oddities = list[studies.Oddity]
Contents = Callable[[], bytes]  # Of a report's file.


def read(
  root: str | os.PathLike, *, progress: mimic_cxr.Progress = lambda items, *_: items
) -> studies.Download:
  """All studies of the download in `root`, and what is odd of it.

  `root` holds NLMCXR_reports.tgz or its unpacked folder, and the films, PNG, in
  NLMCXR_png/ or right in it. Nothing is unpacked, no image is opened, and none needs
  to be there. XXXX, for what was blanked out, becomes ___ as in MIMIC-CXR. Raises
  OSError where the reports are missing, ValueError where a file is damaged.
  """
  root, oddities = Path(root), []
  reports = _reports(root, oddities)
  images, files = _images(root)
  views = _views(root, oddities)
  found, seen = {}, set()
  for name, contents in progress(reports, len(reports), "reports", "report"):
    report = _parse(contents(), name, oddities)
    if report is None:
      continue
    study_id = _study_id(report)
    if study_id is None or study_id in found:
      kind = "report damaged" if study_id is None else "duplicate study id"
      oddities.append(studies.Oddity(kind, name))
      continue
    films = []
    for image_id in _image_ids(report, study_id, seen, oddities):
      path = files.get(_bare(image_id), f"{image_id}.png")
      view = views.get(_bare(image_id), "unk")
      if views and view == "unk":
        oddities.append(studies.Oddity("unknown view", image_id))
      films.append(studies.Film(image_id.replace("_", "-"), path, view))
    if not films:
      oddities.append(studies.Oddity("study without images", study_id))
    told = _sections(report)
    if not told:
      oddities.append(studies.Oddity("report without text", study_id))
    found[study_id] = studies.Study(
      study_id, study_id, tuple(films), sections=told, has_report=bool(told)
    )
  if not found:
    raise ValueError(f"{root}: none of its {len(reports)} reports could be read")
  others = sorted(files[name] for name in files.keys() - seen)
  oddities += [studies.Oddity(mimic_cxr.NO_STUDY, name) for name in others]
  return studies.Download(
    "iu_xray", str(images), studies.in_order(found.values()), tuple(oddities)
  )


def _reports(root: Path, oddities: Oddities) -> list[tuple[str, Contents]]:
  """The files of all reports by name: of a folder, else of an archive."""
  for name in REPORTS:
    paths = sorted(path for path in (root / name).glob("*.xml") if path.name[0] != ".")
    if paths:
      return [(path.name, functools.partial(_content, path)) for path in paths]
  for name in ARCHIVES:
    if (root / name).is_file():
      return _members(root / name, oddities)
  raise FileNotFoundError(
    f"{root}: has no reports: {ARCHIVES[0]} was expected in it, or its unpacked folder "
    f"{REPORTS[0]}/ with 1.xml and its like"
  )


def _content(path: Path) -> bytes:
  try:
    with path.open("rb") as file:
      return file.read(texts.MAX_BYTES + 1)
  except OSError as error:
    raise type(error)(f"{path}: cannot be read ({error.strerror})") from None


def _members(path: Path, oddities: Oddities) -> list[tuple[str, Contents]]:
  found = []
  try:
    with _opened(path) as file, tarfile.open(fileobj=_Bounded(file), mode="r|") as tar:
      for member in tar:
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
          oddities.append(studies.Oddity(mimic_cxr.OUTSIDE, f"{path.name}: {name}"))
        elif member.isreg() and name.suffix == ".xml" and name.name[0] != ".":
          content = tar.extractfile(member).read(texts.MAX_BYTES + 1)
          found.append((name.name, lambda content=content: content))
  except _TooLargeError:
    raise ValueError(
      f"{path}: holds more than reports, which are less than {MAX_BYTES:,} bytes; "
      "fetch it again"
    ) from None
  except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile):
    raise ValueError(
      f"{path}: is a damaged archive (interrupted download?); fetch it again"
    ) from None
  if not found:
    raise ValueError(f"{path}: holds no reports like {REPORTS[0]}/1.xml")
  return found


class _TooLargeError(Exception):
  """An archive is more than it can be."""


class _Bounded:
  """A file of which no more than MAX_BYTES can be read."""

  def __init__(self, file: IO[bytes]):
    self._file, self._left = file, MAX_BYTES

  def read(self, size: int) -> bytes:
    # By pieces: a header may claim that its member has any size.
    content = self._file.read(min(size, self._left + 1))
    self._left -= len(content)
    if self._left < 0:
      raise _TooLargeError
    return content


def _opened(path: Path) -> IO[bytes]:
  """An archive as it is without gzip, which some browsers take off."""
  try:
    with path.open("rb") as file:
      opener = gzip.open if file.read(2) == _GZIP else open
    return opener(path, "rb")
  except OSError as error:
    raise type(error)(f"{path}: cannot be read ({error.strerror})") from None


def _parse(content: bytes, name: str, oddities: Oddities) -> ElementTree.Element | None:
  """A report's root, None if it is unusable."""
  kind = "report damaged" if content.strip() else "empty report"
  if len(content) > texts.MAX_BYTES:
    kind = "report too large"
  else:
    try:
      text = content.decode("utf-8-sig")
      # Entities that are declared may expand to any length; Open-I's declare none.
      if "<!DOCTYPE" not in text and "<!ENTITY" not in text:
        return ElementTree.fromstring(text)
      kind = "report with entities"
    except (UnicodeDecodeError, ElementTree.ParseError):
      pass
  oddities.append(studies.Oddity(kind, name))
  return None


def _study_id(report: ElementTree.Element) -> str | None:
  named = report.find("uId")
  study_id = "" if named is None else named.get("id", "")
  return study_id if _STUDY.fullmatch(study_id) else None


def _image_ids(
  report: ElementTree.Element, study_id: str, seen: set[str], oddities: Oddities
) -> Iterator[str]:
  """The images that a report names, without those that cannot be."""
  for image in report.iter("parentImage"):
    image_id = image.get("id", "").strip()
    bare = _bare(image_id)
    fault = ""
    if "/" in image_id or "\\" in image_id or ".." in image_id:
      fault = mimic_cxr.OUTSIDE
    elif not _IMAGE.fullmatch(image_id):
      fault = "image id damaged"
    elif bare in seen:
      fault = "duplicate image id"
    if fault:
      oddities.append(studies.Oddity(fault, image_id or study_id))
      continue
    seen.add(bare)
    yield image_id


def _sections(report: ElementTree.Element) -> dict[str, str]:
  found: dict[str, list[str]] = {}
  for part in report.iter("AbstractText"):
    label = part.get("Label", "").strip().lower()
    if label in _SECTIONS:
      found.setdefault(label, []).extend(part.itertext())
  told = {name: " ".join(" ".join(parts).split()) for name, parts in found.items()}
  return {name: _BLANK.sub("___", text) for name, text in told.items() if text}


def _images(root: Path) -> tuple[Path, dict[str, str]]:
  """The folder of images, and their names by bare id; `root` where there are none."""
  for folder in (root / name for name in IMAGES):
    paths = sorted(folder.glob("*.png"))
    if paths:
      return folder, {_bare(path.name): path.name for path in paths}
  return root, {}


def _bare(name: str) -> str:
  """What all tables, folders and reports call a film, whatever they put around it."""
  name = name.removesuffix(".png").removesuffix(".dcm").removeprefix("CXR")
  return _NUMBERS.sub(r"\1-", name.replace("_", "-"))


def _views(root: Path, oddities: Oddities) -> Mapping[str, str]:
  """The views of films by their bare ids, where a table tells them."""
  found = {}
  for pattern, columns in (
    (METADATA, ("imageid", "View Position")),
    (PROJECTIONS, ("filename", "projection")),
  ):
    if path := tables.search(root, pattern):
      for name, written in _rows(path, columns):
        if written in _VIEWS:
          found.setdefault(_bare(name), _VIEWS[written])
  if not found:
    oddities.append(studies.Oddity("no views", f"{METADATA} or {PROJECTIONS}"))
  return found


def _rows(path: Path, columns: Iterable[str]) -> Iterator[list[str]]:
  """The columns of a table some of whose fields go over several lines."""
  try:
    with tables.opened(path) as file:
      lines = csv.DictReader(file)
      missing = [name for name in columns if name not in (lines.fieldnames or ())]
      if missing:
        raise ValueError(f"{path}: has no column {', '.join(missing)}")
      for line in lines:
        yield [(line[name] or "").strip() for name in columns]
  except (EOFError, zlib.error, gzip.BadGzipFile, csv.Error):
    raise ValueError(
      f"{path}: is a damaged table (interrupted download?); fetch it again"
    ) from None
