"""Averages of labels, as scikit-learn takes them, by hand."""

import numpy as np
import pytest

from data_pipelines.records import ABSENT, LABELS, PRESENT, UNCERTAIN, UNMENTIONED
from jaxrg.metrics import averages, rendering


def labels(*reports):
  """Rows of labels; a report is {label: state}."""
  found = np.full((len(reports), len(LABELS)), UNMENTIONED, np.int8)
  for row, report in zip(found, reports):
    for label, state in report.items():
      row[LABELS.index(label)] = state
  return found


TRUTH = labels(
  {"Edema": PRESENT, "Fracture": PRESENT},
  {"Edema": UNCERTAIN},
  {"No Finding": PRESENT},
)
CLAIMED = labels(
  {"Edema": PRESENT, "Fracture": ABSENT},
  {"Cardiomegaly": PRESENT},
  {"No Finding": PRESENT},
)


@pytest.mark.parametrize(
  ("labels", "uncertain", "average", "precision", "recall", "f1"),
  [
    # Edema 1 of 2, fracture 0 of 1, no finding 1 of 1; cardiomegaly claimed.
    ("14", "positive", "micro", 2 / 3, 2 / 4, 4 / 7),
    ("14", "negative", "micro", 2 / 3, 2 / 3, 4 / 6),
    ("14", "positive", "macro", 2 / 14, 1.5 / 14, (2 / 3 + 1) / 14),
    ("14", "positive", "example", 2 / 3, 1.5 / 3, (2 / 3 + 0 + 1) / 3),
    ("14", "positive", "weighted", (2 + 0 + 1) / 4, 2 / 4, (2 * 2 / 3 + 1) / 4),
    ("5", "positive", "micro", 1 / 2, 1 / 2, 1 / 2),
    ("5", "positive", "example", 1 / 3, 1 / 3, 1 / 3),
    ("5", "negative", "macro", 1 / 5, 1 / 5, 1 / 5),
  ],
)
def test_by_hand(labels, uncertain, average, precision, recall, f1):
  found = averages.all_averages(CLAIMED, TRUTH)[labels][uncertain][average]
  assert found == pytest.approx({"precision": precision, "recall": recall, "f1": f1})


def test_the_table_names_who_prints_what():
  text = rendering.render(
    averages.table(averages.all_averages(CLAIMED, TRUTH), "rules")
  )
  for _, label_set, _ in averages.USED_BY:
    assert f"{label_set} labels" in text
  for who in averages.USED_BY.values():
    assert who.split(",")[0] in text
