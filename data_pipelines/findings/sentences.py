"""From a report to its sentences, and from a sentence to the words that are read."""

import re
from collections.abc import Iterator

from data_pipelines.findings import terms

_HEADING = re.compile(r"\b([A-Z][A-Z ]{3,}[A-Z])\s*:")
_READ = ("FINDINGS", "IMPRESSION", "CONCLUSION", "FINDINGS AND IMPRESSION")
_ABBREVIATION = re.compile(r"\b(dr|vs|e\.g|i\.e|approx)\.", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?;]+(?=\s|$)|\n\s*\n|:(?=\s)")
_SLASH = re.compile(r"(?<=[a-z])\s*/\s*(?=[a-z])")
_WORD = re.compile(r"[a-z0-9>]+(?:\.[0-9]+)?|,")


def _body(text: str) -> str:
  """Findings and impression of a report with headings; else all of it."""
  parts = _HEADING.split(text)
  read = [body for head, body in zip(parts[1::2], parts[2::2]) if head in _READ]
  return "\n\n".join(read) if read else text


def split(text: str) -> Iterator[str]:
  """The sentences that are read of a report, in lower case."""
  text = _ABBREVIATION.sub(r"\1", _body(text))
  for sentence in _SENTENCE_END.split(text):
    if sentence and not sentence.isspace():
      yield " ".join(sentence.lower().split())


def words_of(sentence: str) -> list[str]:
  """The words of a sentence, and its commas; what is short is spelt out."""
  for short, words in terms.SPELT_OUT:
    sentence = sentence.replace(short, words)
  sentence = _SLASH.sub(" or ", sentence)
  return _WORD.findall(sentence)
