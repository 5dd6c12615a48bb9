"""The clinical history that a model reads: which text it is, and that it leaks nothing.

Never findings or impression of the study itself (spec eir 3.1).
"""

import fractions
import re
from collections.abc import Mapping
from typing import Any

UNKNOWN, TIME, NUMBER = "<unk>", "<time>", "<num>"

# More of a target than this in one piece is no coincidence.
MAX_SHARE = fractions.Fraction(3, 5)


def clean(text: str) -> str:
  """Text as the history encoder takes it (spec eir 3.1).

  Lower case; one space for any whitespace; what was blanked out, times and numbers as
  UNKNOWN, TIME and NUMBER, in this order.
  """
  text = " ".join(text.lower().split())
  text = re.sub(r"__+", UNKNOWN, text)
  text = re.sub(r"\d+:\d+", TIME, text)
  return re.sub(r"\d+(\.\d+)?", NUMBER, text)


def history_of(record: Mapping[str, Any]) -> str:
  """The history of a record: its indication, then its history."""
  return clean(" ".join((record["indication"], record["history"])))


def check_leak(history: str, findings: str, study_id: str) -> None:
  """Raises ValueError, naming the study, where a history tells its own report.

  It does where one run of words, whatever their case and punctuation, is in both and
  is more than MAX_SHARE of the words of the findings.
  """
  if _leaks(history, findings):
    raise ValueError(
      f"The history of study {study_id} contains more than {float(MAX_SHARE):.0%} of "
      "its findings; leave the study out, or its history empty."
    )


def _leaks(history: str, findings: str) -> bool:
  told, target = (re.findall(r"\w+", clean(text)) for text in (history, findings))
  # A longer common run contains one of this length, so that it need not be found.
  length = int(MAX_SHARE * len(target)) + 1
  if not target or len(told) < length:
    return False
  return not _runs(told, length).isdisjoint(_runs(target, length))


def _runs(words: list[str], length: int) -> set[tuple[str, ...]]:
  starts = range(len(words) - length + 1)
  return {tuple(words[start : start + length]) for start in starts}
