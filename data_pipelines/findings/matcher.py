"""Finds the phrases of terms.py and modifiers.py in a list of words."""

import re
from typing import NamedTuple

from data_pipelines.findings import modifiers, terms


class Mark(NamedTuple):
  """A phrase found in a sentence: what kind it is of and what it means."""

  kind: str
  value: tuple | str = ""


def expand(phrase: str) -> list[str]:
  """All spellings of a phrase: `a[b]` -> a, ab; `(a|b)c` -> ac, bc."""
  inner = re.search(r"\[([^\[\]()]*)\]|\(([^\[\]()]*)\)", phrase)
  if inner is None:
    return [" ".join(phrase.split())]
  choices = (inner[1], "") if inner[1] is not None else inner[2].split("|")
  head, tail = phrase[: inner.start()], phrase[inner.end() :]
  return [text for choice in choices for text in expand(head + choice + tail)]


def _rows():
  yield "other", "", terms.OTHER
  for labels, phrases in terms.FINDINGS.items():
    yield "finding", labels, phrases
  for name, phrases in terms.DEVICES.items():
    yield "device", name, phrases
  for subject, phrases in terms.SUBJECTS.items():
    yield "subject", subject, phrases
  for value, phrases in modifiers.CHANGES.items():
    yield "change", value, phrases
  for value, phrases in modifiers.SIDES.items():
    yield "side", value, phrases
  for value, phrases in modifiers.PLACES.items():
    yield "place", value, phrases
  for value, phrases in modifiers.GRADES.items():
    yield "grade", value, phrases
  single = {
    "normal": modifiers.NORMAL,
    "abnormal": modifiers.ABNORMAL,
    "borderline": modifiers.BORDERLINE,
    "no": modifiers.NO,
    "not_seen": modifiers.NOT_SEEN,
    "uncertain": modifiers.UNCERTAIN,
    "uncertain_after": modifiers.UNCERTAIN_AFTER,
    "taken_for": modifiers.TAKEN_FOR,
    "earlier": modifiers.EARLIER,
    "and": modifiers.AND,
    "or": modifiers.OR,
    "comma": (",",),
    "be": modifiers.BE,
    "existence": modifiers.EXISTENCE,
    "with": modifiers.WITH,
    "break": modifiers.BREAKS,
    "article": modifiers.ARTICLES,
    "ignored": modifiers.IGNORED,
  }
  for kind, phrases in single.items():
    yield kind, "", phrases


def _index() -> dict[str, list[tuple[tuple[str, ...], Mark]]]:
  """First word -> the phrases that begin with it, the longest first.

  Of two equal phrases the later row wins.
  """
  entries = {}
  for kind, value, phrases in _rows():
    for phrase in phrases:
      for text in expand(phrase):
        entries[tuple(text.split())] = Mark(kind, value)
  index = {}
  for words in sorted(entries, key=len, reverse=True):
    index.setdefault(words[0], []).append((words, entries[words]))
  return index


INDEX = _index()


def match(words: list[str]) -> list[Mark]:
  """The marks of a sentence, in order; words without a meaning are left out."""
  marks, i = [], 0
  while i < len(words):
    for phrase, mark in INDEX.get(words[i], ()):
      length = len(phrase)
      if length == 1 or tuple(words[i : i + length]) == phrase:
        marks.append(mark)
        i += length
        break
    else:
      i += 1
  return marks
