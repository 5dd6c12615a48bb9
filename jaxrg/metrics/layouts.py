"""Any system's file of reports as rows of `predictions`: CSV, JSON or JSONL.

Systems name the same three things differently; the first name of each that a file has
is taken. What was read under which name is told, so that nobody scores the wrong column
unawares. Known are our own files, those of PriorRG (dicom_id, reference_report,
generated_report), MLRG (dicom_id, labels, report), ReXrank (JSON by study, with
section_findings, section_impression and model_prediction), pairs of files as those of
CXRMate and CXR-Report-Metric (study_id, report), and R2Gen's annotation as references.
"""

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxrg.metrics import predictions

NAMES: Mapping[str, Sequence[str]] = {
  "id": ("id", "dicom_id", "study_id", "image_id", "images_id", "uid", "case_id"),
  "reference": (
    *("reference", "reference_report", "ground_truth", "ground_truth_report"),
    *("gt", "gts", "target", "labels", "report", "findings"),
  ),
  "prediction": (
    *("prediction", "generated_report", "model_prediction", "predicted_report"),
    *("predicted", "generated", "hypothesis", "pred", "res", "report"),
  ),
}
SECTIONS = ("section_findings", "section_impression")  # A reference of ReXrank's.
PATIENTS = ("patient_id", "subject_id")
MISSING = ("", "nan", "none", "null")  # What programs write where there is no text.
LISTED = 16  # Names that an error tells.
LONG = 10_000  # Words of a report that is no report.
FLAGS, DAYS = ("has_prior", "has_context"), "prior_days"
TRUTHS = ("labels", "truth")  # JSON, where a table holds them.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
CSV_LIMIT = 2**30  # Characters of a field; Python's own limit is less than a megabyte.


class Read(NamedTuple):
  """The rows of a file, and under which names they were found."""

  rows: list[dict]
  names: dict[str, str]  # Of id, reference and prediction.


def read(
  path: str | os.PathLike,
  references: str | os.PathLike | None = None,
  *,
  partial: bool = False,
  encoding: str = "utf-8-sig",
) -> Read:
  """The rows of one file, or of predictions and a second file of `references`.

  With two files a row is an id that both have; with `partial` those of one alone are
  left out. Raises ValueError or OSError, naming file and place, for what cannot be
  read: no text of the encoding, a column that is missing (with those there are), ids
  that occur twice or, without `partial`, on one side only.
  """
  records = _records(Path(path), encoding)
  if references is None:
    names = _names(records, ("id", "reference", "prediction"), path)
    rows = _rows(records, names, path)
  else:
    others = _records(Path(references), encoding)
    names = _names(records, ("id", "prediction"), path)
    of_others = _names(others, ("id", "reference"), references)
    referred = _rows(others, of_others, references)
    if empty := [row["id"] for row in referred if not row["reference"].strip()]:
      raise ValueError(
        f"{references}: {len(empty)} references are empty, first that of {empty[0]!r}."
      )
    rows = _joined(
      _rows(records, names, path), referred, path, references, partial=partial
    )
    names |= {"reference": of_others["reference"]}
  predictions.check(rows, str(path))
  return Read(rows, names)


def _records(path: Path, encoding: str) -> list[dict]:
  """The records of a file, by its suffix."""
  try:
    text = path.read_text(encoding=encoding)
  except UnicodeDecodeError as error:
    raise ValueError(
      f"{path}: byte {error.start} is no {encoding.removesuffix('-sig')} text; name "
      "another --encoding, such as latin-1 or utf-16."
    ) from None
  except UnicodeError as error:  # A byte order mark that is not there.
    raise ValueError(f"{path}: {error}; try --encoding={encoding}-le.") from None
  except LookupError:
    raise ValueError(f"There is no encoding {encoding!r}.") from None
  match path.suffix.lower():
    case ".jsonl" | ".ndjson":
      records = _json_lines(text, path)
    case ".json":
      records = _json_records(text, path)
    case ".csv" | ".tsv":
      records = _csv_records(text, path)
    case suffix:
      raise ValueError(
        f"{path}: {suffix or 'no suffix'} is none of csv, tsv, json, jsonl."
      )
  if not records:
    raise ValueError(f"{path}: no predictions in it.")
  return records


def _json_lines(text: str, path: Path) -> list[dict]:
  found = []
  # Not `splitlines`, which also splits at characters that JSON leaves in its strings.
  for number, line in enumerate(text.split("\n"), 1):
    if line.strip():
      record = _parsed(line, f"{path}, line {number}")
      if not isinstance(record, dict):
        raise ValueError(f"{path}, line {number}: a JSON object is needed.")
      found.append(record)
  return found


def _json_records(text: str, path: Path) -> list[dict]:
  """Of a list of objects; of objects or texts by id; or of lists by split (`test`)."""
  found = _parsed(text, str(path))
  if isinstance(found, dict) and isinstance(found.get("test"), list):
    found = found["test"]
  if isinstance(found, dict) and all(isinstance(v, dict) for v in found.values()):
    found = [{"id": name} | record for name, record in found.items()]
  if isinstance(found, dict) and all(_is_text(v) for v in found.values()):
    found = [{"id": name, "report": text} for name, text in found.items()]
  if not isinstance(found, list) or not all(isinstance(r, dict) for r in found):
    raise ValueError(
      f"{path}: a list of JSON objects is needed, or an object of them or of texts."
    )
  return found


def _parsed(text: str, place: str) -> Any:
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{place}: not JSON ({error}).") from None


def _csv_records(text: str, path: Path) -> list[dict]:
  csv.field_size_limit(CSV_LIMIT)
  delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
  lines = io.StringIO(text, newline="")
  # Strict, or a quote that is never closed would swallow the reports behind it.
  reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
  found = []
  try:
    twice = [n for n, count in Counter(reader.fieldnames or ()).items() if count > 1]
    if twice:
      raise ValueError(f"{path}: column {twice[0]!r} occurs twice.")
    for record in reader:
      if None in record or None in record.values():
        raise ValueError(
          f"{path}, line {reader.line_num}: not as many fields as the "
          f"{len(reader.fieldnames)} columns {_listed(reader.fieldnames)}."
        )
      found.append(record)
  except csv.Error as error:
    raise ValueError(f"{path}, line {reader.line_num}: {error}.") from None
  return found


def _names(
  records: Sequence[Mapping], wanted: Sequence[str], path: str | os.PathLike
) -> dict[str, str]:
  """Under which names the records have what is wanted."""
  columns = list(records[0])
  found = {}
  for part in wanted:
    if part == "reference" and set(SECTIONS) <= set(columns):
      found[part] = " and ".join(SECTIONS)
      continue
    free = [name for name in NAMES[part] if name not in found.values()]
    name = next((name for name in free if name in columns), None)
    if name is None:
      raise ValueError(
        f"{path}: no {part}; it would be one of {_listed(free)}, and there are "
        f"{_listed(columns)}."
      )
    found[part] = name
  for number, record in enumerate(records, 1):
    needed = (name for part in found.values() for name in part.split(" and "))
    if missing := [name for name in needed if name not in record]:
      raise ValueError(
        f"{path}, record {number}: no {_listed(missing)}; there are {_listed(record)}."
      )
  return found


def _rows(
  records: Sequence[Mapping], names: Mapping[str, str], path: str | os.PathLike
) -> list[dict]:
  """The records under our own names; ValueError names the one that is wrong."""
  found = []
  for number, record in enumerate(records, 1):
    try:
      found.append(_row(record, names))
    except ValueError as error:
      raise ValueError(f"{path}, record {number}: {error}") from None
  return found


def _row(record: Mapping[str, Any], names: Mapping[str, str]) -> dict:
  """A record under our own names, whatever else it holds beside them."""
  texts = {part: _text(record, name) for part, name in names.items()}
  if not texts["id"].strip():
    raise ValueError(f"{names['id']} is empty.")
  taken = {name for part in names.values() for name in part.split(" and ")}
  row = {name: value for name, value in record.items() if name not in taken} | texts
  patient = next((record[name] for name in PATIENTS if record.get(name)), None)
  if patient is not None:
    row["patient_id"] = str(patient)
  for name in (*FLAGS, DAYS):
    if isinstance(row.get(name), str):
      row[name] = _parsed_cell(name, row)
  for name in TRUTHS:
    if isinstance(row.get(name), str):
      empty = row[name].strip().lower() in MISSING
      row[name] = None if empty else _parsed(row[name], name)
  return row


def _parsed_cell(name: str, row: Mapping[str, Any]) -> bool | float | None:
  """What a table can only hold as text: a flag, or a number of days."""
  text = row[name].strip().lower()
  known: dict[str, bool | None] = dict.fromkeys(
    MISSING, False if name in FLAGS else None
  )
  if name in FLAGS:
    known |= {"true": True, "1": True, "1.0": True}
    known |= {"false": False, "0": False, "0.0": False}
  if text in known:
    return known[text]
  try:
    if name == DAYS:
      return float(text)
  except ValueError:
    pass
  needed = "true or false" if name in FLAGS else "a number of days"
  raise ValueError(f"{name} of id {row['id']!r} is {text!r}: {needed} is needed.")


def _is_text(value: Any) -> bool:
  """Whether a value is a text, or the list of one that COCO's files have."""
  if isinstance(value, list) and len(value) == 1:
    (value,) = value
  return isinstance(value, str)


def _text(record: Mapping[str, Any], name: str) -> str:
  if " and " in name:  # As ReXrank joins its two sections.
    findings, impression = (_text(record, section) for section in SECTIONS)
    if not findings and not impression:
      return ""
    return f"Findings: {findings or None} Impression: {impression or None}"
  value = record[name]
  if name in NAMES["id"] and isinstance(value, int) and not isinstance(value, bool):
    value = str(value)
  if value is None or value != value:  # nan is not itself.
    value = ""
  if not _is_text(value):
    raise ValueError(f"{name} must be text, not {type(value).__name__}.")
  text = value if isinstance(value, str) else value[0]
  # JSON can escape half a surrogate pair, which is no character of any file.
  text = text.encode("utf-8", "replace").decode()
  return "" if text.strip().lower() in MISSING else text


def oddities(rows: Sequence[Mapping]) -> list[str]:
  """What is odd of generated reports and still scored as it is: a line each kind."""
  kinds = {
    "empty": lambda words, text: not words,
    "of one word": lambda words, text: len(words) == 1,
    f"of more than {LONG} words": lambda words, text: len(words) > LONG,
    "with control characters": lambda words, text: _CONTROL.search(text) is not None,
  }
  texts = [(row["id"], row["prediction"].split(), row["prediction"]) for row in rows]
  found = {
    kind: [name for name, words, text in texts if odd(words, text)]
    for kind, odd in kinds.items()
  }
  notes = [
    f"NOTE: generated reports {kind}: {len(ids)} of {len(rows)}, first {ids[0]!r}"
    for kind, ids in found.items()
    if ids
  ]
  alone = sum(not row.get("patient_id") for row in rows)
  if 0 < alone < len(rows):
    notes.append(
      f"NOTE: without a patient_id: {alone} of {len(rows)}; each counts as a patient"
    )
  return notes


def _joined(
  predicted: Sequence[dict],
  referred: Sequence[dict],
  path: str | os.PathLike,
  references: str | os.PathLike,
  *,
  partial: bool,
) -> list[dict]:
  """The rows of the ids that both sides have, in the order of the predictions."""
  for rows, place in ((predicted, path), (referred, references)):
    counts = Counter(row["id"] for row in rows)
    if twice := [name for name, count in counts.items() if count > 1]:
      raise ValueError(f"{place}: {len(twice)} ids occur twice, first {twice[0]!r}.")
  of = {row["id"]: row for row in referred}
  mine = {row["id"] for row in predicted}
  alone = [
    (f"in {place} alone", [name for name in names if name not in others])
    for place, names, others in ((path, mine, of), (references, of, mine))
  ]
  told = [
    f"{len(ids)} ids are {where}, first {min(ids)!r}" for where, ids in alone if ids
  ]
  if not mine & of.keys():
    raise ValueError(f"{path} and {references} have no id in common.")
  if told and not partial:
    raise ValueError(f"{'; '.join(told)}. --partial scores the others.")
  for line in told:
    print(f"LEFT OUT: {line}")
  return [of[row["id"]] | row for row in predicted if row["id"] in of]


def _listed(names: Iterable[Any]) -> str:
  names = [repr(name) if str(name).split() != [name] else name for name in names]
  shown = ", ".join(names[:LISTED])
  return (
    f"{shown} and {len(names) - LISTED} others" if names[LISTED:] else shown or "none"
  )
