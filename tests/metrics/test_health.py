"""Numbers that show a dead system, on a handful of reports."""

import pytest

from data_pipelines import findings
from jaxrg.metrics import health

SAME = ["The lungs are clear."] * 4
VARIED = [
  "The lungs are clear.",
  "Small left effusion. Small left effusion. No pneumothorax.",
  "Effusion.",
  "",
]


def test_one_sentence_for_everybody():
  told = health.measure(SAME, findings, references=VARIED, training=[SAME[0].upper()])
  assert (told["n"], told["n_unique"], told["n_empty"]) == (4, 1, 0)
  assert told["distinct_1"] == pytest.approx(4 / 16)
  assert told["distinct_2"] == pytest.approx(3 / 12)
  assert (told["normal"], told["copied"], told["repeated"]) == (1, 1, 0)
  assert told["length_ratio"] == pytest.approx(16 / 13)


def test_reports_that_differ():
  told = health.measure(VARIED, findings, training=["Another."])
  assert (told["n_unique"], told["n_empty"], told["n_one_word"]) == (4, 1, 1)
  assert told["words"] == pytest.approx(13 / 4)
  # What is empty says nothing, so not that all is well; "small left effusion. small".
  assert (told["normal"], told["repeated"], told["copied"]) == (0.25, 0.0, 0)


def test_four_words_in_a_row_twice():
  twice = "Small left effusion is seen. Again small left effusion is seen."
  assert health.measure([twice, SAME[0]], findings)["repeated"] == 0.5


def test_what_is_not_asked_is_not_told():
  assert not {"length_ratio", "copied"} & health.measure(SAME, findings).keys()
