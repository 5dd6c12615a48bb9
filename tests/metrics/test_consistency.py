"""Whether reports say what was decided, by hand."""

import numpy as np
import pytest

from data_pipelines.records import LABELS
from jaxrg.metrics import consistency, rendering

NORMAL, EFFUSION, EDEMA = map(LABELS.index, ("No Finding", "Pleural Effusion", "Edema"))
TEXTS = (
  "Small left pleural effusion.",
  "Pulmonary edema. Small right pleural effusion.",
  "The heart is normal in size. The lungs are clear.",
  "No pneumothorax.",
)


def decided(*labels):
  rows = np.zeros((len(labels), len(LABELS)), bool)
  for row, chosen in zip(rows, labels):
    row[[*chosen]] = True
  return rows


def test_scores_by_hand():
  rows = decided([EFFUSION], [EFFUSION], [NORMAL], [EDEMA])
  scores = consistency.score(rows, TEXTS, ["a", "a", "b", "c"])
  # The second names what was not decided, the last does not name what was.
  assert scores["same"]["value"] == pytest.approx(2 / 4)
  assert scores["classes"]["Pleural Effusion"] == 1
  assert scores["classes"]["Edema"] == 0
  assert scores["normal"]["value"] == pytest.approx(2 / 4)
  assert scores["decided_normal"]["value"] == pytest.approx(1 / 4)
  # Right: two effusions and no finding; too much: edema, no finding; missed: edema.
  assert scores["micro"]["value"] == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))
  for key in ("same", "micro", "normal"):
    assert scores[key]["low"] <= scores[key]["value"] <= scores[key]["high"]
  text = rendering.render(consistency.table(scores))
  assert "all 14 labels agree" in text
  assert "4 studies" in text


def test_reports_that_say_what_was_decided_are_wholly_consistent():
  rows = decided([EFFUSION], [EFFUSION, EDEMA])
  scores = consistency.score(rows, TEXTS[:2], ["a", "b"])
  for key in ("same", "micro"):
    assert scores[key] == {"value": 1, "low": 1, "high": 1}
