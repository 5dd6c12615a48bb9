"""Scores of a classifier of topics, by hand."""

import numpy as np
import pytest

from data_pipelines.topics import LABELS
from jaxrg import classification


def test_present_is_present_or_uncertain():
  states = np.array([[0, 1], [2, 3]])
  assert classification.is_present(states).tolist() == [[False, True], [True, False]]


def test_the_threshold_with_the_best_f1_is_the_first_of_its_equals():
  present = np.array([[0.9, 0.12], [0.22, 0.35]])
  truth = np.array([[True, False], [False, True]])
  # At .25 and .3 both are found and nothing else: the lower one.
  assert classification.best_threshold(present, truth) == 0.25
  assert classification.best_threshold(present, np.ones((2, 2), bool)) == 0.1
  assert classification.best_threshold(np.zeros((2, 2)), truth) == 0.1


def test_scores_by_hand():
  """Two labels and a phrase; one label that all have is left out."""
  names = (LABELS[0], LABELS[1], "the heart")
  truth = np.array([[1, 1, 1], [0, 1, 0], [1, 1, 0], [0, 1, 1]], bool)
  present = np.array(
    [[0.9, 0.1, 0.6], [0.4, 0.1, 0.7], [0.3, 0.1, 0.1], [0.2, 0.1, 0.9]]
  )
  scores = classification.score(present, truth, ["a", "a", "b", "b"], names)
  assert scores["topics"] == {
    LABELS[0]: {"auc": pytest.approx(3 / 4), "present": 2},
    "the heart": {"auc": pytest.approx(3 / 4), "present": 2},
  }
  assert (scores["studies"], scores["patients"]) == (4, 2)
  for kind in ("labels", "phrases"):
    macro = scores["macro_auc"][kind]
    assert macro["value"] == pytest.approx(3 / 4)
    assert macro["low"] <= macro["value"] <= macro["high"]
  text = classification.table(scores)
  assert "the heart" not in text
  assert "macro-AUC of phrases" in text
  assert text.endswith("4 studies of 2 patients")
