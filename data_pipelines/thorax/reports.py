"""What a radiologist would write of a study: findings and impression.

Every fact of the truth is stated, with its change wherever there is a prior study,
so that the text determines the truth; what is not there is denied as space allows.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_pipelines.records import Fact
from data_pipelines.thorax import phrases
from data_pipelines.thorax.patients import Study

# Regions in the orders in which people go through a film.
_ORDERS = (
  ("devices", "lungs", "pleura", "heart", "bones"),
  ("heart", "lungs", "pleura", "bones", "devices"),
  ("lungs", "pleura", "heart", "bones", "devices"),
  ("devices", "heart", "lungs", "pleura", "bones"),
)
_REGION = {
  "Lung Opacity": "lungs",
  "Consolidation": "lungs",
  "Atelectasis": "lungs",
  "Edema": "lungs",
  "Lung Lesion": "lungs",
  "Pleural Effusion": "pleura",
  "Pneumothorax": "pleura",
  "Pleural Other": "pleura",
  "Cardiomegaly": "heart",
  "Enlarged Cardiomediastinum": "heart",
  "Fracture": "bones",
  "Support Devices": "devices",
}
# What an impression names first.
_URGENCY = (
  "Pneumothorax",
  "Consolidation",
  "Lung Opacity",
  "Pleural Effusion",
  "Edema",
  "Lung Lesion",
  "Enlarged Cardiomediastinum",
  "Fracture",
  "Cardiomegaly",
  "Atelectasis",
  "Pleural Other",
)
MAX_WORDS = 44  # Beyond it, nothing more is denied.
MANY = 6  # With as many things to say, each is said briefly.
# How often a region is spoken of where there is nothing; the first have precedence.
_DENIED = {"pleura": 0.95, "lungs": 0.95, "heart": 0.95, "bones": 0.7, "devices": 0.3}


@dataclasses.dataclass(frozen=True)
class Report:
  findings: str
  impression: str


@dataclasses.dataclass(frozen=True)
class _Item:
  """A fact as it is said: of one side or of both, with the cause it is taken for."""

  fact: Fact
  side: str
  cause: str = ""


def _pick(rng: np.random.Generator, options: Sequence):
  return options[int(rng.integers(len(options)))]


def _frame(rng: np.random.Generator, frames: Sequence[str], brief: bool) -> str:
  frame = _pick(rng, frames)
  return min(frame, _pick(rng, frames), key=len) if brief else frame


def _sentence(text: str) -> str:
  return text[0].upper() + text[1:] + "."


def _items(facts: Sequence[Fact]) -> list[_Item]:
  """What is to be said; equal findings of both sides are one, causes go with theirs."""
  causes = {}
  opacities = {
    fact.side
    for fact in facts
    if fact.label == "Lung Opacity" and fact.status == "present"
  }
  rest = []
  for fact in facts:
    interpreted = fact.label in ("Pneumonia", "Atelectasis") and not fact.severity
    if interpreted and fact.status == "present" and fact.side in opacities:
      causes[fact.side] = fact.label.lower()
    else:
      rest.append(fact)
  items = []
  for fact in rest:
    twin = dataclasses.replace(fact, side={"left": "right"}.get(fact.side, "left"))
    merges = fact.label == "Pleural Effusion" and fact.side and twin in rest
    if merges and fact.side == "left":
      items.append(_Item(fact, "bilateral"))
    elif not merges:
      cause = causes.get(fact.side, "") if fact.label == "Lung Opacity" else ""
      # A resolved opacity has no cause.
      items.append(_Item(fact, fact.side, cause if fact.severity else ""))
  return items


def _words(rng, item: _Item, template: str) -> str:
  """The sentence that `template` makes of a finding, without its capital and stop."""
  fact = item.fact
  article, grades, nouns = phrases.NOUNS[fact.label]
  place = _pick(rng, nouns).format(side=item.side, lobe=fact.location)
  plural = item.side == "bilateral"
  if plural:
    place, article = place.replace("effusion", "effusions"), ""
  np_ = f"{grades[fact.severity]} {place}" if fact.severity else place
  text = template.format(
    np=np_,
    place=place,
    a=f"{article} " if article else "",
    are="are" if plural else "is",
    have="have" if plural else "has",
  )
  if item.cause:
    text += _pick(rng, phrases.CAUSES).format(cause=item.cause)
  return text


def _finding(rng, item: _Item, brief: bool) -> str:
  fact = item.fact
  if fact.label in phrases.ENLARGED and fact.severity and rng.random() < 0.5:
    adverb = phrases.ADVERBS[fact.severity]
    stem = phrases.ENLARGED[fact.label].format(grade=adverb)
    return stem + _frame(rng, phrases.ENLARGED_TAILS[fact.change], brief)
  return _words(rng, item, _frame(rng, phrases.FRAMES[fact.change], brief))


def _device(rng, item: _Item, brief: bool) -> str:
  name, position = phrases.DEVICES[item.fact.location]
  device = name.format(side=item.side)
  article = "an " if device[0] in "aeiou" else "a "
  frame = _frame(rng, phrases.DEVICE_FRAMES[item.fact.change], brief)
  return frame.format(device=device, position=position, a=article)


def _denials(rng, mentioned: set[str]) -> dict[str, list[str]]:
  """Region -> what may be said not to be there, given the labels not to deny."""
  free = lambda *labels: not mentioned & set(labels)
  out = {region: [] for region in _DENIED}
  say = lambda region, options: out[region].append(_pick(rng, options))
  if free("Lung Opacity", "Consolidation", "Atelectasis", "Edema", "Lung Lesion"):
    say("lungs", phrases.LUNGS_CLEAR)
  else:
    if free("Consolidation", "Lung Opacity"):
      say("lungs", phrases.NO_CONSOLIDATION)
    if free("Edema"):
      say("lungs", phrases.NO_EDEMA)
  if free("Pleural Effusion", "Pneumothorax"):
    say("pleura", phrases.NO_FLUID_OR_AIR)
  elif free("Pleural Effusion"):
    say("pleura", phrases.NO_EFFUSION)
  elif free("Pneumothorax"):
    say("pleura", phrases.NO_PNEUMOTHORAX)
  heart, mediastinum = free("Cardiomegaly"), free("Enlarged Cardiomediastinum")
  if heart and mediastinum and rng.random() < 0.5:
    say("heart", phrases.NORMAL_HEART_AND_MEDIASTINUM)
  elif heart:
    say("heart", phrases.NORMAL_HEART)
  elif mediastinum:
    say("heart", phrases.NORMAL_MEDIASTINUM)
  if free("Fracture"):
    say("bones", phrases.NO_FRACTURE)
  if free("Support Devices"):
    say("devices", phrases.NO_DEVICES)
  return out


def _findings(rng, items: Sequence[_Item]) -> str:
  said = {region: [] for region in _DENIED}
  brief = len(items) >= MANY
  for item in items:
    say = _device if item.fact.label == "Support Devices" else _finding
    said[_REGION[item.fact.label]].append(say(rng, item, brief))
  denials = _denials(rng, {item.fact.label for item in items})
  count = sum(len(text.split()) for texts in said.values() for text in texts)
  for region, usual in _DENIED.items():
    for text in denials[region]:
      length = len(text.split())
      # No report is empty.
      if count == 0 or (count + length <= MAX_WORDS and rng.random() < usual):
        said[region].append(text)
        count += length
  order = _pick(rng, _ORDERS)
  return " ".join(_sentence(text) for region in order for text in said[region])


def _impression(rng, items: Sequence[_Item]) -> str:
  """The two most urgent findings, the present before the resolved."""
  items = [item for item in items if item.fact.label in _URGENCY]
  rank = lambda item: (
    item.fact.status != "present",
    _URGENCY.index(item.fact.label),
  )
  items = sorted(items, key=rank)[:2]
  if not any(item.fact.status == "present" for item in items):
    return _sentence(_pick(rng, phrases.NORMAL))
  frames = {
    "": "{np}",
    "new": "new {np}",
    "larger": "increased {np}",
    "smaller": "decreased {np}",
    "unchanged": "unchanged {np}",
    "resolved": "resolved {place}",
  }
  texts = [_words(rng, item, frames[item.fact.change]) for item in items]
  return _sentence((", and " if items[0].cause else " and ").join(texts))


def write(study: Study, *, seed: int = 0) -> Report:
  """The report of a study: the same words for the same (seed, patient, study)."""
  rng = np.random.default_rng([seed, study.patient, 3, study.number])
  items = _items(study.facts)
  return Report(_findings(rng, items), _impression(rng, items))
