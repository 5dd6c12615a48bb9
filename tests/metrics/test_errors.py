"""Errors by hand, none in the references themselves, and where the shares come from."""

import json

import numpy as np
import pytest
from stubs import study

from data_pipelines import findings, records
from data_pipelines.thorax import patients, reports
from jaxrg.metrics import errors, intervals, rendering, tables

RIGHT = ("same", "right", "not_compared")


def outcomes(said, truth, has_prior=True):
  """(group, outcome) -> count of one report, what is 0 left out."""
  read = findings.read
  counts = errors.count([read(said)], [read(truth)], [has_prior])
  return {
    (group, name): int(n)
    for group, (row,) in counts.items()
    for name, n in zip(errors.GROUPS[group][1], row)
    if n
  }


def of(group, *arguments, **options):
  return {
    name: n for (g, name), n in outcomes(*arguments, **options).items() if g == group
  }


def test_references_have_none():
  rows = []
  for patient in range(400):
    for one in patients.studies_of(patient):
      text = reports.write(one).findings
      truth = json.loads(records.dump_facts(one.facts))
      name = f"{patient} {one.number}"
      rows.append(
        study(name, text, text, truth=truth, has_prior=one.number > 0, patient_id=name)
      )
  scores = errors.score(rows, resamples=5)
  assert scores["protocol"]["n_with_prior"] > 500
  for group, (_, names) in errors.GROUPS.items():
    for name in names:
      cell = scores[group][name]
      assert cell["value"] == float(name in RIGHT), (group, name)
      assert cell["count"] == (scores[group]["n"] if name in RIGHT else 0)
  graded = [fact for row in rows for fact in row["truth"] if fact["severity"]]
  assert scores["severity"]["n"] == len(graded)
  changed = [f for row in rows for f in row["truth"] if f["change"] in findings.CHANGED]
  assert scores["change"]["n"] == scores["claim"]["n"] == len(changed)


@pytest.mark.parametrize(
  ("said", "expected"),
  [
    ("small", {"same": 1}),
    ("moderate", {"one_off": 1}),
    ("large", {"two_off": 1}),
    ("", {"not_said": 1}),
  ],
)
def test_grades(said, expected):
  truth = "There is a small left pleural effusion."
  assert of("severity", f"There is a {said} left pleural effusion.", truth) == expected
  # A finding that is not there, or elsewhere, has no grade to be wrong in.
  assert of("severity", f"There is a {said} right pleural effusion.", truth) == {}
  assert of("severity", "No pleural effusion.", truth) == {}


@pytest.mark.parametrize(
  ("said", "truth", "expected"),
  [
    ("Left pneumothorax.", "Left pneumothorax.", {"right": 1}),
    ("Right pneumothorax.", "Left pneumothorax.", {"wrong": 1}),
    ("Pneumothorax.", "Left pneumothorax.", {"not_said": 1}),
    ("No pneumothorax.", "Left pneumothorax.", {}),
    ("Right pleural effusion.", "Left pneumothorax.", {}),
    # One too many, or one too few, is no error of side.
    ("Left and right pleural effusion.", "Left pleural effusion.", {"right": 1}),
    ("Left pleural effusion.", "Left and right pleural effusion.", {"right": 1}),
    ("Cardiomegaly.", "Cardiomegaly.", {}),
    ("Left central line. Endotracheal tube.", "Right central line.", {"wrong": 1}),
    # Another device is another finding.
    ("Left pacemaker.", "Right chest tube.", {}),
  ],
)
def test_sides(said, truth, expected):
  assert of("side", said, truth) == expected


@pytest.mark.parametrize(
  ("said", "expected"),
  [
    ("Consolidation in the left lower lobe.", {"right": 1}),
    ("Consolidation in the left upper lobe.", {"wrong": 1}),
    ("Left consolidation.", {"not_said": 1}),
    ("Consolidation in the right lower lobe.", {}),
  ],
)
def test_lobes(said, expected):
  assert of("lobe", said, "Consolidation in the left lower lobe.") == expected


EFFUSION = "There is a {} left pleural effusion."


@pytest.mark.parametrize(
  ("said", "truth", "expected"),
  [
    ("larger", "larger", {"change right": 1, "claim right": 1}),
    ("smaller", "larger", {"change wrong_kind": 1, "claim wrong_kind": 1}),
    ("unchanged", "larger", {"change missed": 1}),
    ("", "new", {"change missed": 1}),
    ("new", "unchanged", {"unchanged called_changed": 1, "claim unfounded": 1}),
    ("unchanged", "unchanged", {"unchanged right": 1}),
    ("", "unchanged", {"unchanged not_said": 1}),
    ("unchanged", "", {}),
  ],
)
def test_changes(said, truth, expected):
  found = outcomes(EFFUSION.format(said), EFFUSION.format(truth))
  changes = ("change", "claim", "unchanged", "no_prior")
  found = {f"{g} {name}": n for (g, name), n in found.items() if g in changes}
  assert found == expected


def test_a_change_of_what_is_not_there_is_unfounded():
  found = outcomes("New right pneumothorax.", "The left pneumothorax has resolved.")
  assert found == {("change", "missed"): 1, ("claim", "unfounded"): 1}
  gone = "The left pneumothorax has resolved."
  assert outcomes(gone, gone) == {("change", "right"): 1, ("claim", "right"): 1}


@pytest.mark.parametrize(
  ("said", "expected"),
  [
    ("New left pleural effusion.", "compared"),
    ("Unchanged cardiomegaly.", "compared"),
    ("Left pleural effusion. No pneumothorax.", "not_compared"),
    ("", "not_compared"),
  ],
)
def test_comparisons_without_a_prior(said, expected):
  found = outcomes(said, "Clear lungs.", has_prior=False)
  assert found == {("no_prior", expected): 1}


def test_what_an_opacity_is_taken_for_is_no_finding():
  """Else the side of a seen atelectasis would be wrong, and its grade not said."""
  said = "Opacity in the left lower lobe, mild, due to atelectasis."
  truth = "Atelectasis in the right lower lobe, mild."
  assert outcomes(said, truth) == {}
  assert outcomes(said, said.replace("atelectasis", "pneumonia")) == {
    ("severity", "same"): 1,
    ("side", "right"): 1,
    ("lobe", "right"): 1,
  }


def test_gravest_grade_first_change_all_lobes():
  facts = findings.read(
    "Small new nodule in the left lower lobe. Large nodule in the left upper lobe."
  )
  ((finding, said),) = errors.stated(facts).items()
  assert finding == ("Lung Lesion", "", "left")
  assert said == (True, 3, {"lower", "upper"}, "new")


def test_shares_intervals_and_table():
  small, large = EFFUSION.format("small"), EFFUSION.format("large")
  rows = [
    study(f"{i}", small, small if i % 4 else large, patient_id=f"{i // 2}")
    for i in range(40)
  ]
  rows = [row | {"has_prior": False} for row in rows]
  scores = errors.score(rows, resamples=200)
  severity = scores["severity"]
  assert (severity["n"], severity["two_off"]["count"]) == (40, 10)
  assert severity["same"]["value"] == 0.75
  assert severity["two_off"]["low"] < 0.25 < severity["two_off"]["high"]
  assert scores["change"] is scores["claim"] is scores["lobe"] is None
  assert scores["protocol"]["truth"] == "read from the references"
  assert json.loads(json.dumps(scores)) == scores
  text = rendering.render(tables.errors(scores))
  assert max(map(len, text.splitlines())) <= rendering.WIDTH
  assert "0.250 [" in text
  assert "severity: two off" in text
  assert "claim:" not in text


def test_counts_are_paired():
  truth = [findings.read(EFFUSION.format("small"))] * 30
  none = [findings.read(EFFUSION.format(""))] * 30
  first, second = (
    errors.count(claims, truth, np.ones(30))["severity"] for claims in (truth, none)
  )
  found = intervals.paired(first, second, errors.share(3), resamples=200)
  assert (found.value, found.high) == (-1, -1)


def test_a_share_of_nothing_is_none():
  """A resample that draws none of the few cases is no resample with a share of 0."""
  counts = np.zeros((40, 3))
  counts[0] = [2, 0, 0]
  found = intervals.bootstrap(counts, errors.share(0), resamples=200)
  assert found == (1, 1, 1)
