"""The CSV tables of a download, plain or gzipped, row by row."""

import csv
import gzip
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from data_pipelines.raw import studies

DAMAGED = "line damaged"
_GZIP = b"\x1f\x8b"
_SHOWN = 200  # Characters of a wrong header that an error repeats.


def search(folder: str | os.PathLike, pattern: str) -> Path | None:
  """The file of this name, or name.gz, in the newest of its versions; else None."""
  found = [
    path
    for name in (pattern, f"{pattern}.gz")
    for path in sorted(Path(folder).glob(name))
    if path.is_file()
  ]
  return max(found, key=lambda path: _version(path.name), default=None)


def find(folder: str | os.PathLike, pattern: str, what: str) -> Path:
  """As `search`; raises OSError that says which file was expected where."""
  found = search(folder, pattern)
  if found is None:
    missing = "has no" if Path(folder).is_dir() else "is no folder, so there is no"
    raise FileNotFoundError(
      f"{folder}: {missing} {what}: {pattern} or {pattern}.gz was expected right in it"
    )
  return found


def rows(
  path: str | os.PathLike,
  columns: Sequence[str],
  oddities: list[studies.Oddity] | None = None,
) -> Iterator[dict[str, str]]:
  """Each row of a table as text by column, of these columns only.

  A line that does not fit the header is left out and named in `oddities`; without
  them it raises ValueError, as do missing columns and a damaged gzip file.
  """
  path = Path(path)
  try:
    with opened(path) as file:
      header = _fields(next(file, "")) or []
      places = _places(path, header, columns)
      for number, line in enumerate(file, 2):
        if line == "\n":
          continue
        fields = _fields(line)
        if fields is None or len(fields) != len(header):
          _damaged(path, number, oddities)
          continue
        yield {column: fields[place].strip() for column, place in places}
  except (EOFError, zlib.error, gzip.BadGzipFile):
    raise ValueError(
      f"{path}: is a damaged or cut gzip file (interrupted download?); fetch it again"
    ) from None


def opened(path: Path) -> IO[str]:
  """A table as text, unzipped where it is zipped; raises OSError."""
  try:
    with path.open("rb") as file:
      # By content: some browsers unpack a download and leave its name.
      opener = gzip.open if file.read(2) == _GZIP else open
    return opener(path, "rt", encoding="utf-8-sig", errors="replace")
  except OSError as error:
    raise type(error)(f"{path}: cannot be read ({error.strerror})") from None


def _fields(line: str) -> list[str] | None:
  """The fields of one line, None where it is damaged.

  A row is one line in these tables: so an open quote damages its own line only.
  """
  line = line.removesuffix("\n")
  if "\0" in line or "\ufffd" in line:
    return None
  if '"' not in line:
    return line.split(",")
  try:
    return next(csv.reader([line], strict=True), None)
  except csv.Error:
    return None


def _places(
  path: Path, header: list[str], columns: Sequence[str]
) -> list[tuple[str, int]]:
  names = [name.strip() for name in header]
  missing = [column for column in columns if column not in names]
  if not missing:
    return [(column, names.index(column)) for column in columns]
  if names and names[0].startswith("<"):
    raise ValueError(
      f"{path}: is a web page, not a table; was the download made signed in?"
    )
  raise ValueError(
    f"{path}: has no column {', '.join(missing)}; "
    f"its columns are {', '.join(names)[:_SHOWN] or 'none'}"
  )


def _damaged(path: Path, number: int, oddities: list[studies.Oddity] | None) -> None:
  if oddities is None:
    raise ValueError(f"{path}: line {number} does not fit the header")
  oddities.append(studies.Oddity(DAMAGED, f"{path.name}:{number}"))


def _version(name: str) -> tuple[int, ...]:
  stated = re.search(r"\d+(\.\d+)+", name)
  return tuple(int(part) for part in stated[0].split(".")) if stated else ()
