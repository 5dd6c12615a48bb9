import numpy as np
import pytest
from stubs import Reader, labels, study

from data_pipelines.records import LABELS
from jaxrg.metrics import clinical


def test_f1_by_hand():
  """Spec eir 12, 16: precision, recall and F1, 0/0 and what macro is the mean of."""
  outcomes = np.array([[6, 2, 4], [0, 0, 0], [0, 3, 0], [0, 0, 2]])
  np.testing.assert_allclose(clinical.precision(outcomes), [0.75, 0, 0, 0])
  np.testing.assert_allclose(clinical.recall(outcomes), [0.6, 0, 0, 0])
  np.testing.assert_allclose(clinical.f1(outcomes), [2 * 0.45 / 1.35, 0, 0, 0])
  assert clinical.micro_f1(outcomes) == pytest.approx(12 / (12 + 5 + 6))
  # Two of the four labels occur in the truth.
  assert clinical.macro_f1(outcomes) == pytest.approx(0.9 / 1.35 / 2)


def test_uncertain_counts_as_named():
  """Spec eir 12, 16: both policies."""
  predicted, truth = np.array([labels(edema=-1)]), np.array([labels(edema=1)])
  edema = LABELS.index("Edema")
  as_positive = clinical.label_statistics(predicted, truth, "positive")[0, edema]
  as_negative = clinical.label_statistics(predicted, truth, "negative")[0, edema]
  np.testing.assert_array_equal(as_positive, [1, 0, 0])
  np.testing.assert_array_equal(as_negative, [0, 0, 1])


def test_absent_and_unmentioned_are_not_positive():
  predicted, truth = np.array([labels(edema=0)]), np.array([labels()])
  assert clinical.label_statistics(predicted, truth).sum() == 0


def test_changes_count_where_finding_side_and_kind_agree():
  real = {("Edema", "", "new"), ("Pleural Effusion", "left", "larger")}
  claimed = {
    ("Edema", "", "new"),
    ("Pleural Effusion", "right", "larger"),
    ("Pneumothorax", "left", "unchanged"),
  }
  counts = clinical.change_statistics([claimed, set()], [real, real])
  np.testing.assert_array_equal(counts, [[1, 1, 1], [0, 0, 2]])
  unchanged = clinical.change_statistics([claimed], [real], ("unchanged",))
  np.testing.assert_array_equal(unchanged, [[0, 1, 0]])


def test_truth_is_the_records_own_where_it_has_one():
  rows = [
    study("a", "edema.", "", labels=labels(effusion=1), truth=[]),
    study("b", "edema.", ""),
  ]
  found, source = clinical.true_labels(rows, Reader())
  np.testing.assert_array_equal(found, [labels(effusion=1), labels(edema=1)])
  assert source == "ground truth (1), read from the references (1)"
  assert clinical.true_labels(rows[:1], Reader())[1] == clinical.GROUND_TRUTH
  assert clinical.true_labels(rows[1:], Reader())[1] == "read from the references"


def test_true_changes_are_those_of_the_facts():
  fact = {"label": "Edema", "side": "", "change": "new", "status": "present"}
  steady = {"label": "Fracture", "side": "left", "change": ""}
  rows = [study("a", "effusion left new.", "", truth=[fact, steady])]
  changes, source = clinical.true_changes(rows, Reader())
  assert changes == [{("Edema", "", "new")}]
  assert source == clinical.GROUND_TRUTH
  changes, _ = clinical.true_changes([study("a", "effusion left new.", "")], Reader())
  assert changes == [{("Pleural Effusion", "left", "new")}]


def test_a_text_is_read_once():
  reader = Reader()
  read = clinical.read_labels(["edema."] * 50 + ["no edema."], reader)
  assert read.shape == (51, 14)
  assert sorted(reader.texts) == ["edema.", "no edema."]


def test_the_reference_of_a_record_with_a_truth_is_not_read():
  reader = Reader()
  told = study("a", "edema.", "", labels=labels(edema=1))
  untold = study("b", "no edema.", "")
  found, _ = clinical.true_labels([told, untold, told], reader)
  np.testing.assert_array_equal(
    found, [labels(edema=1), labels(edema=0), labels(edema=1)]
  )
  assert reader.texts == ["no edema."]


def test_silence_is_no_claim_of_a_normal_study():
  class Normal:
    def labels(self, text):
      return np.array([-2] * 13 + [1], np.int8)

  read = clinical.read_labels(["", "  ", "Clear lungs."], Normal())
  np.testing.assert_array_equal(read[:, -1], [-2, -2, 1])


def test_unchanged_findings_are_read_too():
  changes = clinical.read_changes(["effusion left unchanged."], Reader())
  assert changes == [{("Pleural Effusion", "left", "unchanged")}]


def test_changes_are_confused_by_kind():
  claimed = [
    {("Edema", "", "new"), ("Edema", "", "larger")},
    {("Edema", "", "smaller")},
  ]
  truth = [{("Edema", "", "larger")}, {("Pneumothorax", "left", "unchanged")}]
  counts = clinical.change_confusion(claimed, truth)
  row = {kind: i for i, kind in enumerate((*clinical.KINDS, "not said"))}
  expected = np.zeros_like(counts)
  for true, said in (
    ("larger", "larger"),
    ("not said", "new"),
    ("not said", "smaller"),
    ("unchanged", "not said"),
  ):
    expected[row[true], row[said]] = 1
  np.testing.assert_array_equal(counts, expected)
