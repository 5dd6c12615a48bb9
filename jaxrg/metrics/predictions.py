"""predictions.jsonl: one study a line, what was generated beside what was written.

`id`, `reference` and `prediction` are needed. `patient_id` (else `id`) is the unit
of resampling; `has_prior` says whether a change can be stated; `labels` (14 ints)
and `truth` (a list of Facts) are the ground truth where it is known; `study_id`,
`view` and `prior_report` are kept for the reader.
"""

import contextlib
import errno
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_pipelines.records import (
  ABSENT,
  CHANGES,
  LABELS,
  PRESENT,
  SEVERITIES,
  SIDES,
  UNCERTAIN,
  UNMENTIONED,
)

STATES = (PRESENT, ABSENT, UNCERTAIN, UNMENTIONED)
NEEDED = ("id", "reference", "prediction")
_WORDS = {
  "label": LABELS,
  "side": SIDES,
  "severity": SEVERITIES,
  "status": ("present", "absent", "uncertain"),
  "change": CHANGES,
}


def read(path: str | os.PathLike) -> list[dict]:
  """The studies of a JSONL file, checked; ValueError names the line that is wrong."""
  rows = []
  with open(path, "rb") as file:
    for number, line in enumerate(file, 1):
      if line.strip():
        rows.append(_row(line, f"{path}, line {number}"))
  check(rows, str(path))
  return rows


def _row(line: bytes, place: str) -> dict:
  try:
    row = json.loads(line)
  except UnicodeDecodeError:
    raise ValueError(f"{place}: not UTF-8 text.") from None
  except ValueError as error:
    raise ValueError(f"{place}: not JSON ({error}).") from None
  if not isinstance(row, dict):
    raise ValueError(f"{place}: a JSON object is needed, with keys {_names(NEEDED)}.")
  if missing := [key for key in NEEDED if key not in row]:
    raise ValueError(f"{place}: no {_names(missing)}; the keys are {_names(row)}.")
  if isinstance(row["id"], int):
    row["id"] = str(row["id"])
  for key in NEEDED:
    if not isinstance(row[key], str):
      raise ValueError(f"{place}: {key} must be text, not {type(row[key]).__name__}.")
  return row


def check(rows: Sequence[Mapping], place: str = "predictions") -> None:
  """ValueError unless there are rows, their ids differ and each has a reference."""
  if not rows:
    raise ValueError(f"{place}: no predictions in it.")
  counts = Counter(row["id"] for row in rows)
  if twice := [name for name, count in counts.items() if count > 1]:
    raise ValueError(f"{place}: {len(twice)} ids occur twice, among them {twice[0]!r}.")
  for row in rows:
    if not row["reference"].strip():
      raise ValueError(f"{place}: the reference of id {row['id']!r} is empty.")
    labels = row.get("labels")
    if labels is not None and not _are_labels(labels):
      raise ValueError(
        f"{place}: labels of id {row['id']!r} must be {len(LABELS)} integers from "
        "-2 to 1."
      )
    truth = row.get("truth")
    if truth is not None and not _are_facts(truth):
      raise ValueError(
        f"{place}: truth of id {row['id']!r} must be a list of facts, their words as "
        "docs/scores.md has them."
      )
    if not isinstance(row.get("has_prior"), bool | np.bool_ | None):
      raise ValueError(f"{place}: has_prior of id {row['id']!r} must be true or false.")
    if not _is_number(row.get("prior_days")):
      raise ValueError(f"{place}: prior_days of id {row['id']!r} must be a number.")


def _are_labels(labels) -> bool:
  whole = lambda value: isinstance(value, int | np.integer)
  return (
    isinstance(labels, Sequence | np.ndarray)
    and len(labels) == len(LABELS)
    and all(whole(v) and not isinstance(v, bool) and v in STATES for v in labels)
  )


def _are_facts(truth) -> bool:
  return isinstance(truth, Sequence) and all(map(_is_fact, truth))


def _is_fact(fact) -> bool:
  if not isinstance(fact, Mapping) or "label" not in fact:
    return False
  if not all(isinstance(value, str) for value in fact.values()):
    return False
  return all(fact.get(name, words[0]) in words for name, words in _WORDS.items())


def _is_number(days) -> bool:
  if days is None:
    return True
  return isinstance(days, int | float) and abs(days) < 1e9  # Nor is it nan.


def patients(rows: Sequence[Mapping]) -> list[str]:
  """Whose each study is: the units of resampling."""
  return [str(row.get("patient_id") or row["id"]) for row in rows]


def with_prior(rows: Sequence[Mapping]) -> np.ndarray:
  """Whether each study has a prior (n,); every one where `tells_priors` is false.

  A row says so by `has_prior`, else by a `prior_report`.
  """
  if not tells_priors(rows):
    return np.ones(len(rows), bool)
  return np.array(
    [bool(row.get("has_prior", row.get("prior_report"))) for row in rows], bool
  )


def tells_priors(rows: Sequence[Mapping]) -> bool:
  """Whether any row says if its study has a prior."""
  return any("has_prior" in row or "prior_report" in row for row in rows)


def count_with_prior(rows: Sequence[Mapping]) -> int | None:
  """How many studies have a prior; None where no row says so."""
  return int(with_prior(rows).sum()) if tells_priors(rows) else None


def write(path: str | os.PathLike, rows: Iterable[Mapping]) -> None:
  """Writes the studies whole or not at all, readable by their owner only."""
  lines = (
    json.dumps(dict(row), ensure_ascii=False, default=lambda x: x.tolist()) + "\n"
    for row in rows
  )
  write_private(path, "".join(lines))


def write_private(path: str | os.PathLike, text: str) -> None:
  """Writes a file whole or not at all, with mode 0600 whatever the umask.

  A link is followed; what is there and no file, such as a device, raises OSError.
  """
  named, path = path, Path(os.path.realpath(path))
  if path.exists() and not path.is_file():
    raise OSError(errno.EINVAL, "is there already, and is no file", str(named))
  # One name for all attempts: what a killed one leaves, the next one overwrites.
  partial = path.with_name(f".{path.name}.tmp")
  try:
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
      os.fchmod(descriptor, 0o600)
      file.write(text)
      file.flush()
      os.fsync(descriptor)
    os.replace(partial, path)
  except OSError as error:
    raise OSError(error.errno, error.strerror, str(path)) from error
  finally:
    with contextlib.suppress(OSError):
      partial.unlink(missing_ok=True)


def _names(keys: Iterable) -> str:
  return ", ".join(str(key) for key in keys) or "none"
