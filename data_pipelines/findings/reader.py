"""Reads findings out of radiology prose, by rule.

Standard library only and fast, for it reads whole corpora. What a report means by a
word is in terms.py and modifiers.py; how words bind is in clause.py.
"""

import functools
from collections.abc import Iterator

from data_pipelines.findings.clause import SOUGHT, Clause, Mention, sides_of
from data_pipelines.findings.matcher import match
from data_pipelines.findings.sentences import split, words_of
from data_pipelines.records import Fact

# A side says nothing of these; what is bilateral by nature is one finding.
_SIDELESS = ("Cardiomegaly", "Enlarged Cardiomediastinum", "Edema")
HEART = "Cardiomegaly"
_LOBAR = ("Lung Opacity", "Consolidation", "Atelectasis", "Pneumonia", "Lung Lesion")


def _named(mention: Mention, change: str) -> tuple[tuple[str, ...], str]:
  """The labels that a mention is of, and their status."""
  status = "absent" if change == "resolved" else mention.status
  if status == SOUGHT:
    return (), ""
  if mention.kind == "finding":
    return mention.value, status
  if mention.kind == "device":
    return ("Support Devices",), status
  if mention.kind == "other":
    return (), ""
  subject = mention.value
  if status == "absent" and change != "resolved":
    return subject.denied, status
  large = change == "larger" or (mention.is_large and subject.asserted == HEART)
  if status == "" and large:
    status = "present"
  if not subject.asserted or not status:
    return (), ""
  return (subject.asserted,), status if status != "present" else subject.status


def _facts(mention: Mention) -> Iterator[Fact]:
  for quality in mention.qualities:
    change = quality.get("change", "")
    if mention.taken_for or (mention.status == "absent" and change != "resolved"):
      change = ""
    labels, status = _named(mention, change)
    gone = status == "absent"
    for label in labels:
      location = quality.get("place", ((), ""))[1] if label in _LOBAR else ""
      if label == "Support Devices":
        location = mention.value
      sides = () if label in _SIDELESS else sides_of(quality)
      for side in sides or ("",):
        yield Fact(
          label,
          side=side,
          location=location,
          severity="" if gone else quality.get("grade", ""),
          status=status,
          change=change,
        )


@functools.lru_cache(maxsize=16384)
def _read_sentence(sentence: str) -> tuple[Fact, ...]:
  marks = match(words_of(sentence))
  return tuple(fact for mention in Clause(marks).mentions for fact in _facts(mention))


def read(text: str) -> tuple[Fact, ...]:
  """The facts that a report states, in its order; equal facts once."""
  facts = (fact for sentence in split(text) for fact in _read_sentence(sentence))
  return tuple(dict.fromkeys(facts))
