"""A sentence as spans: its words of meaning, what each is, and whether it is there."""

from collections.abc import Sequence
from typing import NamedTuple

from data_pipelines.findings.clause import HEADS, SOUGHT, Clause
from data_pipelines.findings.matcher import spans
from data_pipelines.triples.lexicon import INDEX, Term

JOINS = ("and", "or", "comma")
STATES = ("normal", "abnormal", "borderline")  # Adjectives that are observations.
_WITHIN_PREDICATE = ("be", "grade", "change", "ignored", "article", "at")


class Span(NamedTuple):
  """A phrase in its place: words[start:end]."""

  start: int
  end: int
  kind: str  # As the clause knows it: finding, side, no, and, ...
  role: str  # observation, anatomy, modifier, part, cue or "".
  status: str = ""  # Of an observation: present, absent or uncertain.
  owner: int = -1  # Of a part: the anatomy that it is of, as its number.


def _owner(terms: Sequence[tuple[int, int, Term]], i: int) -> int:
  """The anatomy whose size, silhouette or the like this is; -1 if it is not said."""
  for j in range(i - 1, -1, -1):
    _, end, term = terms[j]
    if terms[j + 1][0] != end or term.role not in ("anatomy", "part", "measure"):
      break
    if term.role == "anatomy":
      return j
  follows = [term for _, _, term in terms[i + 1 : i + 2]]
  if follows and follows[0].mark.kind == "at":
    for j in range(i + 2, len(terms)):
      role = terms[j][2].role
      if role == "anatomy":
        return j
      if role != "modifier":
        break
  return -1


def _statuses(terms: Sequence[tuple[int, int, Term]]) -> list[str]:
  """The status of each term, by the clause; "" for all but observations."""
  read = [i for i, (_, _, term) in enumerate(terms) if term.mark.kind != "at"]
  clause = Clause([terms[i][2].mark for i in read])
  kinds = [term.mark.kind for _, _, term in terms]
  found = [""] * len(terms)
  heads = (i for i in read if kinds[i] in HEADS)
  for i, mention in zip(heads, clause.mentions):
    gone = any(quality.get("change") == "resolved" for quality in mention.qualities)
    found[i] = "absent" if gone else mention.status
  for i, status in zip(read, clause.statuses):
    if kinds[i] in STATES:
      found[i] = _state(kinds, i, status)
  return found


def _state(kinds: Sequence[str], i: int, status: str) -> str:
  """The status of an adjective: what is said after "is" is denied by its own "not"."""
  if kinds[i] == "borderline":
    return "uncertain"
  for j in range(i - 1, -1, -1):
    if kinds[j] in ("no", "uncertain"):
      return status
    if kinds[j] == "be" and "no" not in kinds[max(j - 1, 0) : j]:
      return "present"
    if kinds[i] == "normal" and kinds[j] not in _WITHIN_PREDICATE:
      return "present"
  return "present" if kinds[i] == "normal" else status


def read(words: Sequence[str]) -> list[Span]:
  """The spans of a sentence, in order; words without a meaning are left out."""
  terms = list(spans(words, INDEX))
  found = []
  for i, (status, (start, end, term)) in enumerate(zip(_statuses(terms), terms)):
    kind, role, owner = term.mark.kind, term.role, -1
    if role in ("part", "measure"):
      owner = _owner(terms, i)
      role = "part" if owner >= 0 else "anatomy" if role == "part" else ""
    if role == "observation" and status == SOUGHT:
      role = ""
    status = status if role == "observation" else ""
    found.append(Span(start, end, kind, role, status, owner))
  return found
