"""What the nearest film shares with a film, by hand-made embeddings."""

import json

import numpy as np
import pytest

from data_pipelines.records import ABSENT, LABELS, PRESENT, UNMENTIONED
from jaxrg.metrics import nearest, retrieval

QUESTIONS = (
  nearest.SAME_PATIENT,
  nearest.SAME_FINDINGS,
  nearest.SAME_FINDINGS_ELSEWHERE,
)


def labels(present, other=ABSENT):
  rows = np.full((len(present), len(LABELS)), other)
  rows[np.arange(len(present)), present] = PRESENT
  return rows


def score(embeddings, patients, studies, present, **options):
  options = {"resamples": 100} | options
  return nearest.score(embeddings, patients, studies, labels(present), **options)


def values(found, key="value"):
  return [found[question][key] for question in QUESTIONS]


def films(count=120):
  """Two films a study, three studies a patient, one of four findings a study."""
  film = np.arange(count)
  rng = np.random.default_rng(0)
  finding = rng.integers(4, size=count // 2)[film // 2]
  return rng, film // 6, film // 2, finding


def test_an_encoder_that_sees_the_patient():
  rng, patients, studies, present = films()
  rows = np.eye(20)[patients] + 0.01 * rng.normal(size=(120, 20))
  found = score(rows, patients, studies, present)
  same_patient, same_findings, elsewhere = values(found)
  assert same_patient == 1
  for value, name in ((same_findings, QUESTIONS[1]), (elsewhere, QUESTIONS[2])):
    assert value == pytest.approx(found[name]["chance"], abs=0.15)
    assert found[name]["low"] < found[name]["chance"] < found[name]["high"]
  assert found["protocol"]["n"] == 120
  assert json.loads(json.dumps(found)) == found


def test_an_encoder_that_sees_the_findings():
  rng, patients, studies, present = films()
  rows = np.eye(4)[present] + 0.01 * rng.normal(size=(120, 4))
  found = score(rows, patients, studies, present)
  same_patient, same_findings, elsewhere = values(found)
  assert same_findings == elsewhere == 1
  chance = found[nearest.SAME_PATIENT]["chance"]
  assert chance == pytest.approx(4 / 118)
  assert same_patient < 5 * chance


def test_shares_by_hand():
  """Five films on a circle: a0 a0 | a1 | b2 | b3, findings x x y x y."""
  angle = np.deg2rad([0, 1, 10, 15, 60])
  rows = np.stack([np.cos(angle), np.sin(angle)], axis=1)
  found = score(rows, list("aaabb"), [0, 0, 1, 2, 3], [0, 0, 1, 0, 1])
  # Nearest of other studies: 2 2 3 2 3; of other patients: 3 3 3 2 2.
  assert values(found) == pytest.approx([3 / 5, 0, 3 / 5])
  chance = [(1 / 3 + 1 / 3 + 2 / 4 + 1 / 4 + 1 / 4) / 5]
  chance += [(1 / 3 + 1 / 3 + 1 / 4 + 2 / 4 + 1 / 4) / 5]
  chance += [(1 / 2 + 1 / 2 + 1 / 2 + 2 / 3 + 1 / 3) / 5]
  assert values(found, "chance") == pytest.approx(chance)
  assert values(found, "possible") == [1, 1, 1]


def test_guessing_scores_chance():
  """All films alike: ties are broken by chance."""
  _, patients, studies, present = films()
  found = score(np.ones((120, 3)), patients, studies, present)
  assert values(found) == pytest.approx(values(found, "chance"))


def test_a_patient_of_one_study_cannot_be_found_again():
  rows = np.eye(4)[[0, 0, 1, 1]]
  found = score(rows, list("aabc"), [0, 1, 2, 3], [0, 1, 2, 2])
  assert values(found, "possible") == [1 / 2, 1 / 2, 1 / 2]
  assert values(found) == [1 / 2, 1 / 2, 1 / 2]
  # Of a patient in one study, every film is of it: the findings are all the same.
  found = score(rows, list("aabb"), [0, 0, 1, 1], [0, 0, 0, 0])
  assert values(found) == [0, 1, 1]


def test_only_what_is_present_is_a_finding():
  rows, patients = np.eye(2)[[0, 0]], ["a", "b"]
  stated = labels([3, 3])
  stated[0][stated[0] == ABSENT] = UNMENTIONED
  found = nearest.score(rows, patients, [0, 1], stated, resamples=10)
  assert found[nearest.SAME_FINDINGS]["value"] == 1


def test_blocks_change_nothing(monkeypatch):
  rng, patients, studies, present = films()
  rows = rng.normal(size=(120, 6))
  expected = score(rows, patients, studies, present)
  monkeypatch.setattr(retrieval, "_BLOCK", 7)
  assert score(rows, patients, studies, present) == expected


def test_what_is_asked_for():
  with pytest.raises(ValueError, match="at least two patients"):
    score(np.eye(2), ["a", "a"], [0, 1], [0, 0])
  with pytest.raises(ValueError, match="3 films, 2 patients, 2 studies and 2 rows"):
    score(np.eye(3), ["a", "b"], [0, 1], [0, 0])
