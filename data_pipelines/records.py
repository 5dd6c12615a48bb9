"""The record: one image of one study, as every dataset stores and streams it.

`FIELDS` is the only place where a feature is named, typed and explained; the
builders write it, the loader reads it. A missing part is an empty string or -1,
never invented content; the loader turns it into a mask.
"""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np

# CheXpert's fourteen classes, in the order that CheXbert writes them.
LABELS = (
  "Enlarged Cardiomediastinum",
  "Cardiomegaly",
  "Lung Opacity",
  "Lung Lesion",
  "Edema",
  "Consolidation",
  "Pneumonia",
  "Atelectasis",
  "Pneumothorax",
  "Pleural Effusion",
  "Pleural Other",
  "Fracture",
  "Support Devices",
  "No Finding",
)
PRESENT, ABSENT, UNCERTAIN, UNMENTIONED = 1, 0, -1, -2

SIDES = ("", "left", "right")  # A bilateral finding is two findings.
SEVERITIES = ("", "mild", "moderate", "severe")
CHANGES = ("", "new", "larger", "smaller", "resolved", "unchanged")

# The rows of the view embedding. A view that is not among them is "unk".
VIEWS = ("PA", "AP", "LATERAL", "LL", "unk", "AP AXIAL", "PA LLD")

# Feature -> (dtype, what it is). `image` has the builder's size.
FIELDS = {
  "id": (str, "patient, study and image, joined by underscores; unique"),
  "patient_id": (str, "the unit of splitting"),
  "study_id": (str, "views of one study share it; positives of one another"),
  "study_time": (str, "ISO 8601, to the second; orders the studies of a patient"),
  "view": (str, "one of VIEWS"),
  "image": (np.uint8, "height width 1, as the processor of `images` yields it"),
  "prior": (np.int64, "index in this split of the prior image's record, or -1"),
  "prior_view": (str, "its view, or empty"),
  "prior_report": (str, "its findings, or empty"),
  "indication": (str, "why the study was asked for, or empty"),
  "history": (str, "clinical history, or empty"),
  "findings": (str, "the report to be written"),
  "impression": (str, "the summary, or empty"),
  "labels": (np.int8, "14 of PRESENT, ABSENT, UNCERTAIN, UNMENTIONED, as LABELS"),
  "truth": (str, "what is known of the image itself: JSON of Facts, or empty"),
}


@dataclasses.dataclass(frozen=True)
class Fact:
  """One finding of one study, whoever states it: the ground truth or a report.

  A finding that was there in the prior study and is gone has
  `status="absent", change="resolved"`.
  """

  label: str  # One of LABELS.
  side: str = ""  # One of SIDES; empty for what has no side.
  location: str = ""  # upper, middle, lower, or a device's name; else empty.
  severity: str = ""  # One of SEVERITIES; empty where there is no grade.
  status: str = "present"  # present, absent or uncertain.
  change: str = ""  # One of CHANGES; empty without a prior.


def dump_facts(facts: Sequence[Fact]) -> str:
  """Facts as the JSON text of the `truth` field."""
  return json.dumps([dataclasses.asdict(fact) for fact in facts])


def load_facts(text: str) -> tuple[Fact, ...]:
  """The facts that `dump_facts` wrote; none for an empty text."""
  return tuple(Fact(**fact) for fact in json.loads(text)) if text else ()
