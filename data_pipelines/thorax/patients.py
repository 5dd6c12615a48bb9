"""Patients: one to five dated studies each, with the truth about every one of them.

Everything is a pure function of (seed, patient); patient numbers are unique over
all splits and configurations.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Sequence

import numpy as np

from data_pipelines import records
from data_pipelines.thorax import context, courses
from data_pipelines.thorax.finding import Finding

MAX_STUDIES = 5
TWO_VIEWS = 0.30

LABEL_OF = {
  "effusion": "Pleural Effusion",
  "cardiomegaly": "Cardiomegaly",
  "consolidation": "Consolidation",
  "opacity": "Lung Opacity",
  "atelectasis": "Atelectasis",
  "edema": "Edema",
  "pneumothorax": "Pneumothorax",
  "nodule": "Lung Lesion",
  "fracture": "Fracture",
  "mediastinum": "Enlarged Cardiomediastinum",
  "pleural_thickening": "Pleural Other",
} | dict.fromkeys(courses.DEVICES, "Support Devices")
_CAUSES = {"pneumonia": "Pneumonia", "atelectasis": "Atelectasis"}
# A finding that just came makes its own reason likely.
_REASON_OF = {"fracture": "trauma", "pneumothorax": "trauma", "edema": "heart"}


@dataclasses.dataclass(frozen=True)
class Study:
  """One visit to the X-ray room: what there is to see, and what is known of it."""

  patient: int
  number: int  # From 0, in order of time.
  time: datetime.datetime
  views: tuple[str, ...]  # The frontal view first.
  findings: tuple[Finding, ...]
  indication: str
  history: str
  facts: tuple[records.Fact, ...]  # With changes since study `number - 1`.


def _change(severity: float, before: float) -> str:
  difference = severity - before
  if abs(difference) <= courses.UNCHANGED:
    return "unchanged"
  if abs(difference) < courses.LARGER:
    raise ValueError(f"severity {before} -> {severity} is neither change nor none")
  return "larger" if difference > 0 else "smaller"


def _fact(finding: Finding, change: str, *, present: bool = True) -> records.Fact:
  device = finding.name in courses.DEVICES
  return records.Fact(
    LABEL_OF[finding.name],
    side=finding.side,
    location=finding.name if device else finding.location,
    severity=courses.grade(finding.severity) if present and not device else "",
    status="present" if present else "absent",
    change=change,
  )


def facts_of(
  findings: Sequence[Finding], prior: Sequence[Finding] | None, cause: str = ""
) -> tuple[records.Fact, ...]:
  """The truth about a study, given the findings of the one before it, if any.

  `cause` is what the context makes of an opacity: its fact has no change of its own,
  since change is of what is seen and not of what it is taken for.
  """
  place = lambda finding: (finding.name, finding.side)
  before = {place(finding): finding for finding in prior or ()}
  facts = []
  for finding in findings:
    change = ""
    if prior is not None:
      old = before.pop(place(finding), None)
      change = _change(finding.severity, old.severity) if old else "new"
    facts.append(_fact(finding, change))
    if finding.name == "opacity" and cause:
      where = {"side": finding.side, "location": finding.location}
      facts.append(records.Fact(_CAUSES[cause], **where))
  facts += [_fact(finding, "resolved", present=False) for finding in before.values()]
  return tuple(facts)


def labels_of(facts: Iterable[records.Fact]) -> np.ndarray:
  """The fourteen labels of a study, each PRESENT or ABSENT: int8 (14,)."""
  present = {fact.label for fact in facts if fact.status == "present"}
  if not present - {"Support Devices"}:
    present.add("No Finding")
  values = [
    records.PRESENT if label in present else records.ABSENT for label in records.LABELS
  ]
  return np.array(values, np.int8)


def prevalence(studies: Iterable[Study]) -> dict[str, float]:
  """Label -> the share of studies on which it is present."""
  present = np.mean(
    [labels_of(study.facts) == records.PRESENT for study in studies], axis=0
  )
  return dict(zip(records.LABELS, present.tolist()))


def prevalence_table(studies: Iterable[Study]) -> str:
  """The prevalence of each label as a table in Markdown."""
  rows = [f"| {label} | {share:.1%} |" for label, share in prevalence(studies).items()]
  return "\n".join(["| label | studies |", "|---|---:|", *rows])


def _views(rng: np.random.Generator, findings: Sequence[Finding]) -> tuple[str, ...]:
  """Two views of those who can stand, one from the bedside of those who cannot."""
  names = {finding.name for finding in findings}
  burden = sum(finding.severity for finding in findings)
  if "ett" in names or rng.random() < 0.10 + 0.10 * burden:
    return ("AP",)
  # A third of the studies is from the bedside.
  return ("PA", "LATERAL") if rng.random() < TWO_VIEWS / 0.72 else ("PA",)


def _context(rng, findings, prior) -> tuple[str, str, str]:
  reason = ""
  if prior is not None:
    old = {(finding.name, finding.side) for finding in prior}
    for finding in findings:
      new = (finding.name, finding.side) not in old
      if new and finding.name in _REASON_OF and rng.random() < 0.35:
        reason = _REASON_OF[finding.name]
  return context.draw(rng, reason)


def studies_of(patient: int, *, seed: int = 0) -> tuple[Study, ...]:
  """The studies of one patient, in order of time."""
  rng = np.random.default_rng([seed, patient, 1])
  course = courses.Patient(rng)
  time = datetime.datetime(2012, 1, 1) + datetime.timedelta(
    days=int(rng.integers(3000)), minutes=int(rng.integers(24 * 60))
  )
  studies, prior = [], None
  for number in range(rng.integers(1, MAX_STUDIES + 1)):
    findings = course.advance()
    indication, history, cause = _context(rng, findings, prior)
    studies.append(
      Study(
        patient,
        number,
        time,
        _views(rng, findings),
        findings,
        indication,
        history,
        facts_of(findings, prior, cause),
      )
    )
    # From hours to more than a year.
    hours = float(np.exp(rng.uniform(np.log(6), np.log(10_000))))
    time += datetime.timedelta(minutes=round(hours * 60))
    prior = findings
  return tuple(studies)


def single_finding_study(patient: int, name: str, *, seed: int = 0) -> Study:
  """A first study with nothing but one finding, at least moderate."""
  rng = np.random.default_rng([seed, patient, 2])
  finding = courses.single(rng, name)
  indication, history, _ = context.draw(rng)
  return Study(
    patient,
    0,
    datetime.datetime(2012, 1, 1) + datetime.timedelta(hours=int(rng.integers(70_000))),
    ("PA",) if rng.random() < 0.7 else ("AP",),
    (finding,),
    indication,
    history,
    facts_of((finding,), None),
  )
