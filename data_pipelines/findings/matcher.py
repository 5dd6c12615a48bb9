"""Finds the phrases of terms.py and modifiers.py in a list of words."""

import re
from collections.abc import Iterable, Iterator, Sequence
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
    "uncertain": modifiers.UNCERTAIN,
    "taken_for": modifiers.TAKEN_FOR,
    **modifiers.GRAMMAR,
    "ignored": modifiers.IGNORED,
  }
  for kind, phrases in single.items():
    yield kind, "", phrases


Index = dict[str, list[tuple[tuple[str, ...], object]]]


def index(entries: Iterable[tuple[str, object]]) -> Index:
  """First word -> the phrases that begin with it and their meaning, longest first.

  `entries` are (phrase, meaning), each phrase for all of its spellings; of two equal
  ones the later wins.
  """
  meanings = {}
  for phrase, meaning in entries:
    for text in expand(phrase):
      meanings[tuple(text.split())] = meaning
  found = {}
  for words in sorted(meanings, key=len, reverse=True):
    found.setdefault(words[0], []).append((words, meanings[words]))
  return found


def spans(words: Sequence[str], phrases: Index) -> Iterator[tuple[int, int, object]]:
  """(start, end, meaning) of the phrases in a sentence; words without one are passed.

  From left to right, the longest first, never overlapping.
  """
  i = 0
  while i < len(words):
    for phrase, meaning in phrases.get(words[i], ()):
      length = len(phrase)
      if length == 1 or tuple(words[i : i + length]) == phrase:
        yield i, i + length, meaning
        i += length
        break
    else:
      i += 1


INDEX = index(
  (phrase, Mark(kind, value)) for kind, value, phrases in _rows() for phrase in phrases
)


def match(words: Sequence[str]) -> list[Mark]:
  """The marks of a sentence, in order; words without a meaning are left out."""
  return [mark for _, _, mark in spans(words, INDEX)]
