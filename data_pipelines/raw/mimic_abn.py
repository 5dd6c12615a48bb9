"""MIMIC-ABN: a choice of MIMIC-CXR's studies, as a list of ids over its folders.

The list alone gives no text: studies keep MIMIC-CXR's. The texts of MIMIC-ABN, which
are sentences of abnormal findings only, come with an annotation file, which
`annotations.read` takes whole. The original list is no longer to be had; of the 844
test images of the copy that MLRG released, 412 are LATERAL, 430 PA and 2 AP (thread 11
of its repository): so a rule that keeps frontal views drops half of that test set.
"""

import csv
import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from data_pipelines.raw import splits, studies, tables
from data_pipelines.raw.annotations import SPLITS, lists

NAME = "mimic_abn"
COLUMNS = ("dicom_id", "id", "study_id")  # What may name an image or study, best first.

_ENDING = re.compile(r"\.(jpe?g|png|dcm|txt)$", re.IGNORECASE)
_SHOWN = 200  # Characters of a wrong header that an error repeats.

Named = tuple[str | None, str]  # A split, None for the study's own; an id or path.
Oddities = list[studies.Oddity]


def restrict(download: studies.Download, path: str | os.PathLike) -> studies.Download:
  """MIMIC-CXR with the splits of a list: studies that it does not name have none.

  Those stay, to be priors; but of a study of which the list names films, others go. The
  list is JSON (train, val, test with ids, paths or annotation records), CSV (a column
  of COLUMNS, and split or else the studies' own), or a folder with train.txt, val.txt
  and test.txt, an id or path a line. Raises OSError or ValueError if it is none.
  """
  path, oddities = Path(path), list(download.oddities)
  known = {study.study_id: study for study in download.studies}
  homes = {film.id: study.study_id for study in known.values() for film in study.films}
  named = list(_named(path, oddities))
  chosen = _choose(named, known, homes, oddities)
  if not chosen:
    raise ValueError(
      f"{path}: none of its {len(named)} entries is an image or study of the download"
    )
  found = []
  for study in download.studies:
    split, films = chosen.get(study.study_id, ("", None))
    if films is not None:
      kept = tuple(film for film in study.films if film.id in films)
      study = dataclasses.replace(study, films=kept)
    found.append(dataclasses.replace(study, split=split))
  for patient_id in splits.straddling(found):
    oddities.append(studies.Oddity("patient in two splits", patient_id))
  return studies.Download(NAME, download.image_root, found, tuple(oddities))


def _choose(
  named: Iterable[Named],
  known: Mapping[str, studies.Study],
  homes: Mapping[str, str],
  oddities: Oddities,
) -> dict[str, tuple[str, set[str] | None]]:
  """By study, its split and those of its films that are named; None for all."""
  chosen = {}
  for stated, name in named:
    id_ = _id(name)
    film = id_ if id_ in homes else None
    study_id = homes[film] if film else id_.removeprefix("s")
    if study_id not in known:
      oddities.append(studies.Oddity("listed, not in the download", id_))
      continue
    split = known[study_id].split if stated is None else stated
    if study_id not in chosen:
      chosen[study_id] = split, {film} if film else None
      continue
    first, films = chosen[study_id]
    if first != split:
      oddities.append(studies.Oddity("listed in two splits", id_))
    elif films is None or film in films:
      oddities.append(studies.Oddity("listed twice", id_))
    elif film:
      films.add(film)
    else:
      chosen[study_id] = split, None
  return chosen


def _id(name: str) -> str:
  """The id at the end of a path, or of one like PriorRG's patient_study_image."""
  last = PurePosixPath(name.replace("\\", "/")).name
  return _ENDING.sub("", last).rpartition("_")[2]


def _named(path: Path, oddities: Oddities) -> Iterator[Named]:
  if path.is_dir():
    return _lines(path)
  with path.open("rb") as file:
    start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
  if start.startswith(b"\x1f\x8b"):
    raise ValueError(f"{path}: is compressed; unpack it first")
  return (_entries if start[:1] in (b"{", b"[") else _rows)(path, oddities)


def _lines(folder: Path) -> Iterator[Named]:
  files = [(folder / f"{name}.txt", split) for name, split in SPLITS.items()]
  files = [(path, split) for path, split in files if path.is_file()]
  if not files:
    raise FileNotFoundError(
      f"{folder}: has no train.txt, val.txt or test.txt, of which one at least was "
      "expected right in it"
    )
  for path, split in files:
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
      if line.strip():
        yield split, line.strip()


def _entries(path: Path, oddities: Oddities) -> Iterator[Named]:
  for place, split, entry in lists(path):
    names = _names(entry)
    if not names:
      oddities.append(studies.Oddity("record damaged", place))
    for name in names:
      yield split, name


def _names(entry: Any) -> list[str]:
  """What an entry of a JSON list names; nothing if it is damaged."""
  if isinstance(entry, dict):
    scan = entry.get("anchor_scan")
    paths = (scan if isinstance(scan, dict) else entry).get("image_path")
    entry = entry.get("id") or paths or entry.get("study_id")
  names = entry if isinstance(entry, list) else [entry]
  if any(not isinstance(n, (int, str)) or isinstance(n, bool) for n in names):
    return []
  texts = [str(name).strip() for name in names]
  return texts if all(texts) else []


def _rows(path: Path, oddities: Oddities) -> Iterator[Named]:
  with path.open(encoding="utf-8-sig", errors="replace") as file:
    header = [name.strip() for name in next(csv.reader([file.readline()]), [])]
  column = next((column for column in COLUMNS if column in header), None)
  if column is None:
    raise ValueError(
      f"{path}: has no column {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}; its first "
      f"line is {','.join(header)[:_SHOWN]!r} (lists of ids alone go in a folder, as "
      "train.txt, val.txt and test.txt)"
    )
  columns = (column, "split") if "split" in header else (column,)
  for row in tables.rows(path, columns, oddities):
    stated = row.get("split")
    if stated is None or stated in SPLITS:
      yield stated and SPLITS[stated], row[column]
    else:
      kind = "split unknown" if stated else "split missing"
      oddities.append(studies.Oddity(kind, row[column]))
