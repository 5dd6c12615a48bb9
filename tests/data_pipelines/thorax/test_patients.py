"""Patients: prevalence, courses and truth over the default set, without images."""

import collections
import itertools

import numpy as np
import pytest

from data_pipelines import records
from data_pipelines.records import Fact
from data_pipelines.thorax import context, courses, patients
from data_pipelines.thorax.finding import Finding

CHANGED = ("new", "larger", "smaller", "resolved")


@pytest.fixture(scope="module")
def studies():
  return [study for patient in range(1334) for study in patients.studies_of(patient)]


def test_same_numbers_same_patient():
  assert patients.studies_of(5, seed=1) == patients.studies_of(5, seed=1)
  assert patients.studies_of(5, seed=1) != patients.studies_of(5, seed=2)
  assert patients.studies_of(5, seed=1) != patients.studies_of(6, seed=1)


def test_studies_are_one_to_five_and_in_order_of_time(studies):
  of = collections.defaultdict(list)
  for study in studies:
    of[study.patient].append(study)
  counts = collections.Counter(map(len, of.values()))
  assert set(counts) == {1, 2, 3, 4, 5}
  assert min(counts.values()) > 0.15 * len(of)
  for group in of.values():
    assert [study.number for study in group] == list(range(len(group)))
    assert all(a.time < b.time for a, b in itertools.pairwise(group))


def test_every_label_is_on_5_to_35_percent(studies):
  shares = patients.prevalence(studies)
  assert tuple(shares) == records.LABELS
  assert {k: v for k, v in shares.items() if not 0.05 <= v <= 0.35} == {}


def test_views(studies):
  shares = collections.Counter(study.views for study in studies)
  assert set(shares) == {("PA", "LATERAL"), ("PA",), ("AP",)}
  assert shares["PA", "LATERAL"] / len(studies) == pytest.approx(0.30, abs=0.03)
  for study in studies:
    if any(finding.name == "ett" for finding in study.findings):
      assert study.views == ("AP",)


def test_severity_is_near_uniform(studies):
  severities = [f.severity for study in studies for f in study.findings if f.severity]
  shares, _ = np.histogram(severities, 6, (courses.LEAST, 1), density=True)
  assert shares * (1 - courses.LEAST) == pytest.approx(1, abs=0.15)


def test_most_studies_with_a_prior_changed(studies):
  later = [study for study in studies if study.number]
  changed = [any(fact.change in CHANGED for fact in study.facts) for study in later]
  assert np.mean(changed) > 0.6


def test_the_picture_alone_does_not_tell_the_change(studies):
  changes = collections.Counter(
    fact.change
    for study in studies
    for fact in study.facts
    if study.number and fact.label == "Pleural Effusion" and fact.severity == "moderate"
  )
  assert set(changes) == {"new", "larger", "smaller", "unchanged"}
  total = sum(changes.values())
  assert all(0.1 < count / total < 0.45 for count in changes.values()), changes


def test_changes_are_those_of_the_severities(studies):
  pairs = [(a, b) for a, b in itertools.pairwise(studies) if a.patient == b.patient]
  for before, after in pairs:
    old = {(f.name, f.side): f for f in before.findings}
    for finding, fact in _seen(after):
      was = old.pop((finding.name, finding.side), None)
      if was is None:
        assert fact.change == "new"
        continue
      assert (finding.location, finding.seed) == (was.location, was.seed)
      difference = finding.severity - was.severity
      assert fact.change == (
        "unchanged"
        if abs(difference) <= 0.05
        else "larger"
        if difference > 0
        else "smaller"
      )
      assert abs(difference) <= 0.05 or abs(difference) >= 0.25
    resolved = [fact for fact in after.facts if fact.change == "resolved"]
    assert len(resolved) == len(old)
    assert all(fact.status == "absent" for fact in resolved)
  firsts = [study for study in studies if study.number == 0]
  assert not any(fact.change for study in firsts for fact in study.facts)


def _seen(study):
  """Findings with their facts; an opacity's cause has no finding of its own."""
  facts = [f for f in study.facts if f.status == "present"]
  causes = ("Pneumonia", "Atelectasis")
  of_device = lambda fact: fact.label == "Support Devices"
  facts = [f for f in facts if f.label not in causes or f.severity or of_device(f)]
  assert len(facts) == len(study.findings)
  return zip(study.findings, facts)


def test_one_fact_a_label_and_side_but_for_devices(studies):
  for study in studies:
    seen = [(f.label, f.side) for f in study.facts if f.label != "Support Devices"]
    assert len(seen) == len(set(seen)), study


def test_facts_by_hand():
  small = Finding("effusion", "left", severity=0.2)
  large = Finding("effusion", "left", severity=0.7)
  tube = Finding("ett")
  assert patients.facts_of((small,), None) == (
    Fact("Pleural Effusion", "left", severity="mild"),
  )
  assert patients.facts_of((large,), (small, tube)) == (
    Fact("Pleural Effusion", "left", severity="severe", change="larger"),
    Fact("Support Devices", location="ett", status="absent", change="resolved"),
  )
  with pytest.raises(ValueError, match="neither change nor none"):
    patients.facts_of((Finding("effusion", "left", severity=0.35),), (small,))


def test_an_opacity_is_what_the_context_makes_of_it(studies):
  opacity = Finding("opacity", "right", "lower", 0.5)
  assert patients.facts_of((opacity,), None, "pneumonia") == (
    Fact("Lung Opacity", "right", "lower", "moderate"),
    Fact("Pneumonia", "right", "lower"),
  )
  told = {"infection": "Pneumonia", "bed rest": "Atelectasis"}
  for study in studies:
    if not any(finding.name == "opacity" for finding in study.findings):
      continue
    reasons = {
      reason
      for reason in context.REASONS
      if study.indication in context.INDICATIONS[reason]
      or study.history in context.HISTORIES[reason]
    }
    causes = {f.label for f in study.facts if f.status == "present" and not f.severity}
    assert causes - {"Support Devices"} == {told[r] for r in reasons if r in told}


def test_context_is_missing_for_a_quarter_and_tells_nothing_of_an_opacity(studies):
  for name in ("indication", "history"):
    missing = np.mean([not getattr(study, name) for study in studies])
    assert missing == pytest.approx(0.25, abs=0.03)
  fever = [("ever" in study.indication + study.history) for study in studies]
  opacity = [any(f.name == "opacity" for f in study.findings) for study in studies]
  assert abs(np.corrcoef(fever, opacity)[0, 1]) < 0.06


def test_single_finding_study():
  study = patients.single_finding_study(7, "edema")
  (finding,) = study.findings
  assert finding.severity >= 1 / 3
  assert study.facts == patients.facts_of((finding,), None)
