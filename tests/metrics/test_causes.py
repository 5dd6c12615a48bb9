"""What an opacity is due to: told apart from what is seen, and scored by hand."""

import json

import numpy as np
import pytest
from stubs import study

from data_pipelines import findings, records
from data_pipelines.records import Fact
from data_pipelines.thorax import context, patients, reports
from jaxrg.metrics import causes, intervals, rendering, tables

LEFT = "Opacity in the left lower lobe, moderate"
TOLD = f"{LEFT}, due to pneumonia."
SEEN = "Atelectasis in the left lower lobe, mild."


def read(*texts):
  return [findings.read(text) for text in texts]


@pytest.fixture(scope="module")
def composed():
  """Studies and their rows, predicted as they were written."""
  studies = [s for patient in range(500) for s in patients.studies_of(patient)]
  rows = []
  for i, one in enumerate(studies):
    text = reports.write(one).findings
    truth = json.loads(records.dump_facts(one.facts))
    rows.append(study(str(i), text, text, truth=truth, patient_id=str(one.patient)))
  return studies, rows


def test_references_are_right(composed):
  studies, rows = composed
  scores = causes.score(rows, resamples=10)
  for question in causes.QUESTIONS:
    assert scores[question]["accuracy"] == {"value": 1, "low": 1, "high": 1}
    assert scores[question]["ceiling"] == 1
  # As many as the contexts tell, of the opacities that were drawn.
  opacities = [sum(f.name == "opacity" for f in one.findings) for one in studies]
  asks = [context.question(one.indication, one.history) for one in studies]
  told = sum(n for n, ask in zip(opacities, asks) if ask in causes.CAUSES)
  assert scores["told"]["n"] == scores["found"]["n"] == told > 100
  assert scores["all"]["n"] == sum(opacities) > 1.5 * told


def test_what_is_seen_is_not_an_interpretation(composed):
  """A graded atelectasis, of the truth or of its report, is never a cause."""
  studies, rows = composed
  for one, row in zip(studies, rows):
    seen = {f.side for f in one.findings if f.name == "atelectasis"}
    for facts in (one.facts, findings.read(row["reference"])):
      assert not seen & {fact.side for fact in causes.interpretations(facts)}


def test_without_a_cause_only_what_has_none_is_right(composed):
  _, rows = composed
  blind = [
    row | {"prediction": row["reference"].replace(", due to pneumonia", "")}
    for row in rows
  ]
  scores = causes.score(blind, resamples=10)
  told = [fact for row in rows for fact in row["truth"] if _is_cause(fact)]
  kept = np.mean([fact["label"] == "Atelectasis" for fact in told])
  assert scores["told"]["accuracy"]["value"] == pytest.approx(kept)
  right = 1 - (1 - kept) * len(told) / scores["all"]["n"]
  assert scores["all"]["accuracy"]["value"] == pytest.approx(right)
  assert scores["told"]["ceiling"] == 1


def _is_cause(fact):
  seen = fact["severity"] or fact["status"] == "absent"
  return fact["label"] in causes.CAUSES and not seen


@pytest.mark.parametrize(
  ("text", "sides"),
  [
    (TOLD, {"left": {"Pneumonia"}}),
    (f"{LEFT} and new, due to atelectasis.", {"left": {"Atelectasis"}}),
    (f"{LEFT}.", {"left": set()}),
    (f"{TOLD} {SEEN}", {"left": {"Pneumonia"}}),
    (f"{LEFT}. {SEEN}", {"left": set()}),
    (SEEN, {}),
    ("Atelectasis in the left lower lobe is no longer seen.", {}),
    (f"{LEFT}. No evidence of pneumonia.", {"left": set()}),
    # In another lobe it is no interpretation of this opacity.
    (f"{LEFT}. Atelectasis in the left upper lobe.", {"left": set()}),
    (
      f"{TOLD} Opacity in the right upper lobe, mild.",
      {"left": {"Pneumonia"}, "right": set()},
    ),
  ],
)
def test_causes_by_hand(text, sides):
  assert causes.causes(findings.read(text)) == sides


@pytest.mark.parametrize(
  ("said", "told", "every", "found"),
  [
    (TOLD, [1, 1], [1, 1], [1, 1]),
    ("Opacity in the left upper lobe, mild, due to pneumonia.", *[[1, 1]] * 3),
    (TOLD.replace("left", "right"), [0, 1], [0, 1], [0, 0]),
    (TOLD.replace("pneumonia", "atelectasis"), *[[0, 1]] * 3),
    (f"{LEFT}, due to pneumonia or atelectasis.", *[[0, 1]] * 3),
    (f"{LEFT}.", *[[0, 1]] * 3),
    ("The lungs are clear.", [0, 1], [0, 1], [0, 0]),
    ("", [0, 1], [0, 1], [0, 0]),
  ],
)
def test_answers_by_hand(said, told, every, found):
  for question, expected in (("told", told), ("all", every), ("found", found)):
    counts = causes.statistics(read(said), read(TOLD), question)
    np.testing.assert_array_equal(counts, [expected])


def test_of_an_opacity_that_nothing_is_told_of_nothing_is_right():
  said = read(f"{LEFT}.", TOLD, "The lungs are clear.")
  truth = read(*[f"{LEFT}."] * 3)
  for question, expected in (("told", [0, 0]), ("all", [1, 3]), ("found", [0, 0])):
    counts = causes.statistics(said, truth, question)
    np.testing.assert_array_equal(counts.sum(0), expected)


def test_statistics_are_paired():
  truth = read(*[TOLD] * 30, *[f"{LEFT}."] * 5)
  blind = causes.statistics(read(*[f"{LEFT}."] * 35), truth)
  seeing = causes.statistics(truth, truth)
  assert causes.accuracy(blind.sum(0)) == 0
  found = intervals.paired(seeing, blind, causes.accuracy, resamples=200)
  assert found.value == 1
  assert found.p < 0.05


def test_the_truth_may_be_read_from_the_references():
  rows = [study("a", TOLD, TOLD), study("b", "Clear lungs.", TOLD)]
  scores = causes.score(rows, resamples=10)
  assert scores["protocol"]["truth"] == "read from the references"
  assert scores["told"]["n"] == 1
  assert scores["told"]["ceiling"] is None
  text = rendering.render(tables.causes(scores))
  assert "reader on" not in text
  rows[0]["truth"] = [{"label": "Lung Opacity", "side": "left"}]
  rows[1]["truth"] = []
  assert causes.score(rows, resamples=10)["told"]["n"] == 0
  rows[0]["truth"].append({"label": "Pneumonia", "side": "left"})
  scores = causes.score(rows, resamples=10)
  assert json.loads(json.dumps(scores)) == scores
  text = rendering.render(tables.causes(scores))
  assert max(map(len, text.splitlines())) <= rendering.WIDTH
  assert "reader on" in text


def test_a_fact_that_is_doubted_counts():
  facts = [Fact("Lung Opacity", "left"), Fact("Pneumonia", "left", status="uncertain")]
  assert causes.causes(facts) == {"left": {"Pneumonia"}}
