"""What a report, or a list of facts, says in all: fourteen labels, and changes."""

from collections.abc import Iterable

import numpy as np

from data_pipelines import records
from data_pipelines.findings import reader

CHANGED = ("new", "larger", "smaller", "resolved")
_VALUES = {
  "present": records.PRESENT,
  "uncertain": records.UNCERTAIN,
  "absent": records.ABSENT,
}
# A label said to be present somewhere is present, whatever is said elsewhere.
_PRECEDENCE = (
  records.UNMENTIONED,
  records.ABSENT,
  records.UNCERTAIN,
  records.PRESENT,
)


def _facts(source: str | Iterable[records.Fact]) -> Iterable[records.Fact]:
  return reader.read(source) if isinstance(source, str) else source


def labels(source: str | Iterable[records.Fact]) -> np.ndarray:
  """The labels of a text or of facts, as records.LABELS: int8 (14,).

  No Finding is present where nothing but support devices is present or uncertain,
  and unmentioned otherwise.
  """
  values = dict.fromkeys(records.LABELS, records.UNMENTIONED)
  for fact in _facts(source):
    value = _VALUES[fact.status]
    values[fact.label] = max(values[fact.label], value, key=_PRECEDENCE.index)
  found = {
    label
    for label, value in values.items()
    if value in (records.PRESENT, records.UNCERTAIN)
  }
  if not found - {"Support Devices", "No Finding"}:
    values["No Finding"] = records.PRESENT
  return np.array(list(values.values()), np.int8)


def changes(
  source: str | Iterable[records.Fact], among: Iterable[str] = CHANGED
) -> frozenset[tuple[str, str, str]]:
  """(label, side, change) of a text or of facts, for the changes `among` those."""
  among = frozenset(among)
  return frozenset(
    (fact.label, fact.side, fact.change)
    for fact in _facts(source)
    if fact.change in among
  )
