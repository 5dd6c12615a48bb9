"""Retrieval: two sets embedded by first stages, with and without the context."""

import functools

import numpy as np
import pytest
from etils import epath

import micro
from data_pipelines import datasets, interventions
from jaxrg import writer
from jaxrg.experiments import retrieval
from jaxrg.experiments.arms import Arm
from jaxrg.experiments.retrieval import Retrieval
from jaxrg.metrics import retrieval as measures

ARMS = {"before": Arm("untrained", {"pretrain.num_epochs": 1}), "after": Arm("default")}


class Embedder:
  """In place of a Writer: an image is its own report, without context another one."""

  asked = ()

  def __init__(self, export, split, *, data_name=None, data_dir, method):
    assert (method, data_dir) == ("contrast", None)
    assert export.parts[-2:] == ("pretrain", "export")
    type(self).asked += ((export.parts[-3], split),)
    self.meta = writer.Meta(datasets.load(data_name or "thorax/tiny", split))

  def embed(self, edit):
    one = edit(0, {"indication": "Cough.", "history": "Asthma."})
    report = np.eye(len(self.meta))
    return np.roll(report, bool(not one["indication"]), axis=0), report


@pytest.fixture
def run(copies, tmp_path, monkeypatch):
  """Runs the experiment on few studies: its outcome, and what was embedded."""
  fresh = type("Embedder", (Embedder,), {})
  monkeypatch.setattr(retrieval, "Writer", fresh)
  categories = {"data_name": "thorax/tiny", "split": "train"}
  monkeypatch.setattr(retrieval, "CATEGORIES", categories)
  few = functools.partial(measures.score_categories, depths=(1, 10))
  monkeypatch.setattr(measures, "score_categories", few)

  def run():
    experiment = Retrieval("retrieval", "Whose?", ARMS)
    return experiment.run(micro.get_config(), 3, epath.Path(tmp_path)), fresh.asked

  return run


def test_only_first_stages_are_trained_and_only_once(run, copies):
  _, asked = run()
  assert len(copies) == len(set(copies)) == 2
  assert all(what.endswith("/pretrain") for what in copies)
  # One model a set: with and without the context it is the same.
  stages = [what.split("/")[0] for what in copies]
  assert asked == tuple((s, split) for s in stages for split in ("train", "test"))
  run()
  assert len(copies) == 2


def test_trials_are_told_with_and_without_context(run):
  outcome, _ = run()
  trials = outcome.summary["trials"]
  assert [*trials] == ["before", "before, no context", "after", "after, no context"]
  recall = lambda name: trials[name]["instances"]["image_to_report"]["recall_at_1"]
  assert recall("after")["value"] == 1
  # Then an image finds the report before: that of the same study, now and then.
  texts = [record["findings"] for record in datasets.load("thorax/tiny", "test")]
  same = np.mean([text == texts[i - 1] for i, text in enumerate(texts)])
  assert recall("after, no context")["value"] == pytest.approx(same)
  precision = trials["after"]["categories"]["report_to_image"]["precision_at_1"]
  assert precision["value"] == 1


def test_tables_and_panels_stand_beside_chance(run):
  outcome, _ = run()
  categories, instances = outcome.tables
  assert categories.columns[0] == "image to report: precision at 1"
  assert instances.columns[-1] == "report to image: recall at 10"
  for table in outcome.tables:
    assert len(table.rows) == 5
    assert {len(row) for row in table.rows} == {1 + len(table.columns)}
  name, *chances = instances.rows[-1]
  candidates = len(
    {record["findings"] for record in datasets.load("thorax/tiny", "test")}
  )
  assert name == "by chance"
  assert chances[:2] == [f"{k / candidates:.3f}" for k in (1, 5)]
  assert [panel.title for panel in outcome.panels] == [
    "image to report, precision at 10",
    "report to image, precision at 10",
    "image to report, recall at 5",
    "report to image, recall at 5",
  ]
  for panel in outcome.panels:
    assert [point.name for point in panel.points] == [*outcome.summary["trials"]]
    assert all(0 < point.beside < 1 for point in panel.points)


def test_only_the_context_is_denied():
  edits = [interventions.without(parts) for parts in retrieval.DENIED]
  record = {"indication": "Cough.", "history": "", "prior": 3}
  assert edits[0](0, record) == record
  assert edits[1](0, record) == record | {"indication": ""}
