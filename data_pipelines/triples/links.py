"""Which entity of a sentence says what of which: the rules behind the relations.

All functions take the spans of one sentence and speak of them by number.
"""

from collections.abc import Iterator, Sequence

from data_pipelines.triples.grammar import JOINS, STATES, Span

Spans = Sequence[Span]
_WHERE = ("side", "place")
_ENDS_SUGGESTION = ("be", "no", "with", "existence", "break")
_ENDS_SUGGESTION += ("not_seen", "uncertain_after")
_PASSED = ("modifier", "part")  # What may stand inside the name of something.


def _kind(spans: Spans, i: int) -> str:
  return spans[i].kind if 0 <= i < len(spans) else ""


def _passes(span: Span) -> bool:
  return span.role in _PASSED or span.kind in ("article", "ignored", "change")


def _next(spans: Spans, i: int) -> int:
  """The first span after i that is no modifier, part or article."""
  i += 1
  while i < len(spans) and _passes(spans[i]):
    i += 1
  return i


def _before(spans: Spans, i: int) -> int:
  """The last span before i that is no modifier, part or article; -1 if none is."""
  i -= 1
  while i >= 0 and _passes(spans[i]):
    i -= 1
  return i


def _role(spans: Spans, i: int) -> str:
  return spans[i].role if 0 <= i < len(spans) else ""


def is_compound(spans: Spans, i: int) -> bool:
  """Whether a name goes on with the next span: "lung base", "granuloma formation"."""
  if spans[i].role == "anatomy":
    return _whole(spans, i) != i
  if _role(spans, i + 1) != "observation" or spans[i].kind == "normal":
    return False
  after = spans[i + 1]
  return after.kind not in STATES and after.start == spans[i].end


def modified(spans: Spans, i: int) -> int:
  """What a modifier is said of: the next entity, or else the last; -1 if none is."""
  for found in (
    _modified_ahead(spans, i, alike=True),
    _modified_before(spans, i),
    _modified_ahead(spans, i, alike=False),
  ):
    if found >= 0:
      return found
  return -1


def _modified_ahead(spans: Spans, i: int, *, alike: bool) -> int:
  """The next entity; beyond "and" only if modifiers, `alike` in kind, are joined."""
  where = spans[i].kind in _WHERE
  said_after = _kind(spans, _before(spans, i)) == "be"
  anatomy = -1
  for j in range(i + 1, len(spans)):
    span = spans[j]
    if span.role == "observation":
      return anatomy if span.kind in STATES and anatomy >= 0 else j
    if span.role == "anatomy":
      if where:
        return j
      anatomy = j
    elif span.kind == "at":
      if anatomy >= 0 or said_after:
        break
    elif span.kind in JOINS:
      if not (_role(spans, j - 1) == _role(spans, j + 1) == "modifier"):
        break
      if alike and where != (_kind(spans, j + 1) in _WHERE):
        break
    elif not _passes(span):
      break
  return anatomy


def _modified_before(spans: Spans, i: int) -> int:
  """The last entity; what is seen rather than where, but where for what is where."""
  state = -1
  for j in range(i - 1, -1, -1):
    if spans[j].role == "anatomy":
      seen = _seen_there(spans, j) if spans[i].kind not in _WHERE else -1
      return seen if seen >= 0 else j
    if spans[j].role == "observation" and spans[j].kind not in STATES:
      return j
    if spans[j].role == "observation" and spans[j].kind != "normal":
      state = j
  return state


def _seen_there(spans: Spans, i: int) -> int:
  """The observation that an anatomy is the place of: "opacity in the lung"; or -1."""
  while _role(spans, i) == "anatomy":
    i = _before(spans, i)
  if _kind(spans, i) != "at":
    return -1
  i = _before(spans, i)
  i = _before(spans, i) if _kind(spans, i) == "be" else i
  return i if _role(spans, i) == "observation" else -1


def _named_with(spans: Spans, i: int) -> int:
  """The anatomy in the name of an observation: "pleural effusion"; -1 if none is."""
  j = _before(spans, i)
  while j >= 0 and spans[j].role == "observation" and is_compound(spans, j):
    j = _before(spans, j)
  return j if _role(spans, j) == "anatomy" else -1


def _whole(spans: Spans, i: int) -> int:
  """The last word of a compound anatomy: the base of "lung base"."""
  while _role(spans, i + 1) == "anatomy" and spans[i + 1].start == spans[i].end:
    i += 1
  return i


def _places_ahead(spans: Spans, i: int) -> Iterator[int]:
  """Where an observation is said to be, after it: "in the left lung and pleura"."""
  found = False
  j = i + 1
  while j < len(spans):
    span = spans[j]
    if span.role == "anatomy":
      j = _whole(spans, j)
      after = _next(spans, j)
      if _role(spans, after) == "observation" and spans[after].kind not in STATES:
        return
      if found and (_role(spans, after) or _kind(spans, after) == "be"):
        return
      found = True
      yield j
    elif span.kind == "be":
      if found or spans[i].kind in STATES:
        return
    elif span.kind in JOINS:
      after = _next(spans, j)
      apart = span.kind == "comma" and _kind(spans, after) == "at"
      after = _next(spans, after) if _kind(spans, after) == "at" else after
      if not (found or apart) or _role(spans, after) != "anatomy":
        return
    elif span.kind != "at" and not _passes(span):
      return
    j += 1


def _subjects(spans: Spans, i: int) -> list[int]:
  """What an adjective is said of, before it: "heart and mediastinum are normal"."""
  found, joined = [], 0
  for j in range(i - 1, -1, -1):
    span = spans[j]
    if span.role == "anatomy":
      if not is_compound(spans, j):
        found.append(j)
    elif span.kind in JOINS:
      joined = len(found)
    elif span.kind == "at" and found:
      owner = _before(spans, j)
      owner = _before(spans, owner) if _kind(spans, owner) == "be" else owner
      # The place of something else: "calcification of the aorta, normal heart".
      return found[:joined] if _role(spans, owner) == "observation" else found
    elif span.role == "observation" or span.kind in ("existence", "with", "break"):
      break
  return found


def _own_places(spans: Spans, i: int) -> list[int]:
  """The places that an observation alone has: in its name, or as its subjects."""
  named = _named_with(spans, i)
  if spans[i].kind not in STATES:
    return [named] if named >= 0 else []
  if _role(spans, _next(spans, i)) == "anatomy":
    return list(_places_ahead(spans, i))
  return _subjects(spans, i)


def places(spans: Spans) -> Iterator[tuple[int, int]]:
  """(observation, anatomy) for all that is located: by its words, or else nearest."""
  seen = [i for i, span in enumerate(spans) if span.role == "observation"]
  seen = [i for i in seen if not is_compound(spans, i)]
  own = {i: _own_places(spans, i) for i in seen}
  taken = {place for several in own.values() for place in several}
  for i in seen:
    found = list(own[i])
    if spans[i].kind not in STATES:
      found += _places_ahead(spans, i)
    yield from ((i, place) for place in dict.fromkeys(found or _near(spans, i, taken)))


def _near(spans: Spans, i: int, taken: set[int]) -> list[int]:
  """The nearest anatomy between two commas or cues that nothing else has for itself."""
  ends = lambda j: spans[j].kind in ("comma", "break") or spans[j].role == "cue"
  first = max((j + 1 for j in range(i) if ends(j)), default=0)
  last = next((j for j in range(i, len(spans)) if ends(j)), len(spans))
  free = [
    j
    for j in range(first, last)
    if spans[j].role == "anatomy" and j not in taken and not is_compound(spans, j)
  ]
  return sorted(free, key=lambda j: abs(spans[j].start - spans[i].start))[:1]


def _suggested(spans: Spans, cue: int) -> Iterator[int]:
  """What a cue suggests: the next observation, and those joined to it."""
  for j in range(cue + 1, len(spans)):
    span = spans[j]
    if span.role == "observation":
      if span.kind not in STATES and not is_compound(spans, j):
        yield j
    elif span.kind == "comma":
      if _kind(spans, j + 1) not in ("and", "or") and _role(spans, j + 1) != "cue":
        return
    elif span.kind == "and":
      if _kind(spans, j + 1) in ("article", "grade", "change", "no"):
        return
    elif span.kind in _ENDS_SUGGESTION:
      return


def suggestions(spans: Spans) -> Iterator[tuple[int, int]]:
  """(what is seen, what it suggests) across "may represent" and the like."""
  for cue, span in enumerate(spans):
    if span.role != "cue":
      continue
    before = cue - 1
    while _kind(spans, before) in ("comma", "change", "grade"):
      before -= 1
    if _kind(spans, before) in ("", "and", "or", "with", "existence", "no", "break"):
      continue
    seen = next(
      (
        j
        for j in range(before, -1, -1)
        if spans[j].role == "observation" and spans[j].kind != "normal"
      ),
      -1,
    )
    if seen >= 0:
      yield from ((seen, j) for j in dict.fromkeys(_suggested(spans, cue)))
