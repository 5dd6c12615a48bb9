"""Open-I's chest films of Indiana University: XML reports, PNG films.

Nothing tells its patients or dates: a study is its patient's only one.
"""

import csv
import gzip
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from data_pipelines.raw import studies, tables

ARCHIVE, FOLDER = "NLMCXR_reports.tgz", "ecgen-radiology"
IMAGES = ("NLMCXR_png", "images")  # Where the films may lie, if not beside all else.
VIEWS = "nlmcxr_dicom_metadata.csv"  # As the package torchxrayvision ships it.
MAX_BYTES = 2**20  # The longest report has some ten thousand.
MAX_REPORTS = 10**5

SECTIONS = ("FINDINGS", "IMPRESSION", "INDICATION", "COMPARISON")
BLANKED = re.compile(r"X{4,}")  # Open-I's sign for what was taken out.
BLANK = "___"  # MIMIC-CXR's, for which models and `history.clean` have a word.

_LATERAL = ("LATERAL", "LL", "RL", "LARGE LATERAL", "LAT")
_ID = re.compile(r"[0-9A-Za-z_.-]+")
_CAPTION = re.compile(r"\b(?:(PA)|(AP)|(LAT(?:ERAL)?))\b")
Oddities = list[studies.Oddity]


def read(
  root: str | os.PathLike,
  *,
  progress: Callable[[Iterable, int, str, str], Iterable] = lambda items, *_: items,
) -> studies.Download:
  """All studies of the reports in `root`, and what is odd of them.

  Reports are NLMCXR_reports.tgz or its unpacked folder, films PNG in NLMCXR_png/, in
  images/ or right in `root`. Views are those of nlmcxr_dicom_metadata.csv, where that
  is there, else what the caption says if it names one only, else unknown. No image is
  opened or looked for. Raises OSError where a file is missing, ValueError where one is
  damaged.
  """
  root, oddities = Path(root), []
  views = _views(root, oddities)
  found, seen = {}, set()
  for name, content in progress(*_reports(root), "reports", "report"):
    report = _parse(name, content, oddities)
    if report is None:
      continue
    study = _study(report, name, views, seen, oddities)
    if study.study_id in found:
      oddities.append(studies.Oddity("duplicate study id", name))
      continue
    if not study.films:
      oddities.append(studies.Oddity("study without images", study.study_id))
    found[study.study_id] = study
  if not found:
    raise ValueError(f"{root}: none of its reports could be read")
  images = next((root / i for i in IMAGES if (root / i).is_dir()), root)
  for path in sorted(images.glob("*.png")):
    if path.name not in seen:
      oddities.append(studies.Oddity("image without study", path.name))
  return studies.Download(
    "iu_xray", str(images), studies.in_order(list(found.values())), tuple(oddities)
  )


def _reports(root: Path) -> tuple[Iterator[tuple[str, bytes]], int]:
  """Names and contents of the reports, and how many there are."""
  for folder in (root / FOLDER, root / "NLMCXR_reports" / FOLDER, root):
    if paths := sorted(folder.glob("*.xml")):
      return _of_folder(paths), len(paths)
  archive = root / ARCHIVE
  if archive.exists():
    found = list(_of_archive(archive))
    return iter(found), len(found)
  raise FileNotFoundError(
    f"{root}: has no reports: {ARCHIVE} was expected in it, or {FOLDER}/1.xml and its "
    "like"
  )


def _of_folder(paths: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
  for path in paths:
    try:
      with path.open("rb") as file:
        yield path.name, file.read(MAX_BYTES + 1)
    except OSError as error:
      raise type(error)(f"{path}: cannot be read ({error.strerror})") from None


def _of_archive(path: Path) -> Iterator[tuple[str, bytes]]:
  """Read in place: nothing is unpacked, so that no member can name a place for it."""
  try:
    with tarfile.open(path) as archive:
      for count, member in enumerate(archive):
        if count > MAX_REPORTS or member.size > 100 * MAX_BYTES:
          raise ValueError(f"{path}: holds more than reports; fetch it again")
        if member.isfile() and member.name.endswith(".xml"):
          name = member.name.rpartition("/")[2]
          yield name, archive.extractfile(member).read(MAX_BYTES + 1)
  except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile):
    raise ValueError(
      f"{path}: is a damaged archive (interrupted download?); fetch it again"
    ) from None


def _parse(name: str, content: bytes, oddities: Oddities) -> ElementTree.Element | None:
  fault = "report too large" if len(content) > MAX_BYTES else ""
  if not fault and b"<!ENTITY" in content:  # Few of them can fill all memory.
    fault = "report with entities"
  if not fault:
    try:
      return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError):
      fault = "report damaged" if content.strip() else "empty report"
  oddities.append(studies.Oddity(fault, name))
  return None


def _study(
  report: ElementTree.Element,
  name: str,
  views: dict[str, str],
  seen: set[str],
  oddities: Oddities,
) -> studies.Study:
  stated = report.find("uId")
  study_id = stated.get("id", "") if stated is not None else ""
  if not _ID.fullmatch(study_id) or "_" in study_id:
    study_id = f"CXR{Path(name).stem}"
  films = []
  for image in report.iter("parentImage"):
    image_id = image.get("id", "")
    if not _ID.fullmatch(image_id) or ".." in image_id:
      oddities.append(studies.Oddity("path outside the root", name))
    elif f"{image_id}.png" in seen:
      oddities.append(studies.Oddity("duplicate image id", image_id))
    else:
      seen.add(f"{image_id}.png")
      caption = " ".join(c.text or "" for c in image.iter("caption"))
      view = views.get(_short(image_id)) or _of_caption(caption)
      film = studies.Film(image_id.replace("_", "-"), f"{image_id}.png", view)
      films.append(film)
  sections = {
    label.lower(): text
    for section in report.iter("AbstractText")
    if (label := section.get("Label", "")) in SECTIONS
    and (text := _text(section.text or ""))
  }
  if not sections:
    oddities.append(studies.Oddity("report without text", study_id))
  return studies.Study(
    study_id, study_id, tuple(films), sections=sections, has_report=bool(sections)
  )


def _text(text: str) -> str:
  return " ".join(BLANKED.sub(BLANK, text).split())


def _short(image_id: str) -> str:
  """An id as the table of views has it: CXR1_IM-0001-3001 of CXR1_1_IM-0001-3001."""
  return re.sub(r"_\d+_", "_", image_id, count=1)


def _views(root: Path, oddities: Oddities) -> dict[str, str]:
  path = tables.search(root, VIEWS)
  if path is None:
    oddities.append(studies.Oddity("no views", VIEWS))
    return {}
  try:
    with tables.opened(path) as file:
      # Some of its rows run over several lines, which PhysioNet's tables never do.
      rows = csv.DictReader(file)
      return {_short(row["imageid"]): _view(row["View Position"]) for row in rows}
  except (EOFError, zlib.error, gzip.BadGzipFile, csv.Error, KeyError, TypeError):
    raise ValueError(
      f"{path}: is damaged, or no table with imageid and View Position; fetch it again"
    ) from None


def _view(stated: str) -> str:
  position = stated.strip().upper()
  if position in ("PA", "AP", "LL"):
    return position
  return "LATERAL" if position in _LATERAL else ""


def _of_caption(caption: str) -> str:
  """The view that a caption names, if it names one only; that of both films is none."""
  named = {match.lastindex for match in _CAPTION.finditer(caption.upper())}
  return ("PA", "AP", "LATERAL")[named.pop() - 1] if len(named) == 1 else "unk"
