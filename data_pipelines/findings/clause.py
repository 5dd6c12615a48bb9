"""The grammar of one clause: which words say what of which finding.

Heads (findings, devices, parts of the body) take the modifiers before them, up to
the last head, and share the predicate after them. Negation and doubt reach from
their word to the end of the clause, unless something plainly begins anew.
"""

import itertools
from collections.abc import Sequence

from data_pipelines.findings.matcher import Mark

HEADS = ("finding", "device", "subject", "other")
# What may stand between a modifier and its head.
_BEFORE_HEAD = (
    ("side", "place", "grade", "change", "normal", "abnormal", "borderline")
    + ("ignored", "earlier", "article")
)  # fmt: skip
_STATES = {"normal": "absent", "abnormal": "present", "borderline": "uncertain"}
SOUGHT = "sought"  # The status of what is looked for, and neither seen nor denied.


class Mention:
  """A head with all that is said of it."""

  def __init__(self, mark: Mark, qualities: list[dict], *, shares: bool):
    self.kind, self.value = mark
    self.status = "" if self.kind == "subject" else "present"
    self.taken_for = False  # An interpretation of what is seen, not seen itself.
    self.is_large = False  # As a heart may be said to be.
    # Kind of modifier -> value; one each where a head stands for several findings.
    self.qualities = qualities
    self._shares = shares  # Whether side and place are those of the head before.

  def add(self, kind: str, value) -> None:
    """A modifier after the head: the first one said holds, but before a shared one."""
    if self._shares and kind in ("side", "place"):
      own = ("grade", "change")
      self.qualities = [{k: v for k, v in self.qualities[0].items() if k in own}]
      self._shares = False
    for quality in self.qualities:
      if kind != "side" or not has_side(quality):
        quality.setdefault(kind, value)


def sides_of(quality: dict) -> tuple[str, ...]:
  """The sides that a modifier names, of its own or as part of a place."""
  return quality.get("side") or quality.get("place", ((), ""))[0]


def has_side(quality: dict) -> bool:
  return bool(sides_of(quality))


class Clause:
  """Reads the marks of a clause from left to right; `mentions` is the outcome."""

  def __init__(self, marks: Sequence[Mark]):
    self.mentions: list[Mention] = []
    self.statuses: list[str] = []  # In force after each mark.
    self._marks = marks
    self._window = 0  # The first mention that shares the predicate to come.
    self._negated = self._uncertain = self._taken_for = self._earlier = False
    self._sought = False
    self._scope = 0  # Mentions there were when negation or doubt began.
    self._predicate = False  # Whether one began since the last head.
    self._join = ""  # The last conjunction since the last head.
    self._apart = False  # Whether "with" or the like came since the last head.
    self._state = ""  # Of the part of the body to come: "enlarged heart".
    self._pending: list[dict] = [{}]
    for i, mark in enumerate(marks):
      self._read(i, mark)
      self.statuses.append(self._status())

  @property
  def _open(self) -> list[Mention]:
    return self.mentions[self._window :]

  def _read(self, i: int, mark: Mark) -> None:
    kind = mark.kind
    if kind in HEADS:
      self._head(i, mark)
    elif kind in ("side", "place", "grade", "change"):
      self._modifier(i, mark)
    elif kind == "removal":
      self._removal(i)
    elif kind in _STATES:
      self._set_state(i, _STATES[kind])
    elif kind in ("and", "or", "comma"):
      self._join = kind if self._join != "or" else "or"
      if self._pending[-1]:
        self._pending.append({})
    elif kind == "be":
      self._predicate = self._predicate or bool(self._open)
    elif kind == "no":
      self._negated, self._uncertain = True, False
      self._scope = self._window = len(self.mentions)
      self._predicate = False
    elif kind in ("not_seen", "uncertain_after"):
      self._after(kind)
    elif kind == "sought":
      self._sought, self._scope = True, len(self.mentions)
    elif kind == "uncertain" and self._ends_with(i):
      self._after("uncertain_after")
    elif kind in ("uncertain", "taken_for"):
      self._uncertain = self._uncertain or kind == "uncertain"
      self._scope = len(self.mentions) if not self._negated else self._scope
      self._taken_for = bool(self.mentions) and not self._pending[0]
      self._join, self._predicate = "", False
    elif kind == "earlier":
      self._earlier = True
    elif kind == "article":
      if self._join in ("and", "comma"):
        self._end_scope()
    elif kind in ("with", "existence", "break"):
      self._begin_anew(i, kind)

  def _begin_anew(self, i: int, kind: str) -> None:
    self._end_scope()
    if kind == "break" and not any(mark.kind in HEADS for mark in self._marks[i:]):
      return  # "enlarged but unchanged"
    self._taken_for, self._join, self._apart = False, "", True
    self._state = ""
    if kind != "with":
      self._window, self._predicate = len(self.mentions), False
    if kind == "break":
      self._negated = self._uncertain = False
      self._pending = [{}]

  def _end_scope(self) -> None:
    """Ends negation and doubt, if anything was said under them."""
    if len(self.mentions) > self._scope:
      self._negated = self._uncertain = self._sought = False

  def _ends_with(self, i: int) -> bool:
    """Whether a doubt is of what was named last, as nothing more is: "X suspected"."""
    follow = {mark.kind for mark in self._marks[i + 1 :]}
    return bool(self._open) and not self._join and not follow & {*HEADS, *_STATES}

  def _or_follows(self, i: int) -> bool:
    """Whether a list goes on to its "or": "no opacity, large effusion, or fracture"."""
    for mark in self._marks[i + 1 :]:
      if mark.kind == "or":
        return True
      if mark.kind not in (*HEADS, *_BEFORE_HEAD, "comma"):
        return False
    return False

  def _head_follows(self, i: int) -> bool:
    for mark in self._marks[i + 1 :]:
      if mark.kind in HEADS:
        return True
      if mark.kind not in _BEFORE_HEAD:
        return False
    return False

  def _modifier(self, i: int, mark: Mark) -> None:
    kind, value = mark
    predicative = self._predicate and not self._join and not self._apart
    if not self._open or (self._head_follows(i) and not predicative):
      self._pending[-1].setdefault(kind, value)
      return
    for mention in self._open:
      if not (kind == "change" and mention.taken_for):
        mention.add(kind, value)
      if predicative and (kind, value) == ("grade", "severe"):
        mention.is_large = True
    self._predicate = self._predicate or kind == "change"

  def _removal(self, i: int) -> None:
    """Of devices alone: what else is named stays as it is."""
    devices = [mention for mention in self._open if mention.kind == "device"]
    if not devices or self._head_follows(i):
      self._pending[-1].setdefault("change", "resolved")
    for device in devices:
      device.add("change", "resolved")
    self._predicate = self._predicate or bool(devices)

  def _set_state(self, i: int, state: str) -> None:
    """Normal, enlarged and the like, before or after the part of the body."""
    subjects = [mention for mention in self._open if mention.kind == "subject"]
    if not subjects and self.mentions and not self._head_follows(i):
      subjects = [m for m in self.mentions[-1:] if m.kind == "subject"]
    anew = self._join or self._apart
    said = state == "absent" and self._predicate and not anew
    if said and self._open and self._open[-1].kind == "finding":
      self._open[-1].status = state  # "engorgement is within normal limits"
    if not subjects or (anew and self._head_follows(i)):
      self._state = state
      return
    if state == "present":
      state = self._status()
    for subject in subjects:
      if self._join == "or" and subject.status not in ("", state):
        subject.status = "uncertain"  # "top normal or mildly enlarged"
      subject.status = subject.status or state
    self._predicate = True

  def _after(self, kind: str) -> None:
    """A predicate that denies or doubts what was just named."""
    for mention in self._open:
      if kind == "uncertain_after" and mention.status == "present":
        mention.status = "uncertain"
      elif kind == "not_seen" and self._earlier:
        mention.add("change", "resolved")
      elif kind == "not_seen":
        mention.status = "absent"
    self._predicate = True

  def _status(self) -> str:
    if self._sought:
      return SOUGHT
    if self._negated:
      return "absent"
    return "uncertain" if self._uncertain else "present"

  def _head(self, i: int, mark: Mark) -> None:
    own = [quality for quality in self._pending if quality]
    said = {kind: value for quality in own for kind, value in quality.items()}
    told_apart = "grade" in said or said.get("change", "new") != "new"
    told_apart = told_apart and not (self._negated and self._or_follows(i))
    if self._join != "or" and (self._predicate or (self._join and told_apart)):
      self._end_scope()
    if self._predicate or (self._taken_for and self._join and own):
      self._window = len(self.mentions)
      self._taken_for = False
    qualities, shares = self._qualities(mark, own)
    mention = Mention(mark, qualities, shares=shares)
    mention.taken_for = self._taken_for
    if mention.kind != "subject":
      mention.status = self._status()
      if self._state == "uncertain" and mention.status == "present":
        mention.status = "uncertain"  # "borderline cardiomegaly"
    elif self._state:
      mention.status = self._status() if self._state == "present" else self._state
    if self._join == "or" and mention.kind in ("finding", "other") and self._open:
      self._doubt_alternatives(mention)
    self.mentions.append(mention)
    if not (self._join and mention.kind == "subject"):
      self._state = self._state if mention.kind == "subject" else ""
    self._pending, self._predicate, self._join = [{}], False, ""
    self._apart = False

  def _doubt_alternatives(self, mention: Mention) -> None:
    """One or the other: neither is certain."""
    other = self.mentions[-1]
    if mention.status == other.status == "present" and other.kind == "finding":
      mention.status = other.status = "uncertain"
      self._uncertain, self._scope = True, len(self.mentions)

  def _qualities(self, mark: Mark, own: list[dict]) -> tuple[list[dict], bool]:
    """What the words before a head say of it, and whether it shares the last place."""
    if sum(map(has_side, own)) >= 2:
      return _distributed(own), False
    merged = {}
    for quality in own:
      for kind, value in quality.items():
        merged.setdefault(kind, value)
    last = self.mentions[-1] if self.mentions else None
    shares = self._taken_for or (self._join and self._open)
    if last is None or mark.kind != last.kind or not shares or has_side(merged):
      return [merged], False
    kinds = ["side", "place"]
    if not merged and not self._taken_for and not self._predicate:
      kinds.append("change")
    shared = [
      {kind: value for kind, value in quality.items() if kind in kinds}
      for quality in last.qualities
    ]
    return [quality | merged for quality in shared], True


def _distributed(own: list[dict]) -> list[dict]:
  """One for each side: "small left and moderate right", "left and right lower lobe"."""
  for earlier, later in itertools.pairwise(own):
    for kind in ("grade", "change"):
      if kind in earlier:
        later.setdefault(kind, earlier[kind])
  if "place" in own[-1] and not own[-1]["place"][0]:
    for quality in own:
      quality.setdefault("place", own[-1]["place"])
  return [quality for quality in own if has_side(quality)]
