"""What a radiologist would write of a study: findings and impression.

Every fact of the truth is stated, with its change wherever there is a prior study,
so that the text determines the truth; what is not there is denied as space allows.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_pipelines.records import Fact
from data_pipelines.thorax import context, phrases
from data_pipelines.thorax.patients import Study

# Regions in the order in which they are reported; the one asked about comes first.
_REGIONS = ("devices", "heart", "lungs", "pleura", "bones")
_REGION = {
  "Lung Opacity": "lungs",
  "Consolidation": "lungs",
  "Atelectasis": "lungs",
  "Pneumonia": "lungs",
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
MAX_WORDS = 38  # Beyond it, nothing more is denied.
MANY = 3  # Things to say, of which nobody writes whole sentences.


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


def _noun_phrase(item: _Item) -> tuple[str, str]:
  """The article or "", and what is there and where: "a", "nodule in the ..."."""
  article, noun, place, _ = phrases.FINDINGS[item.fact.label]
  if item.side == "bilateral":
    return "", f"bilateral {noun}s"
  place = place.format(side=item.side, lobe=item.fact.location)
  return article, noun + place


def _grade(fact: Fact) -> str:
  """The word for its severity; "" for what is gone."""
  *_, grades = phrases.FINDINGS[fact.label]
  return grades[fact.severity] if fact.severity else ""


def _cause(item: _Item) -> str:
  return phrases.CAUSE.format(cause=item.cause) if item.cause else ""


def _finding(rng, item: _Item, keywords: bool) -> str:
  fact = item.fact
  article, text = _noun_phrase(item)
  if fact.change == "resolved":
    return f"{'' if keywords else 'the '}{text} {_pick(rng, phrases.RESOLVED)}"
  if not keywords:
    verb = "are" if item.side == "bilateral" else "is"
    text = f"there {verb} {article} {text}" if article else f"there {verb} {text}"
  return f"{text}, {_grade(fact)}{phrases.CHANGES[fact.change]}{_cause(item)}"


def _device(rng, item: _Item, keywords: bool) -> str:
  name, position = phrases.DEVICES[item.fact.location]
  device = name.format(side=item.side)
  frame = _pick(rng, phrases.DEVICE_CHANGES[item.fact.change])
  return frame.format(device=device if keywords else f"the {device}", position=position)


def _denials(rng, mentioned: set[str], asked: str, keywords: bool):
  """(Region, sentence) of what may be said not to be there, first things first.

  What the indication asks about is answered even where all else is normal.
  """
  free = lambda *labels: not mentioned & set(labels)

  def none_of(*nouns):
    noun = _pick(rng, nouns)
    verb = "are" if noun in phrases.PLURAL else "is"
    return f"no {noun}" if keywords else f"there {verb} no {noun}"

  def normal(styles):
    return _pick(rng, styles[keywords])

  clear = free(*(label for label, region in _REGION.items() if region == "lungs"))
  airspace = free("Consolidation", "Lung Opacity")
  if free("Pleural Effusion", "Pneumothorax"):
    yield "pleura", none_of(*phrases.NO_FLUID_OR_AIR)
  elif free("Pleural Effusion"):
    yield "pleura", none_of(*phrases.DENIED["Pleural Effusion"])
  elif free("Pneumothorax"):
    yield "pleura", none_of(*phrases.DENIED["Pneumothorax"])
  if clear:
    yield "lungs", normal(phrases.LUNGS_CLEAR)
  if asked and free(asked) and (asked != "Pneumonia" or airspace):
    yield _REGION[asked], none_of(*phrases.DENIED[asked])
  if not clear and airspace:
    yield "lungs", none_of(*phrases.DENIED["Consolidation"])
  heart, mediastinum = free("Cardiomegaly"), free("Enlarged Cardiomediastinum")
  if heart and mediastinum:
    yield "heart", normal(phrases.NORMAL_HEART_AND_MEDIASTINUM)
  elif heart:
    yield "heart", normal(phrases.NORMAL_HEART)
  elif mediastinum:
    yield "heart", normal(phrases.NORMAL_MEDIASTINUM)


def _findings(rng, study: Study, items: Sequence[_Item]) -> str:
  keywords = len(items) >= MANY or rng.random() < 0.5
  asked = context.question(study.indication, study.history)
  said = {region: [] for region in _REGIONS}
  for item in items:
    say = _device if item.fact.label == "Support Devices" else _finding
    said[_REGION[item.fact.label]].append(say(rng, item, keywords))
  mentioned = {item.fact.label for item in items}
  mentioned |= {item.cause.capitalize() for item in items if item.cause}
  count = sum(len(text.split()) for texts in said.values() for text in texts)
  for region, text in _denials(rng, mentioned, asked, keywords):
    # No report is empty.
    if count == 0 or count + len(text.split()) <= MAX_WORDS:
      said[region].append(text)
      count += len(text.split())
  opening = phrases.VIEWS[study.views]
  if study.number:
    opening += phrases.COMPARED
  first = _REGION[asked] if asked else _REGIONS[0]
  order = sorted(_REGIONS, key=lambda region: region != first)
  texts = [opening, *(text for region in order for text in said[region])]
  return " ".join(map(_sentence, texts))


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
  texts = []
  for item in items:
    change = {"larger": "increased", "smaller": "decreased"}.get(
      item.fact.change, item.fact.change
    )
    _, what = _noun_phrase(item)
    words = filter(None, (change, _grade(item.fact), what))
    texts.append(" ".join(words) + _cause(item))
  return _sentence((", and " if items[0].cause else " and ").join(texts))


def write(study: Study, *, seed: int = 0) -> Report:
  """The report of a study: the same words for the same (seed, patient, study)."""
  rng = np.random.default_rng([seed, study.patient, 3, study.number])
  items = _items(study.facts)
  return Report(_findings(rng, study, items), _impression(rng, items))
