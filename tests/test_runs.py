"""A run from its first file to its last, and killed at every turn."""

import json
import shutil

import numpy as np
import pytest

import micro
from data_pipelines import loader
from jaxrg import checkpoint, evaluation, exports, logs, runs, train
from jaxrg.metrics import predictions

STAGES = ("pretrain", "finetune")


class Killed(BaseException):
  """Passes every handler, as a signal would."""


def test_a_run_leaves_what_it_promises(finished):
  files = [
    "config.json",
    "tokenizer/tokenizer.json",
    "pretrain/metrics.jsonl",
    "pretrain/export/config.json",
    "finetune/metrics.jsonl",
    "export/config.json",
    "export/tokenizer/tokenizer.json",
    "export/familiarity.npz",
    "export/MODEL_CARD.md",
    "eval/predictions.jsonl",
    "eval/metrics.json",
    "eval/report.html",
  ]
  assert [name for name in files if not (finished / name).is_file()] == []
  for folder in ("pretrain/checkpoints", "finetune/checkpoints", "export/variables"):
    assert any((finished / folder).iterdir())
  assert not list(finished.glob("**/*unfinished*"))


def test_a_run_ends_with_the_scores_and_where_things_are(finished):
  printed = (finished.parent / "printed.txt").read_text()
  scores = json.loads((finished / "eval/metrics.json").read_text())
  assert evaluation.table(scores) in printed
  assert printed.splitlines()[-3:] == [
    f"report: {finished / 'eval/report.html'}",
    f"scores: {finished / 'eval/metrics.json'}",
    f"export: {finished / 'export'}",
  ]
  assert evaluation.table(scores) in (finished / "export/MODEL_CARD.md").read_text()


@pytest.mark.parametrize("stage", STAGES)
def test_every_step_is_told_once(finished, stage):
  rows = micro.rows(finished / stage)
  assert [row["step"] for row in rows] == list(range(1, micro.STEPS + 1))
  scored = [row["step"] for row in rows if "validation_score" in row]
  assert scored == [3, 6]
  assert all(np.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in rows)
  assert all("examples_per_second" in row for row in rows)


@pytest.mark.parametrize("stage", STAGES)
def test_tensorboard_events(finished, stage):
  (events,) = (finished / stage / "events").iterdir()
  assert b"validation_score" in events.read_bytes()


@pytest.mark.parametrize("export", ["pretrain/export", "export"])
def test_exports_hold_batch_statistics(finished, export):
  leaves = micro.leaves(finished / export)
  assert {path.split("/")[0] for path in leaves} == {"params", "batch_stats"}
  assert np.abs(leaves["batch_stats/batch_norm/mean"]).min() > 0


def test_the_second_stage_goes_on_from_the_first(finished):
  first, second = (
    micro.leaves(finished / export) for export in ("pretrain/export", "export")
  )
  assert first.keys() < second.keys()
  # Frozen in stage 2, learnt in stage 1.
  assert first["params/logit_scale"] != 1
  assert first["params/logit_scale"] == second["params/logit_scale"]
  # Six steps of 1e-3 lead no further than this.
  moved = second["params/patch/kernel"] - first["params/patch/kernel"]
  assert 0 < np.abs(moved).max() < 0.02


def test_a_model_without_parts_never_sees_them(miniature, monkeypatch, tmp_path):
  """Not in training, not in validation, not in evaluation."""
  seen, read = [], loader.Studies.__getitem__

  def keep(studies, index):
    seen.append(read(studies, index))
    return seen[-1]

  monkeypatch.setattr(loader.Studies, "__getitem__", keep)
  runs.run(micro.get_config({"data.without": ("prior", "context")}), tmp_path)
  assert {bool(example["has_prior"]) for example in seen} == {False}
  assert not any(example["prior_image"].any() for example in seen)
  assert len({example["context"].tobytes() for example in seen}) == 1
  counts = sum(micro.COUNTS.values())
  assert len({example["report"].tobytes() for example in seen}) > counts / 2
  card = (tmp_path / "export/MODEL_CARD.md").read_text()
  assert "- It never sees: prior, context.\n" in card


def test_a_second_run_only_tells(finished, miniature, monkeypatch, capsys):
  def never(*args, **kwargs):
    pytest.fail("What is there was done again.")

  for module, name in ((train, "train"), (evaluation, "evaluate")):
    monkeypatch.setattr(module, name, never)
  monkeypatch.setattr(runs.Tokenizer, "train", never)
  runs.run(micro.get_config(), finished)
  printed = (finished.parent / "printed.txt").read_text()
  assert printed.endswith(capsys.readouterr().out)


def test_stage_2_from_an_export_of_elsewhere(finished, miniature, tmp_path):
  """From the export that its own stage 1 would have left, the same run to the bit."""
  before = finished / "pretrain/export"
  config = micro.get_config({"init_from": str(before)})
  runs.run(config, tmp_path / "run", stage="finetune")
  exported = (tmp_path / "run/export", finished / "export")
  mine, theirs = map(micro.leaves, exported)
  assert mine.keys() == theirs.keys()
  for path in mine:
    np.testing.assert_array_equal(mine[path], theirs[path], err_msg=path)


@pytest.mark.parametrize(
  ("file", "old", "new", "message"),
  [
    ("config.json", '"PA"', '"AP2"', r"has the views AP2, AP, .*data\.views PA, AP"),
    ("tokenizer/tokenizer.json", "Similar", "Other", "has another tokenizer"),
    ("config.json", None, None, "is no export: it has no config.json"),
  ],
)
def test_an_export_of_elsewhere_that_does_not_fit(
  finished, miniature, tmp_path, file, old, new, message
):
  export = tmp_path / "export"
  shutil.copytree(finished / "pretrain/export", export)
  path = export / file
  text = path.read_text()
  path.unlink() if old is None else path.write_text(text.replace(old, new))
  config = micro.get_config({"init_from": str(export)})
  with pytest.raises((ValueError, OSError), match=message):
    runs.run(config, tmp_path / "run", stage="finetune")


def at_step(number):
  return lambda checkpoints, step, *_, **__: step == number


def dies(patch, module, name, *, after=False, when=lambda *_, **__: True):
  """Makes a function of a module kill the run, when it is called or when it is done."""
  function = getattr(module, name)

  def killing(*args, **kwargs):
    if not when(*args, **kwargs):
      return function(*args, **kwargs)
    if after:
      function(*args, **kwargs)
    raise Killed

  patch.setattr(module, name, killing)


DEATHS = {
  "the tokenizer": dict(module=runs.Tokenizer, name="to_json"),
  "before the first save": dict(
    module=checkpoint, name="save", when=at_step(2)
  ),
  "after a save": dict(module=checkpoint, name="save", when=at_step(2), after=True),
  "validation": dict(module=loader, name="eval_batches"),
  "before the last save": dict(module=checkpoint, name="save", when=at_step(6)),
  "the variables of an export": dict(module=checkpoint.ocp, name="save"),
  "the files of an export": dict(module=checkpoint.ocp, name="save", after=True),
  "between the stages": dict(module=exports, name="write", after=True),
  "the overlay": dict(module=train, name="overlay", after=True),
  "before a save that validation scored": dict(
    module=checkpoint, name="save", when=at_step(3)
  ),
  "after the last save": dict(
    module=checkpoint, name="save", when=at_step(6), after=True
  ),
  "the last export": dict(module=checkpoint.ocp, name="save", after=True),
  "decoding": dict(module=loader, name="eval_batches"),
  "the predictions": dict(module=predictions, name="write", after=True),
  "the page": dict(module=evaluation.report, name="write", after=True),
  "the model card": dict(module=exports, name="add_scores"),
}  # fmt: skip


def test_killed_and_resumed_is_the_same_run(finished, miniature, tmp_path):
  """Killed at every turn, resumed each time; the end is the same to the last bit."""
  workdir = tmp_path / "killed"
  workdir.mkdir()
  (workdir / "config.json.unfinished").write_text("{")
  for place, death in DEATHS.items():
    print(f"To be killed at {place}.")
    with pytest.MonkeyPatch.context() as patch:
      dies(patch, **death)
      with pytest.raises(Killed):
        runs.run(micro.get_config(), workdir)
    if place == "validation":
      with (workdir / "pretrain/metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
  runs.run(micro.get_config(), workdir)
  assert_same_run(workdir, finished)


def assert_same_run(workdir, other):
  """Equal variables, metrics, predictions and scores, and no other file."""
  for export in ("pretrain/export", "export"):
    mine, theirs = micro.leaves(workdir / export), micro.leaves(other / export)
    assert mine.keys() == theirs.keys()
    for path in mine:
      np.testing.assert_array_equal(mine[path], theirs[path], err_msg=path)
  timing = logs.utilisation(0).keys() | {
    "examples_per_second",
    "step_seconds",
    "data_wait",
    "compute",
    "checkpoint_seconds",
    "memory_gb",
  }
  for stage in STAGES:
    mine, theirs = (
      [{k: v for k, v in row.items() if k not in timing} for row in micro.rows(run)]
      for run in (workdir / stage, other / stage)
    )
    assert mine == theirs
  for name in ("predictions.jsonl", "metrics.json", "report.html"):
    assert (workdir / "eval" / name).read_bytes() == (
      other / "eval" / name
    ).read_bytes()
  assert files(workdir) == files(other)


def files(workdir):
  found = {str(path.relative_to(workdir)) for path in workdir.glob("**/*")}
  return {name for name in found if not {"events", "d"} & set(name.split("/"))}
