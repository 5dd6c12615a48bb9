"""The error analysis of a finished run."""

import pytest
from etils import epath

import micro
from jaxrg.experiments.arms import Arm
from jaxrg.experiments.errors import ErrorAnalysis
from jaxrg.metrics import causes, errors, predictions, tables


@pytest.fixture
def outcome(copies, tmp_path):
  analysis = ErrorAnalysis("errors", "What is wrong?", Arm("default"))
  outcome = analysis.run(micro.get_config(), 3, epath.Path(tmp_path))
  # Of one seed, however many are asked for.
  assert copies[1:] == ["default-0/finetune", "default-0/eval"]
  return outcome


def test_the_errors_are_those_of_the_run_s_reports(outcome, finished):
  rows = predictions.read(finished / "eval/predictions.jsonl")
  assert outcome.summary["errors"] == errors.score(rows)
  assert outcome.summary["causes"] == causes.score(rows)
  assert outcome.tables[0] == tables.errors(errors.score(rows))
  assert outcome.tables[1] == tables.causes(causes.score(rows))


def test_a_panel_a_group_that_has_any(outcome):
  found = outcome.summary["errors"]
  groups = [group for group in errors.GROUPS if found[group]]
  assert "change" in groups
  assert len(outcome.panels) == len(groups)
  for group, panel in zip(groups, outcome.panels):
    assert panel.title == f"{group.replace('_', ' ')}, n = {found[group]['n']}"
    names = [name.replace("_", " ") for name in errors.GROUPS[group][1]]
    assert [point.name for point in panel.points] == names
    assert sum(point.value for point in panel.points) == pytest.approx(1)
