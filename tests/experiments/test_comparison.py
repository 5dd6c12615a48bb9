"""Trials: what is written once, and how they are compared with the first of them."""

import numpy as np
import pytest
from etils import epath

import micro
from data_pipelines import datasets, interventions
from data_pipelines.records import LABELS, PRESENT, UNMENTIONED
from jaxrg.experiments import comparison
from jaxrg.experiments.arms import Arm
from jaxrg.experiments.comparison import Comparison, Condition, Trial, Written
from jaxrg.experiments.scores import TITLES
from jaxrg.metrics import predictions, rendering

DEFAULT = Arm("default")
GREEDY = Arm("greedy", {"decode.num_beams": 1})
BLANK = Condition("blank", lambda meta, source: interventions.blank_image(meta, 128))
NO_PRIOR = Condition(
  "no-prior", lambda meta, source: interventions.drop_priors(meta, 1.0, 0)
)

EFFUSION, NONE = "Pleural effusion on the left, mild.", ""
EVERY = np.ones(4, bool)
FIRST_TWO = np.array([True, True, False, False])


def rows(*reports):
  """Studies of as many patients, all with an effusion, and the reports on them."""
  labels = [UNMENTIONED] * len(LABELS)
  labels[LABELS.index("Pleural Effusion")] = PRESENT
  fact = {"label": "Pleural Effusion", "side": "left", "status": "present"}
  return [
    {
      "id": f"p{i}",
      "patient_id": f"p{i}",
      "has_prior": True,
      "reference": EFFUSION,
      "prediction": report,
      "labels": labels,
      "truth": [fact],
    }
    for i, report in enumerate(reports)
  ]


def summarise(words="priorrg", **written):
  return comparison.summarise(written, words, resamples=50)


def test_every_trial_has_its_difference_to_the_first():
  summary = summarise(
    all=Written([rows(*[EFFUSION] * 4)], EVERY),
    none=Written([rows(*[NONE] * 4)], EVERY),
  )
  assert summary["reference"] == "all"
  first, second = summary["trials"].values()
  assert "difference" not in first["label_micro_f1"]
  assert first["label_micro_f1"]["value"] == 1
  assert first["bleu_4"]["value"] == pytest.approx(1)
  assert second["label_micro_f1"]["value"] == 0
  assert second["label_micro_f1"]["difference"]["value"] == -1
  assert second["label_micro_f1"]["difference"]["high"] == -1
  assert second["n"] == first["n"] == 4
  assert set(first) == {"n", "seeds", *TITLES}


def test_a_trial_is_compared_on_the_studies_that_it_concerns():
  reference = Written([rows(EFFUSION, EFFUSION, NONE, NONE)], EVERY)
  nothing = rows(*[NONE] * 4)
  summary = summarise(
    all=reference,
    first=Written([nothing], FIRST_TWO),
    last=Written([nothing], ~FIRST_TWO),
  )
  score = lambda name: summary["trials"][name]["label_micro_f1"]
  assert score("all")["value"] == pytest.approx(2 / 3)
  assert score("first")["difference"]["value"] == -1
  assert score("last")["difference"]["value"] == 0
  assert summary["trials"]["first"]["n"] == 2
  marks = {
    point.name: point.beside for point in comparison.panels(shown(summary))[0][1]
  }
  assert marks == {"all": pytest.approx(2 / 3), "first": 1, "last": 0}


def test_seeds_pool():
  """Two of four found by one seed, none by the other: F1 of 2 found and 6 missed."""
  seeds = [rows(EFFUSION, EFFUSION, NONE, NONE), rows(*[NONE] * 4)]
  summary = summarise(
    all=Written(seeds, EVERY), one=Written([rows(*[EFFUSION] * 4)] * 2, EVERY)
  )
  first, second = (t["label_micro_f1"] for t in summary["trials"].values())
  assert first["value"] == pytest.approx(4 / (4 + 6))
  assert first["by_seed"] == [pytest.approx(2 / 3), 0]
  assert second["difference"]["value"] == pytest.approx(1 - 4 / 10)
  assert summary["trials"]["all"]["seeds"] == 2


def test_words_are_counted_by_the_protocol_that_is_named():
  """EIR writes no capitals, which a protocol that keeps case holds against it."""
  lower = Written([rows(*[EFFUSION.lower()] * 4)], EVERY)
  kept, lowered = summarise(words="priorrg", a=lower), summarise(words="lower", a=lower)
  assert lowered["trials"]["a"]["bleu_4"]["value"] == pytest.approx(1)
  assert kept["trials"]["a"]["bleu_4"]["value"] < 0.9
  assert "protocol lower" in lowered["protocol"]


def shown(summary):
  return summary | {"question": "What for?"}


def test_a_trial_that_concerns_nobody_has_no_score():
  summary = shown(
    summarise(
      all=Written([rows(*[EFFUSION] * 4)], EVERY),
      nobody=Written([rows(*[NONE] * 4)], ~EVERY),
    )
  )
  assert summary["trials"]["nobody"] == {"n": 0, "seeds": 1}
  assert comparison.table(summary).rows[1] == ["nobody", "0", "1", *["-"] * len(TITLES)]
  for panel in comparison.panels(summary):
    assert [point.name for point in panel.points] == ["all"]


def test_the_table_says_values_and_differences():
  table = comparison.table(
    shown(
      summarise(
        all=Written([rows(*[EFFUSION] * 4)], EVERY),
        none=Written([rows(*[NONE] * 4)], EVERY),
      )
    )
  )
  assert table.columns[2] == "label micro-F1"
  assert table.rows[0][:4] == ["all", "4", "1", "1.000 [1.000, 1.000]"]
  assert table.rows[1][:4] == ["none", "4", "1", "0.000 -1.000 [-1.000, -1.000]"]
  assert "difference to 'all'" in rendering.render(table).replace("\n", " ")


def test_a_change_counts_where_there_is_a_prior():
  """Without one it cannot be right, and is no error of this kind."""
  larger = "Pleural effusion on the left, larger."
  studies = rows(*[larger] * 4)
  for i, row in enumerate(studies):
    row["truth"] = [row["truth"][0] | {"change": "larger" if i < 2 else ""}]
    row["has_prior"] = i < 2
  summary = summarise(all=Written([studies], EVERY))
  assert summary["trials"]["all"]["change_f1"]["value"] == 1


class Scribe:
  """In place of a Writer: writes nothing of every study, and tells when."""

  made, wrote = 0, 0

  def __init__(self, directory, split, *, data_dir):
    assert (split, data_dir) == (comparison.SPLIT, None)
    self.export = directory
    type(self).made += 1

  def write(self, edit):
    assert callable(edit)
    type(self).wrote += 1
    written = predictions.read(self.export.parent / "eval" / "predictions.jsonl")
    return [row | {"prediction": "Nothing."} for row in written]


@pytest.fixture
def scribe(monkeypatch):
  fresh = type("Scribe", (Scribe,), {})
  monkeypatch.setattr(comparison, "Writer", fresh)
  return fresh


TRIALS = (
  Trial("all", DEFAULT),
  Trial("greedy", GREEDY),
  Trial("blank", DEFAULT, BLANK),
  Trial("no prior", DEFAULT, NO_PRIOR),
)


def test_nothing_is_trained_or_written_twice(copies, scribe, tmp_path):
  trial = Comparison("inputs", "What for?", TRIALS)
  root = epath.Path(tmp_path)
  first = trial.run(micro.get_config(), 2, root)
  # Two seeds of two arms, which share the first stage of each; two conditions.
  assert len(copies) == 2 + 2 * 2 * 2
  assert (scribe.made, scribe.wrote) == (2, 4)
  second = trial.run(micro.get_config(), 2, root)
  assert len(copies) == 10
  assert (scribe.made, scribe.wrote) == (2, 4)
  assert first == second
  (root / "default-1/conditions/blank.jsonl").unlink()
  trial.run(micro.get_config(), 2, root)
  assert len(copies) == 10
  assert scribe.wrote == 5


def test_what_a_comparison_says(copies, scribe, tmp_path):
  base, root = micro.get_config(), epath.Path(tmp_path)
  outcome = Comparison("inputs", "What for?", TRIALS).run(base, 1, root)
  summary = outcome.summary
  assert summary["experiment"] == "inputs"
  assert summary["data"] == "thorax/tiny"
  assert summary["config"] == "priorrg:tiny"
  source = datasets.load("thorax/tiny", "test")
  studies = {name: trial["n"] for name, trial in summary["trials"].items()}
  with_prior = sum(record["prior"] >= 0 for record in source)
  assert studies == {
    "all": len(source), "greedy": len(source), "blank": len(source),
    "no prior": with_prior,
  }  # fmt: skip
  assert len(outcome.panels) == len(TITLES)
  assert all(len(panel.points) == len(TRIALS) for panel in outcome.panels)
  assert outcome.page == ""


@pytest.mark.parametrize("composed", [True, False])
def test_a_page_only_of_what_is_nobody_s(
  copies, scribe, tmp_path, monkeypatch, composed
):
  base = micro.get_config()
  if not composed:
    load = datasets.load
    monkeypatch.setattr(
      datasets, "load", lambda name, *rest: load("thorax/tiny", *rest)
    )
    base.data.name = "mimic_cxr"
  trial = Comparison("seeding", "What for?", TRIALS[:1], side_by_side=3)
  page = trial.run(base, 1, epath.Path(tmp_path)).page
  assert page.count("<article>") == (3 if composed else 0)
