import json

import pytest
from stubs import Reader, labels, study

from jaxrg.metrics import coco, rendering, scoring, tables
from jaxrg.metrics.protocols import Truncation

RIGHT = {"label": "Pleural Effusion", "side": "right", "change": "new"}


def studies():
  return [
    study("a1", "no effusion.", "no effusion.", patient_id="a", has_prior=False),
    study(
      "a2",
      "effusion right new.",
      "effusion left new.",
      patient_id="a",
      has_prior=True,
    ),
    study(
      "b1",
      "effusion left larger.",
      "effusion left larger.",
      patient_id="b",
      has_prior=True,
    ),
    study("c1", "edema.", "", patient_id="c", has_prior=False),
  ]


def with_truth():
  found = [labels(), labels(effusion=1), labels(effusion=1), labels(edema=1)]
  facts = [[], [RIGHT], [{**RIGHT, "side": "left", "change": "larger"}], []]
  return [
    row | {"labels": label, "truth": truth}
    for row, label, truth in zip(studies(), found, facts)
  ]


def test_counts_and_protocols_travel_with_the_scores():
  metrics = scoring.score(studies(), reader=Reader())
  assert (metrics["n"], metrics["n_unique"], metrics["n_empty"]) == (4, 4, 1)
  assert (metrics["n_patients"], metrics["n_with_prior"]) == (3, 2)
  protocol = metrics["language"]["priorrg"]["protocol"]
  assert protocol["references"].startswith("cut to 100 tokens of GPT-2's")
  full = metrics["language"]["priorrg_full"]["protocol"]
  assert full["references"] == "in full"
  assert (protocol["n"], protocol["n_unique"]) == (4, 4)
  assert metrics["labels"]["protocol"] == {
    "labeler": "rules",
    "truth": "read from the references",
    "uncertain": "as positive",
    "macro": "over the 2 labels that occur in the truth",
    "n": 4,
    "n_unique": 4,
  }
  assert metrics["changes"]["protocol"]["n"] == 2
  assert json.loads(json.dumps(metrics)) == metrics


def test_findings_and_changes_by_hand():
  metrics = scoring.score(studies(), reader=Reader())
  assert metrics["labels"]["micro"]["f1"]["value"] == pytest.approx(0.8)
  assert metrics["labels"]["macro"]["f1"]["value"] == pytest.approx(0.5)
  edema = metrics["labels"]["classes"]["Edema"]
  assert (edema["n_true"], edema["n_predicted"], edema["f1"]) == (1, 0, 0)
  changed = metrics["changes"]["changed"]
  assert (changed["precision"], changed["recall"]) == (0.5, 0.5)
  assert changed["f1"]["value"] == 0.5
  assert metrics["labels"]["ceiling"] is metrics["changes"]["ceiling"] is None


def test_ceiling_is_the_reader_on_the_references():
  rows = with_truth()
  rows[3]["reference"] = "something the reader does not know."
  rows[2]["reference"] = "effusion right larger."
  metrics = scoring.score(rows, reader=Reader())
  assert metrics["labels"]["protocol"]["truth"] == "ground truth"
  assert metrics["labels"]["ceiling"]["micro_f1"] == pytest.approx(0.8)
  assert metrics["changes"]["ceiling"]["changed_f1"] == pytest.approx(0.5)


def test_truncation_cuts_references_only():
  cut = Truncation(lambda text: " ".join(text.split()[:2]), "cut to 2 words")
  rows = [
    study("a", "the heart is large.", "the heart"),
    study("b", "no edema at all.", "no edema"),
  ]
  metrics = scoring.score(rows, truncation=cut, reader=Reader())
  raw = metrics["language"]["raw"]
  assert raw["protocol"]["references"] == "cut to 2 words"
  assert raw["bleu_2"]["value"] == pytest.approx(1)
  assert raw["rouge_l"]["value"] == pytest.approx(1)
  full = scoring.score(rows, reader=Reader())["language"]["raw"]
  assert full["bleu_2"]["value"] < 0.5


def test_without_priors_there_are_no_changes():
  nobody = [row | {"has_prior": False} for row in studies()]
  assert scoring.score(nobody, reader=Reader())["changes"] is None


def test_prior_effect():
  rows = with_truth()
  blind = [row | {"prediction": "effusion right new."} for row in reversed(rows)]
  constant = {("Pleural Effusion", "left", "larger")}
  effect = scoring.prior_effect(
    {"true prior": rows, "no prior": blind}, constant, reader=Reader()
  )
  assert list(effect) == ["true prior", "no prior", "constant answer"]
  assert [row["f1"]["value"] for row in effect.values()] == [0.5, 0.5, 0.5]
  assert "difference" not in effect["true prior"]
  assert effect["no prior"]["difference"]["value"] == 0
  assert effect["no prior"]["n"] == 2
  with pytest.raises(ValueError, match="no prior: no prediction for id 'a2'"):
    scoring.prior_effect({"true prior": rows, "no prior": []}, reader=Reader())


def test_what_java_cannot_score_leaves_the_rest(monkeypatch):
  """Neither METEOR nor the tokenizer takes the other scores with it."""

  def fail(*_):
    raise coco.JavaError("METEOR failed: out of memory")

  monkeypatch.setattr(coco, "meteor", fail)
  monkeypatch.setattr(coco, "tokenise", fail)
  plain = scoring.score(studies(), reader=Reader())
  metrics = scoring.score(studies(), reader=Reader(), with_java=True)
  assert metrics["failed"] == dict.fromkeys(
    ("priorrg", "r2gen", "coco"), "METEOR failed: out of memory"
  )
  assert metrics["language"] == plain["language"]
  assert plain["failed"] == {}


def test_terminal_table():
  rows = with_truth()
  metrics = scoring.score(rows, reader=Reader())
  effect = scoring.prior_effect({"true prior": rows, "no prior": rows}, reader=Reader())
  others = {"most common report": metrics, "report of the nearest image": metrics}
  text = tables.text(metrics, others, effect)
  assert max(map(len, text.splitlines())) <= rendering.WIDTH
  for words in ("protocol priorrg", "in full", "as positive", "truth: ground truth"):
    assert words in text
  assert "  BLEU-4 " in text
  assert "100.0%" in text  # Of the outputs are unique.
  assert "0.500 [0.000, 1.000]" in text  # Change F1: one of two patients.
  many = {f"system {i}": metrics for i in range(9)}
  wide = tables.text(metrics, many, effect)
  assert max(map(len, wide.splitlines())) <= rendering.WIDTH
  assert "system 8" in wide


def test_with_the_reader_of_reports():
  """The stub stands for `findings`, which says the same of the same."""
  rows = [
    study("a", "There is an unchanged left pleural effusion.", "No pleural effusion."),
    study("b", "There is a new left pleural effusion.", "New left pleural effusion."),
  ]
  metrics = scoring.score(rows, resamples=10)
  effusion = metrics["labels"]["classes"]["Pleural Effusion"]
  assert (effusion["n_true"], effusion["n_predicted"]) == (2, 1)
  assert metrics["changes"]["changed"]["f1"]["value"] == 1
  assert metrics["changes"]["unchanged"]["n_true"] == 1
  assert metrics["changes"]["unchanged"]["f1"]["value"] == 0
