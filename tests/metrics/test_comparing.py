"""Two systems on the same reports: who is better, and who cannot be told apart."""

import numpy as np
import pytest

from jaxrg.metrics import comparing, rendering, scoring

TRUTHS = ["Small left pleural effusion.", "Mild cardiomegaly.", "The lungs are clear."]


def rows(predicted, count=30):
  return [
    {
      "id": f"s{i}",
      "patient_id": f"p{i // 2}",
      "has_prior": False,
      "reference": TRUTHS[i % 3],
      "prediction": predicted(i),
    }
    for i in range(count)
  ]


RIGHT = rows(lambda i: TRUTHS[i % 3])
ALIKE = rows(lambda i: TRUTHS[2])


def test_the_better_one_is_told():
  told = comparing.compare(RIGHT, ALIKE, resamples=200)
  assert (told["n"], told["left_out"]) == (30, 0)
  assert "change_f1" not in told["measures"]
  for row in told["measures"].values():
    gap = row["difference"]
    assert gap["value"] == pytest.approx(row["first"] - row["second"])
    assert gap["low"] > 0
    assert gap["p"] < 0.05


def test_values_are_those_of_the_scores():
  told = comparing.compare(ALIKE, RIGHT, protocol="lower", resamples=10)["measures"]
  alone = scoring.score(ALIKE, resamples=10)
  language = alone["language"]["lower"]
  for name in ("bleu_1", "bleu_4", "rouge_l", "cider"):
    assert told[name]["first"] == pytest.approx(language[name]["value"])
  micro = alone["labels"]["micro"]["f1"]["value"]
  assert told["labels_micro_f1"]["first"] == pytest.approx(micro)


def test_the_same_cannot_be_told_apart():
  told = comparing.compare(RIGHT, RIGHT[::-1], resamples=50)["measures"]
  assert all(row["difference"]["p"] == 1 for row in told.values())
  assert np.allclose([row["difference"]["high"] for row in told.values()], 0)


def test_ids_of_one_side_are_left_out_and_counted():
  told = comparing.compare(RIGHT[3:], ALIKE[:10], resamples=10)
  assert (told["n"], told["left_out"]) == (7, 23)
  # Of seven patients no interval is told.
  assert {row["difference"]["p"] for row in told["measures"].values()} == {None}
  text = rendering.render(comparing.table(told, "one", "other"))
  assert "7 reports of both, 23 of one alone left out" in text


def test_files_that_cannot_be_compared():
  with pytest.raises(ValueError, match="no id in common"):
    comparing.compare(RIGHT[:3], ALIKE[3:])
  other = [row | {"reference": "Another."} for row in ALIKE]
  with pytest.raises(ValueError, match="other references for id 's0'"):
    comparing.compare(RIGHT, other)
