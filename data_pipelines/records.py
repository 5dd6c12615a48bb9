"""The record: one image of one study, as every dataset stores and streams it.

`FIELDS` is the only place where a feature is named, typed and explained; the
builders write it, the loader reads it. A missing part is an empty string or -1,
never invented content; the loader turns it into a mask.
"""

import collections
import dataclasses
import json
from collections.abc import Collection, Sequence

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

# What a view may be called; which of them a model knows, `config.data.views` says.
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


def is_composed(data_name: str) -> bool:
  """Whether a data set is made here, of one anatomy, and is no patient's."""
  return data_name.partition("/")[0] == "thorax"


def view_row(view: str, views: Sequence[str]) -> int:
  """The row of a view among `views`; that of unk, where it is not among them."""
  return tuple(views).index(view if view in views else "unk")


def unknown_views(found: Collection[str]) -> str:
  """What is to be said of films with these views, which the model does not know."""
  counts = collections.Counter(found).most_common()
  several = len(found) > 1
  return (
    f"{len(found)} {'films have' if several else 'film has'} a view that is not in "
    f"config.data.views and {'were' if several else 'was'} read as unk: "
    f"{', '.join(f'{view} ({count})' for view, count in counts)}"
  )


def dump_facts(facts: Sequence[Fact]) -> str:
  """Facts as the JSON text of the `truth` field."""
  return json.dumps([dataclasses.asdict(fact) for fact in facts])


def load_facts(text: str) -> tuple[Fact, ...]:
  """The facts that `dump_facts` wrote; none for an empty text."""
  return tuple(Fact(**fact) for fact in json.loads(text)) if text else ()
