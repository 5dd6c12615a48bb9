"""Golden placements of the published sizes: a change shows in a diff."""

import pytest

from golden import placements

STAGES = {
  f"{paper}_{name}": (config, name) for paper, name, config in placements.stages()
}


@pytest.mark.parametrize("stage", STAGES)
def test_placements_are_those_that_were_reviewed(stage):
  """After an intended change: python tests/golden/placements.py"""
  golden = (placements.FOLDER / f"{stage}.txt").read_text()
  assert placements.describe(*STAGES[stage]) == golden
