"""The reports of MIMIC-CXR, one text file a study, in a folder or in a zip archive."""

import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from data_pipelines.raw import studies

MAX_BYTES = 2**20  # The longest report has a few thousand.
EXAMPLE = "files/p10/p10000032/s50414267.txt"

_GROUP, _PATIENT = re.compile(r"p[0-9]{2}"), re.compile(r"p([0-9]+)")
_STUDY = re.compile(r"s([0-9]+)\.txt")
_MEMBER = re.compile(r"(?:.*/)?p[0-9]{2}/p([0-9]+)/s([0-9]+)\.txt")
# All but tab and line feed, which is what the others of the line ends become.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ENDS = re.compile(r"\r\n?")


class Reports:
  """The text of reports by patient and study, opened only when the first is asked for.

  `path` is mimic-cxr-reports.zip or the folder it was unpacked into. What is odd of
  the reports that were read, and of the archive, is added to `oddities`. Raises OSError
  where nothing can be read and ValueError where an archive is damaged.
  """

  def __init__(
    self, path: str | os.PathLike, oddities: list[studies.Oddity] | None = None
  ):
    self.path = Path(path)
    self.oddities = [] if oddities is None else oddities
    self._archive: zipfile.ZipFile | None = None
    self._members: dict[tuple[str, str], str] = {}
    self._folder: Path | None = None

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_) -> None:
    if self._archive is not None:
      self._archive.close()
      self._archive = None

  def read(self, patient_id: str, study_id: str) -> str | None:
    """A report's text, None where there is no such file; empty where it is unusable."""
    self._open()
    content = self._content(patient_id, study_id)
    if content is None:
      return None
    if len(content) > MAX_BYTES:
      return self._odd("report too large", study_id)
    try:
      text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
      self._odd("report not UTF-8", study_id)
      text = content.decode("latin-1")
    text = _CONTROL.sub("", _ENDS.sub("\n", text))
    return text if text.strip() else self._odd("empty report", study_id)

  def keys(self) -> Iterator[tuple[str, str]]:
    """Patient and study of all reports that there are."""
    self._open()
    if self._folder is None:
      yield from self._members
      return
    for group in _matching(self._folder, _GROUP):
      for patient in _matching(self._folder / group[0], _PATIENT):
        for study in _matching(self._folder / group[0] / patient[0], _STUDY):
          yield patient[1], study[1]

  def _open(self) -> None:
    if self._archive is not None or self._folder is not None:
      return
    if self.path.is_dir():
      self._folder = folder(self.path)
      if self._folder is None:
        raise FileNotFoundError(f"{self.path}: holds no reports like {EXAMPLE}")
      return
    try:
      self._archive = zipfile.ZipFile(self.path)
    except OSError as error:
      raise type(error)(f"{self.path}: cannot be read ({error.strerror})") from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError, zlib.error):
      raise _damaged(self.path) from None
    for name in self._archive.namelist():
      self._enter(name)
    if not self._members:
      raise ValueError(f"{self.path}: holds no reports like {EXAMPLE}")

  def _enter(self, name: str) -> None:
    if name.startswith("/") or ".." in name.split("/"):
      self._odd("path outside the root", f"{self.path.name}: {name}")
    elif found := _MEMBER.fullmatch(name):
      self._members.setdefault((found[1], found[2]), name)

  def _content(self, patient_id: str, study_id: str) -> bytes | None:
    """What is in a report's file, of which no more is read than shows its excess."""
    if self._folder is not None:
      name = f"p{patient_id[:2]}/p{patient_id}/s{study_id}.txt"
      try:
        with (self._folder / name).open("rb") as file:
          return file.read(MAX_BYTES + 1)
      except (FileNotFoundError, NotADirectoryError):
        return None
      except OSError as error:
        path = self._folder / name
        raise type(error)(f"{path}: cannot be read ({error.strerror})") from None
    member = self._members.get((patient_id, study_id))
    if member is None:
      return None
    try:
      with self._archive.open(member) as file:
        return file.read(MAX_BYTES + 1)
    # RuntimeError: it is encrypted; NotImplementedError is one of them.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError):
      raise _damaged(self.path, f" at {member}") from None

  def _odd(self, kind: str, where: str) -> str:
    self.oddities.append(studies.Oddity(kind, where))
    return ""


def folder(path: Path) -> Path | None:
  """The folder of p10 to p19 in a folder of reports, wherever people unpack them."""
  for inner in (path, path / "files", path / "mimic-cxr-reports" / "files"):
    if inner.is_dir() and any(_matching(inner, _GROUP)):
      return inner
  return None


def has_reports(path: Path, tried: int = 100) -> bool:
  """Whether the first patients of a folder have reports; it may hold images only."""
  inner = folder(path)
  if inner is None:
    return False
  for group in _matching(inner, _GROUP):
    for patient in _matching(inner / group[0], _PATIENT)[:tried]:
      if _matching(inner / group[0] / patient[0], _STUDY):
        return True
  return False


def _matching(path: Path, pattern: re.Pattern) -> list[re.Match]:
  try:
    names = sorted(os.listdir(path))
  except NotADirectoryError:
    return []
  except OSError as error:
    raise type(error)(f"{path}: cannot be read ({error.strerror})") from None
  return [found for name in names if (found := pattern.fullmatch(name))]


def _damaged(path: Path, where: str = "") -> ValueError:
  return ValueError(
    f"{path}: is a damaged zip archive{where} (interrupted download?); fetch it again"
  )
