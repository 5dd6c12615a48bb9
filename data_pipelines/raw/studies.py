"""A raw download as studies, before any of them is chosen."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

from data_pipelines import records

SPLITS = ("train", "validation", "test")
NO_LABELS = (records.UNMENTIONED,) * len(records.LABELS)


@dataclasses.dataclass(frozen=True)
class Film:
  """An image file of a study. Whether it can be read, nobody has tried."""

  id: str  # Unique in the download, without an underscore; MIMIC-CXR's DICOM id.
  path: str  # Relative to the folder of images, with forward slashes.
  view: str  # One of records.VIEWS.


@dataclasses.dataclass(frozen=True)
class Study:
  """A study as it was downloaded: films in the order of the tables, text by section."""

  patient_id: str
  study_id: str  # Unique in the download.
  films: tuple[Film, ...]
  time: str = ""  # ISO 8601 to the second; empty where missing or impossible.
  split: str = ""  # One of SPLITS, or empty where the download has no splits.
  # Text by canonical section name: findings, impression, indication, history,
  # comparison, technique. A section that is absent or empty is not in it.
  sections: Mapping[str, str] = dataclasses.field(default_factory=dict)
  has_report: bool = True  # Whether there is a report at all.
  labels: tuple[int, ...] = NO_LABELS  # As records.LABELS.


@dataclasses.dataclass(frozen=True)
class Oddity:
  """Something of a download that is not as it should be, and where."""

  kind: str  # Of few: they are counted. For example "image without study".
  where: str  # An id, or a file and line; never text of a report.


@dataclasses.dataclass(frozen=True)
class Download:
  """All studies of a download, by patient, time and id, and what was odd of it."""

  name: str  # The data set's: mimic_cxr, mimic_abn or iu_xray.
  image_root: str  # What the paths of films are relative to.
  studies: Sequence[Study]
  oddities: Sequence[Oddity] = ()

  def counts(self) -> dict[str, int]:
    """How many oddities of each kind there are, most frequent first."""
    return dict(collections.Counter(o.kind for o in self.oddities).most_common())


def in_order(studies: Sequence[Study]) -> list[Study]:
  """Studies by patient, time and id; those without a time come last of a patient's."""
  return sorted(studies, key=lambda s: (s.patient_id, s.time or "9", s.study_id))
