"""The sections of a free-text report, as MIMIC-CXR's reports head them.

A header opens a line and ends with a colon, or is in capitals: then it may stand in a
line's middle, or alone on a line without its colon. Text under no header is of no
section: so a report without headers has no findings, nor has one whose findings merely
follow its comparison. Findings and impression under one header are findings.
"""

import difflib
import functools
import re
from collections.abc import Iterator

# By what a header says: the first of them that it names is its section. What tells of
# the report and not of the film comes first.
_WORDS = {
  "": ("NOTIFICATION", "NOTIFICATIONS", "ATTESTATION", "COMMUNICATION"),
  "findings": ("FINDINGS", "FINDING"),
  "impression": ("IMPRESSION", "IMPRESSIONS", "CONCLUSION", "CONCLUSIONS"),
  "indication": ("INDICATION", "INDICATIONS", "REASON"),
  "history": ("HISTORY", "CLINICAL"),
  "comparison": ("COMPARISON", "COMPARISONS", "REFERENCE"),
  "technique": ("TECHNIQUE", "TECHNIQUES", "PROCEDURE", "PROCEDURES"),
}
_SECTIONS = {word: name for name, words in _WORDS.items() for word in words}
_RANKS = {name: rank for rank, name in enumerate(_WORDS)}
# Headers of what is left out, if they consist of such words only.
_LEFT_OUT = frozenset(
  (
    *("EXAMINATION", "EXAMINATIONS", "EXAM", "EXAMS", "STUDY", "STUDIES", "DATE"),
    *("TIME", "TYPE", "COMMENT", "COMMENTS", "RECOMMENDATION", "RECOMMENDATIONS"),
    *("DICTATED", "SIGNED", "DOSE"),
  )
)
_FILLERS = frozenset(
  (
    *("AND", "OR", "OF", "FOR", "THE", "THIS", "TO", "S", "INFORMATION", "DATA"),
    *("PATIENT", "FILM", "FILMS", "PRIOR", "RELEVANT", "PERTINENT", "FINAL"),
  )
)
_PLAIN = _FILLERS | _LEFT_OUT | _SECTIONS.keys()
_MISSPELT = ("FINDINGS", "IMPRESSION", "INDICATION", "COMPARISON", "TECHNIQUE")
_LIKENESS = 0.87  # One letter of FINDINGS; COMPRESSION is no misspelt IMPRESSION.
_HISTORIES = frozenset(("indication", "history", "comparison", "technique"))
_REPORTED = frozenset(("findings", "impression"))

_NONE, _FILM, _OTHER = "", "film", "other"
# A header in capitals that names the film heads findings, where nothing else does.
_FILM_NAMED = re.compile(
  r"\b(CHEST|PORTABLE|RADIOGRAPHS?|VIEWS?|FRONTAL|LATERAL|PA|AP|RIBS)\b"
)
_OTHER_FILM = re.compile(r"\b(PRIOR|PREVIOUS|CT|MRI?|PET|ULTRASOUND)\b")
_SENTENCE = re.compile(r"[a-z]\.(\s|$)")

_TITLE = re.compile(r"FINAL REPORT\b:?")
_ASIDE = re.compile(
  r"(WET ?READ|(FINAL )?ADDENDUM|PRELIMINARY (REPORT|READ)|PROVISIONAL FINDINGS|PFI)\b"
  r"|(Wet read|Addendum)\b.*?:"
)
_RULE = re.compile(r"[_=*-]{10,}")
_LETTER, _WORD = re.compile(r"[^\W\d_]"), re.compile(r"\w")
_LONGEST = 60  # Characters of a header.
# A colon, but for that of a time.
_COLON = re.compile(r"(?<![0-9]):|:(?![0-9])")
_HEADER = re.compile(r"(?!(?:The|This|These|Of|For|To|And|Or)\b)[A-Z][A-Za-z ()/&,.-]*")
_CAPITALS = re.compile(r"[A-Z][A-Z0-9 ()/&,.:_#'-]{2,}")
# A maximal run of words in capitals, with a colon or without, so that no part of it is
# tried again.
_RUN = re.compile(
  r"(?<![A-Za-z])([A-Z]++(?![a-z])(?:[ \t/&]++[A-Z]++(?![a-z]))*+)[ \t]*+(:?)"
)
# FINDINGS The lungs are clear.
_BARE = re.compile(r"([A-Z]{7,12})(?:[;.][ \t]|[ \t]{2,}|[ \t](?=[A-Z][a-z]|___))")


def read(report: str) -> dict[str, str]:
  """The text of a report by section, in one line each; without what is empty.

  Sections are findings, impression, indication, history, comparison and technique. Of
  one that comes twice, both texts are joined. Wet reads and addenda are left out. Text
  headed by the name of a film counts as findings if nothing else is.
  """
  found: dict[str, list[str]] = {}
  for section, text in _parts(report):
    found.setdefault(section, []).append(text)
  film = " ".join(found.pop(_FILM, ()))
  texts = {name: " ".join(" ".join(parts).split()) for name, parts in found.items()}
  # A blank alone may be the date of a comparison, but is no finding.
  told = {
    name: text
    for name, text in texts.items()
    if (_LETTER if name in _REPORTED else _WORD).search(text)
  }
  if "findings" not in told and _SENTENCE.search(film):
    told["findings"] = " ".join(film.split())
  return told


def _parts(report: str) -> Iterator[tuple[str, str]]:
  """The pieces of text that are of a section, with its name, in order."""
  lines = [line.strip() for line in report.split("\n")]
  closes = lambda line: _TITLE.match(line) or _RULE.fullmatch(line)
  last = max((n for n, line in enumerate(lines) if closes(line)), default=-1)
  section, is_aside, is_begun, is_told = _NONE, False, False, False
  for number, line in enumerate(lines):
    if closes(line):
      if is_aside or line[0] == "F":
        section, is_aside = _NONE, False
      line = _TITLE.sub("", line, 1) if line[0] == "F" else ""
    if _ASIDE.match(line):
      section, is_aside = _NONE, True
    # What comes before the report ends with a rule or a title, or else where the report
    # tells of the patient or the film; what comes after it has no end.
    if is_aside:
      if number < last or is_begun or not _begins_a_report(line):
        continue
      is_aside = False
    if not line:
      # A second paragraph is what was seen, under no header: no history must tell it.
      if section in _HISTORIES and is_told:
        section = _NONE
      continue
    for header, opened, text in _cut(line):
      if opened == _FILM and section == "findings":
        opened = None
      elif opened in (_FILM, _OTHER) and section in _REPORTED:
        opened, text = None, f"{header} {text}"
      if opened is not None:
        section, is_begun, is_told = opened, True, False
      if section not in (_NONE, _OTHER) and text.strip():
        is_told = True
        yield section, text


def _begins_a_report(line: str) -> bool:
  _, opened, _ = next(_cut(line))
  return opened is not None and opened not in (*_REPORTED, _FILM, _OTHER)


def _cut(line: str) -> Iterator[tuple[str, str | None, str]]:
  """The headers in a line, what each opens, and the text up to the next.

  What precedes the first has an empty header, and opens None.
  """
  header, opened, start = "", None, 0
  colon = _COLON.search(line, 0, _LONGEST)
  if colon and (led := _opened(line[: colon.start()].rstrip())) is not None:
    header, opened, start = line[: colon.end()], led, colon.end()
  elif (led := _without_colon(line)) is not None:
    opened, start = led
    header = line[:start]
  for run in _RUN.finditer(line, start):
    if run[2] and len(run[1]) <= _LONGEST and (inner := _plain(run[1])) is not None:
      if header or run.start() > start:
        yield header, opened, line[start : run.start()]
      header, opened, start = run[0], inner, run.end()
  yield header, opened, line[start:]


def _without_colon(line: str) -> tuple[str, int] | None:
  """What a header without a colon opens, and where it ends."""
  if len(line) <= _LONGEST and line.isupper():
    section = _plain(line.rstrip(" .;-"))
    if section is not None:
      return section, len(line)
  bare = _BARE.match(line)
  if bare and bare[1] in _SECTIONS:
    return _SECTIONS[bare[1]], bare.end()
  return None


@functools.lru_cache(4096)
def _opened(header: str) -> str | None:
  """The section that a header before a colon opens; None if it is none, but text."""
  section = _plain(header)
  if section is not None or not _CAPITALS.fullmatch(header):
    return section
  if header.isalpha():
    alike = difflib.get_close_matches(header, _MISSPELT, 1, _LIKENESS)
    return _SECTIONS[alike[0]] if alike else _kind(header)
  named = [_SECTIONS[w] for w in re.findall("[A-Z]+", header) if w in _SECTIONS]
  return min(named, key=_RANKS.get) if named else _kind(header)


@functools.lru_cache(4096)
def _plain(header: str) -> str | None:
  """The section of a header of nothing but the words of headers; None of others."""
  if not _HEADER.fullmatch(header):
    return None
  words = re.findall("[A-Z]+", header.upper())
  if not _PLAIN.issuperset(words) or _FILLERS.issuperset(words):
    return None
  named = [_SECTIONS[word] for word in words if word in _SECTIONS]
  return min(named, key=_RANKS.get, default=_NONE)


def _kind(header: str) -> str:
  is_film = _FILM_NAMED.search(header) and not _OTHER_FILM.search(header)
  return _FILM if is_film else _OTHER
