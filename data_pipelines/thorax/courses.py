"""How findings and devices come, change and go from one study to the next.

The stationary severity of a course is near uniform and its changes are frequent, so
that a finding that looks the same may as well be new, larger, smaller or unchanged:
only the prior study tells.
"""

import dataclasses

import numpy as np

from data_pipelines import records
from data_pipelines.thorax.finding import Finding

MAX_PRESENT, MAX_MENTIONED = 4, 5  # Findings a study, without and with the resolved.
LEAST = 0.1  # The slightest severity: less could not be seen.
LARGER, UNCHANGED = 0.25, 0.05  # Severities never differ by anything in between.
CHANGES, REACH = 0.55, 0.4  # How often a severity moves; how far beyond LARGER.
DEVICES = ("ett", "ngt", "central_line", "chest_tube", "pacemaker")


@dataclasses.dataclass(frozen=True)
class _Course:
  prevalence: float  # On each side, for what has sides.
  resolves: float  # Probability of being gone at the next study.
  changes: bool = True
  sided: bool = True


# Common and rare as in a hospital's films, but that nothing is rarer than 5 %.
_COURSES = {
  "effusion": _Course(0.145, 0.27),
  "pneumothorax": _Course(0.037, 0.30),
  "nodule": _Course(0.036, 0.20),
  "fracture": _Course(0.036, 0.20, changes=False),
  "pleural_thickening": _Course(0.032, 0.18),
  "cardiomegaly": _Course(0.25, 0.18, sided=False),
  "edema": _Course(0.19, 0.30, sided=False),
  "mediastinum": _Course(0.068, 0.20, sided=False),
}
# On each side a patient gets one of these, so that one shadow has one name.
_AIRSPACE = {"opacity": 0.59, "consolidation": 0.15, "atelectasis": 0.26}
_AIRSPACE_COURSE = _Course(0.30, 0.28)
_LOBES = {"left": ("upper", "lower"), "right": ("upper", "middle", "lower")}
_LOBAR = ("nodule", *_AIRSPACE)


def grade(severity: float) -> str:
  """mild, moderate or severe, by thirds."""
  return records.SEVERITIES[1 + min(int(severity * 3), 2)]


def _next_severity(rng: np.random.Generator, severity: float) -> float:
  """The severity one study later: near and of the same grade, or well away."""
  if rng.random() < CHANGES:
    low, high = severity - LARGER - 0.01, severity + LARGER + 0.01
    if low < LEAST or (high <= 1 and rng.random() < 0.5):
      return float(rng.uniform(high, min(high + REACH, 1)))
    return float(rng.uniform(max(low - REACH, LEAST), low))
  near = severity + rng.uniform(-1, 1) * (UNCHANGED - 0.01)
  same = LEAST <= near <= 1 and grade(near) == grade(severity)
  return float(near) if same else severity


class Patient:
  """What a patient has; `advance` moves all of it to the next study."""

  def __init__(self, rng: np.random.Generator):
    self._rng = rng
    # Some people are hardly ever ill.
    self._frailty = 0.35 if rng.random() < 0.4 else 1.4
    self._courses = {}  # Finding of severity 0, at its place -> its course.
    for name, course in _COURSES.items():
      for side in ("left", "right") if course.sided else ("",):
        self._courses[self._place(name, side)] = course
    names, shares = tuple(_AIRSPACE), tuple(_AIRSPACE.values())
    for side in _LOBES:
      name = names[rng.choice(len(names), p=shares)]
      self._courses[self._place(name, side)] = _AIRSPACE_COURSE
    self._severity = None  # Place -> severity, of what is present.
    self._device_seeds = {name: int(rng.integers(2**31)) for name in DEVICES}
    self._devices = {}  # Name -> side.

  def _place(self, name: str, side: str) -> Finding:
    lobe = str(self._rng.choice(_LOBES[side])) if name in _LOBAR else ""
    return Finding(name, side, lobe, seed=int(self._rng.integers(2**31)))

  def advance(self) -> tuple[Finding, ...]:
    """The findings and devices of the next study; of the first, at first."""
    first = self._severity is None
    before = self._severity or {}
    self._severity = self._persisting(before)
    self._add_onsets(before, first)
    self._devices = self._next_devices()
    findings = [
      dataclasses.replace(place, severity=self._severity[place])
      for place in self._courses
      if place in self._severity
    ]
    devices = [
      Finding(name, self._devices[name], seed=self._device_seeds[name])
      for name in DEVICES
      if name in self._devices
    ]
    return (*findings, *devices)

  def _persisting(self, before: dict) -> dict:
    after = {}
    for place, severity in before.items():
      course = self._courses[place]
      if self._rng.random() >= course.resolves:
        changes = course.changes
        after[place] = _next_severity(self._rng, severity) if changes else severity
    return after

  def _add_onsets(self, before: dict, first: bool) -> None:
    """New findings, at the rate that keeps the prevalence over the studies."""
    places = tuple(self._courses)
    mentioned = len(before)
    for i in self._rng.permutation(len(places)):
      place = places[i]
      full = len(self._severity) >= MAX_PRESENT or mentioned >= MAX_MENTIONED
      if full or place in before:
        continue
      course = self._courses[place]
      share = min(course.prevalence * self._frailty, 0.8)
      onset = share if first else course.resolves * share / (1 - share)
      if self._rng.random() < onset:
        self._severity[place] = float(self._rng.uniform(LEAST, 1))
        mentioned += 1

  def _next_devices(self) -> dict[str, str]:
    """Tubes and lines go with the gravely ill, a drain with what it drains."""
    rng, had = self._rng, self._devices
    severe = any(severity > 2 / 3 for severity in self._severity.values())
    ill = rng.random() < 0.02 + 0.04 * len(self._severity) + 0.14 * severe
    devices = {}
    for name, share in (("ett", 0.5), ("ngt", 0.5), ("central_line", 0.35)):
      stays = name in had and rng.random() < 0.5
      if stays or rng.random() < (share if ill else 0.01):
        devices[name] = ""
    if "central_line" in devices:
      devices["central_line"] = had.get("central_line") or str(
        rng.choice(("left", "right"), p=(0.3, 0.7))
      )
    drained = [
      place.side
      for place, severity in self._severity.items()
      if place.name in ("effusion", "pneumothorax") and severity > 1 / 3
    ]
    if had.get("chest_tube") in drained and rng.random() < 0.6:
      devices["chest_tube"] = had["chest_tube"]
    elif drained and "chest_tube" not in had and rng.random() < 0.25:
      devices["chest_tube"] = drained[0]
    weak = any(place.name == "cardiomegaly" for place in self._severity)
    if "pacemaker" in had:
      devices["pacemaker"] = had["pacemaker"]
    elif len(devices) < 3 and rng.random() < (0.10 if weak else 0.025):
      devices["pacemaker"] = "left" if rng.random() < 0.8 else "right"
    return devices


def single(rng: np.random.Generator, name: str) -> Finding:
  """One finding alone, somewhere, at least moderate."""
  has_side = name in _AIRSPACE or _COURSES[name].sided
  side = str(rng.choice(("left", "right"))) if has_side else ""
  lobe = str(rng.choice(_LOBES[side])) if name in _LOBAR else ""
  severity = float(rng.uniform(1 / 3, 1))
  return Finding(name, side, lobe, severity, int(rng.integers(2**31)))
