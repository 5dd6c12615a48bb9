"""Evaluating an export: the run's own figures, and priors exchanged honestly."""

import json
import shutil
import stat

import numpy as np
import pytest

import micro
from data_pipelines import datasets
from jaxrg import evaluation, inference, sharding
from jaxrg.metrics import predictions

EIGHT_DEVICES = sharding.make_mesh  # The fixture replaces it by one device.


def verb(*arguments, checkpoint):
  return micro.verb("evaluate", f"--checkpoint={checkpoint}", *arguments)


def test_the_verb_gives_the_run_s_own_evaluation(miniature, finished, tmp_path, capsys):
  status = verb(f"--out={tmp_path / 'again'}", checkpoint=finished / "export")
  assert status == 0
  printed = capsys.readouterr().out
  for name in ("predictions.jsonl", "metrics.json", "report.html"):
    again, first = tmp_path / "again" / name, finished / "eval" / name
    assert again.read_bytes() == first.read_bytes()
    assert stat.S_IMODE(again.stat().st_mode) == 0o600
  scores = json.loads((tmp_path / "again/metrics.json").read_text())
  assert printed.startswith(evaluation.table(scores))
  assert printed.endswith(f"scores: {tmp_path / 'again/metrics.json'}\n")


def test_predictions_are_of_every_record_in_order(finished, miniature):
  rows = predictions.read(finished / "eval/predictions.jsonl")
  source = datasets.load("thorax/tiny", "test")
  assert [row["id"] for row in rows] == [record["id"].decode() for record in source]
  assert [row["reference"] for row in rows] == [
    record["findings"].decode() for record in source
  ]
  assert [row["has_prior"] for row in rows] == [
    record["prior"] >= 0 for record in source
  ]
  assert all(row["prior_report"] for row in rows if row["has_prior"])
  assert all(len(row["labels"]) == 14 for row in rows)


def test_references_are_cut_where_published_numbers_are_compared(
  miniature, finished, tmp_path
):
  """To as many tokens as a report may have; what is written stays whole."""
  shutil.copytree(finished / "export", tmp_path / "export")
  path = tmp_path / "export/config.json"
  facts = json.loads(path.read_text())
  facts["config"]["decode"]["cut_references"] = True
  path.write_text(json.dumps(facts))
  assert verb(checkpoint=tmp_path / "export") == 0
  cut, full = (
    json.loads((folder / "eval/metrics.json").read_text())["metrics"]
    for folder in (tmp_path, finished)
  )
  protocol = lambda metrics: metrics["language"]["raw"]["protocol"]["references"]
  assert (protocol(cut), protocol(full)) == ("cut to 16 tokens", "in full")
  assert cut["language"]["raw"]["bleu_1"] != full["language"]["raw"]["bleu_1"]
  assert cut["labels"] == full["labels"]
  rows = [predictions.read(f / "eval/predictions.jsonl") for f in (tmp_path, finished)]
  assert rows[0] == rows[1]


def test_scores_stand_beside_baselines_and_other_priors(finished):
  scores = json.loads((finished / "eval/metrics.json").read_text())
  assert set(scores["baselines"]) == {"most common", "nearest image"}
  names = {evaluation.TRUE, evaluation.OTHER, evaluation.NONE}
  assert names < set(scores["priors"])


def test_the_page_withholds_text_when_told_so(miniature, finished, tmp_path):
  arguments = (f"--out={tmp_path}", "--noinclude_text")
  assert verb(*arguments, checkpoint=finished / "export") == 0
  page = (tmp_path / "report.html").read_text()
  full = (finished / "eval/report.html").read_text()
  sentence = predictions.read(tmp_path / "predictions.jsonl")[0]["reference"][:30]
  for words in (sentence, '"looks": '):
    assert words in full
    assert words not in page


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--split=holdout"], "thorax/tiny has no split 'holdout'"),
    (["--num_beams=0"], "num_beams"),
    (["more"], "Unexpected arguments: ['more']"),
  ],
)
def test_one_line_for_what_cannot_be(
  miniature, finished, tmp_path, capsys, arguments, message
):
  out = tmp_path / "out"
  status = verb(f"--out={out}", *arguments, checkpoint=finished / "export")
  error = capsys.readouterr().err
  assert status == 1
  assert error.startswith("error: ")
  assert message in error
  assert error.count("\n") == 1
  assert not out.exists()


def test_a_batch_that_does_not_divide(
  miniature, finished, tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(sharding, "make_mesh", EIGHT_DEVICES)
  shutil.copytree(finished / "export", tmp_path / "export")
  path = tmp_path / "export/config.json"
  facts = json.loads(path.read_text())
  facts["config"]["decode"]["batch_size"] = 12
  path.write_text(json.dumps(facts))
  assert verb(checkpoint=tmp_path / "export") == 1
  error = "config.decode.batch_size=12 does not divide over the 8 devices"
  assert error in capsys.readouterr().err


def test_films_with_an_unknown_view_are_counted(miniature, finished, tmp_path, capsys):
  shutil.copytree(finished / "export", tmp_path / "export")
  path = tmp_path / "export/config.json"
  facts = json.loads(path.read_text())
  facts["config"]["data"]["views"][2] = "SIDE"
  path.write_text(json.dumps(facts))
  assert verb(checkpoint=tmp_path / "export") == 0
  source = datasets.load("thorax/tiny", "test")
  count = sum(record["view"] == b"LATERAL" for record in source)
  assert count > 1
  assert f"were read as unk: LATERAL ({count})\n" in capsys.readouterr().out


@pytest.mark.parametrize("parts", [("prior",), ("prior", "context")])
def test_a_model_without_a_part_writes_as_if_no_study_had_it(
  miniature, finished, tmp_path, monkeypatch, parts
):
  shutil.copytree(finished / "export", tmp_path / "export")
  path = tmp_path / "export/config.json"
  facts = json.loads(path.read_text())
  facts["config"]["data"]["without"] = parts
  path.write_text(json.dumps(facts))
  assert verb(checkpoint=tmp_path / "export") == 0
  rows = predictions.read(tmp_path / "eval/predictions.jsonl")
  scores = json.loads((tmp_path / "eval/metrics.json").read_text())
  full = json.loads((finished / "eval/metrics.json").read_text())
  # Nothing is exchanged that is not seen; changes there are all the same.
  assert scores["priors"] is None
  changes, before = (s["metrics"]["changes"]["changed"] for s in (scores, full))
  assert changes["n_true"] == before["n_true"] > 0
  assert rows != predictions.read(finished / "eval/predictions.jsonl")
  table = evaluation.table(scores)
  assert "Changes since the prior" in table
  assert "What the prior does" not in table
  note = f"The model never sees: {', '.join(parts)}."
  assert note in (tmp_path / "eval/report.html").read_text()
  assert "never sees" not in (finished / "eval/report.html").read_text()

  load = datasets.load
  gone = {"prior": -1} | ({"indication": b"", "history": b""} if parts[1:] else {})
  monkeypatch.setattr(datasets, "load", lambda *a: [r | gone for r in load(*a)])
  out = tmp_path / "none"
  assert verb(f"--out={out}", checkpoint=finished / "export") == 0
  expected = predictions.read(out / "predictions.jsonl")
  assert [r["prediction"] for r in rows] == [r["prediction"] for r in expected]


def test_reports_of_padding_are_dropped(finished):
  del finished
  tokenizer = type("", (), {"decode": lambda self, ids: str(int(ids[0]))})()
  batches = [
    {"index": np.array([4, 2]), "valid": np.array([True, True])},
    {"index": np.array([7, 7]), "valid": np.array([True, False])},
  ]
  generate = lambda variables, batch: (batch["index"][:, None] * 10 + variables, None)
  mesh = inference.sharding.make_mesh((-1, 1, 1))
  batches = [{k: np.repeat(v, 4) for k, v in batch.items()} for batch in batches]
  reports = inference.write_reports(generate, 1, batches, tokenizer, mesh)
  assert reports == {4: "41", 2: "21", 7: "71"}
