"""The reader on invented sentences in the style of real reports."""

import pathlib

import numpy as np
import pytest

from data_pipelines import findings, records
from data_pipelines.records import Fact

_SHORT = {
  "mediastinum": "Enlarged Cardiomediastinum",
  "heart": "Cardiomegaly",
  "opacity": "Lung Opacity",
  "lesion": "Lung Lesion",
  "edema": "Edema",
  "consolidation": "Consolidation",
  "pneumonia": "Pneumonia",
  "atelectasis": "Atelectasis",
  "pneumothorax": "Pneumothorax",
  "effusion": "Pleural Effusion",
  "pleura": "Pleural Other",
  "fracture": "Fracture",
  "device": "Support Devices",
}
_STATUS = {
  "+": records.PRESENT,
  "-": records.ABSENT,
  "?": records.UNCERTAIN,
}

# Sentence | what it says of each label it mentions | label, side, change.
_FILE = pathlib.Path(__file__).parents[1] / "data" / "findings.txt"
_SENTENCES = _FILE.read_text().splitlines()


def _row(line):
  sentence, labels, changes = (part.strip() for part in f"{line} |".split("|")[:3])
  labels = {_SHORT[word[:-1]]: _STATUS[word[-1]] for word in labels.split()}
  triples = set()
  for change in filter(None, changes.split(", ")):
    name, *side, kind = change.split()
    triples.add((_SHORT[name], " ".join(side), kind))
  return sentence, labels, triples


@pytest.mark.parametrize("line", _SENTENCES, ids=lambda line: line.split(" |")[0])
def test_sentence(line):
  sentence, labels, changes = _row(line)
  values = dict(zip(records.LABELS, findings.labels(sentence).tolist()))
  del values["No Finding"]
  mentioned = {k: v for k, v in values.items() if v != records.UNMENTIONED}
  assert mentioned == labels
  assert findings.changes(sentence, records.CHANGES[1:]) == changes


def test_sides_places_and_grades():
  facts = findings.read("Small left and large right lower lobe consolidations.")
  assert facts == (
    Fact("Consolidation", "left", "lower", "mild"),
    Fact("Consolidation", "right", "lower", "severe"),
  )
  (fact,) = findings.read("Nodule in the right middle lobe, moderate in size.")
  assert fact == Fact("Lung Lesion", "right", "middle", "moderate")
  (fact,) = findings.read("Small to moderate LLL atelectasis")
  assert fact == Fact("Atelectasis", "left", "lower", "moderate")
  facts = findings.read("New left upper lobe opacity, consistent with pneumonia.")
  assert facts == (
    Fact("Lung Opacity", "left", "upper", change="new"),
    Fact("Pneumonia", "left", "upper"),
  )


def test_only_findings_and_impression_are_read():
  text = """INDICATION: Evaluate for pneumothorax.
  FINDINGS: Small effusion. The heart is normal.
  IMPRESSION: Effusion."""
  values = dict(zip(records.LABELS, findings.labels(text).tolist()))
  assert values["Pleural Effusion"] == records.PRESENT
  assert values["Pneumothorax"] == records.UNMENTIONED


def test_no_finding_is_derived():
  no_finding = lambda text: findings.labels(text)[-1]
  assert no_finding("Clear lungs. Right chest tube.") == records.PRESENT
  assert no_finding("Possible nodule.") == records.UNMENTIONED
  assert no_finding("The left effusion has resolved.") == records.PRESENT
  assert no_finding("") == records.PRESENT


def test_present_outweighs_absent_and_unchanged_is_apart():
  text = "No effusion on the left. Stable small right effusion."
  assert findings.labels(text)[records.LABELS.index("Pleural Effusion")] == 1
  assert findings.labels(text).dtype == np.int8
  assert findings.changes(text) == frozenset()
  unchanged = findings.changes(text, ("unchanged",))
  assert unchanged == {("Pleural Effusion", "right", "unchanged")}


def test_text_and_its_facts_agree():
  text = "New left effusion. No pneumothorax. Possible pneumonia."
  facts = findings.read(text)
  assert (findings.labels(facts) == findings.labels(text)).all()
  assert findings.changes(facts) == findings.changes(text)


def test_a_place_of_its_own_comes_before_a_shared_one():
  facts = findings.read("Left effusion and atelectasis. Left opacity and right mass.")
  assert [fact.side for fact in facts] == ["left", "left", "left", "right"]
  facts = findings.read("Left effusion and atelectasis at the right base.")
  assert [fact.side for fact in facts] == ["left", "right"]
