"""EIR from the first file to the last, and killed at every turn."""

import collections
import contextlib
import io
import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import micro
import micro_eir
from data_pipelines import datasets, loader
from jaxrg import (
  checkpoint,
  classification,
  evaluation,
  exports,
  indexing,
  neighbours,
  reporting,
  runs,
  sharding,
  stages,
  train,
  validation,
  writer,
)
from jaxrg.convert import vision
from jaxrg.inputs import eir
from jaxrg.metrics import predictions
from test_runs import Killed, at_step, dies, files

EPOCHS = {"pretrain": 2, "interpret": 1, "write": 2, "refine": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, compiled):
  """The folder of a finished run, for reading only."""
  workdir = tmp_path_factory.mktemp("eir") / "whole"
  printed = io.StringIO()
  with micro.few(compiled), contextlib.redirect_stdout(printed):
    runs.run(micro_eir.get_config(), workdir)
  (workdir.parent / "printed.txt").write_text(printed.getvalue())
  return workdir


@pytest.fixture
def few(compiled):
  with micro.few(compiled):
    yield


def test_a_run_leaves_what_it_promises(whole):
  names = [
    "config.json",
    "tokenizer/tokenizer.json",
    "topics.json",
    "neighbours.npz",
    "pretrain/metrics.jsonl",
    "pretrain/export/config.json",
    "interpret/metrics.jsonl",
    "interpret/export/config.json",
    "write/metrics.jsonl",
    "write/export/config.json",
    "refine/metrics.jsonl",
    "export/config.json",
    "export/topics.json",
    "export/neighbours.npz",
    "export/triples.json.gz",
    "export/retriever.npz",
    "export/familiarity.npz",
    "export/MODEL_CARD.md",
    "eval/metrics.json",
    "eval/predictions.jsonl",
    "eval/report.html",
  ]
  assert [name for name in names if not (whole / name).is_file()] == []
  assert not list(whole.glob("**/*unfinished*"))
  for name in ("topics.json", "neighbours.npz", "triples.json.gz"):
    assert (whole / name).read_bytes() == (whole / "export" / name).read_bytes()


@pytest.mark.parametrize("stage", micro_eir.STEPS)
def test_every_step_is_told_once(whole, stage):
  rows = micro.rows(whole / stage)
  assert [row["step"] for row in rows] == list(range(1, micro_eir.STEPS[stage] + 1))
  assert all(np.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in rows)
  assert sum("validation_score" in row for row in rows) == EPOCHS[stage]


def test_each_stage_goes_on_from_all_before_it_and_exports_what_it_has(whole):
  exports = ("pretrain/export", "interpret/export", "write/export", "export")
  first, critic, written, last = (micro.leaves(whole / name) for name in exports)
  parts = lambda leaves: {tuple(path.split("/")[:2]) for path in leaves}
  encoder = {("params", "vision"), ("batch_stats", "vision")}
  assert parts(first) == encoder | {("params", "head")}
  assert parts(critic) == {("params", "interpreter")}
  others = ("tokens", "history", "graph", "topics", "aggregation", "classifier")
  others += ("labels", "generator")
  mine = encoder | {("params", name) for name in others}
  assert parts(written) == mine
  assert parts(last) == mine | parts(critic)
  moved = lambda path, a, b: np.abs(b[path] - a[path]).max()
  path = next(p for p in first if p.startswith("params/vision"))
  assert 0 < moved(path, first, written) < 0.05
  assert 0 < moved(path, written, last) < 0.01
  for path, x in critic.items():
    np.testing.assert_array_equal(last[path], x)  # Frozen (spec eir 12, 11).


def test_the_threshold_is_tuned_on_validation(whole):
  config = checkpoint.load_config(whole / "export")["config"]
  assert config["model"]["threshold"] in classification.THRESHOLDS
  # The run's own config stays what was asked for.
  assert json.loads((whole / "config.json").read_text())["model"]["threshold"] == 0.25


def test_neighbours_are_of_training_and_other_patients(whole):
  found = neighbours.read(
    whole / "neighbours.npz", encoder=indexing.checksum(whole / "pretrain/export")
  )
  assert set(found.splits) == set(indexing.SPLITS)
  assert found.k == 4
  patients = {
    record["study_id"]: record["patient_id"]
    for split in indexing.SPLITS
    for record in writer.Meta(datasets.load("thorax/tiny", split))
  }
  for split in found.splits.values():
    for study in split.study_ids:
      assert found.of(study)
      others = {patients[other] for other, _ in found.of(study)}
      assert patients[study] not in others


def test_the_end_says_how_well_reports_and_topics_are_told(whole):
  printed = (whole.parent / "printed.txt").read_text()
  scores = json.loads((whole / "eval/metrics.json").read_text())
  table = evaluation.table(scores)
  assert table in printed
  assert table in (whole / "export/MODEL_CARD.md").read_text()
  assert classification.table(scores["topics"]) in table
  assert printed.splitlines()[-3:] == [
    f"report: {whole / 'eval/report.html'}",
    f"scores: {whole / 'eval/metrics.json'}",
    f"export: {whole / 'export'}",
  ]


def test_an_evaluation_of_the_export_is_the_same(whole, few, tmp_path):
  evaluation.evaluate(whole / "export", "test", tmp_path)
  for name in ("metrics.json", "predictions.jsonl"):
    assert (tmp_path / name).read_bytes() == (whole / "eval" / name).read_bytes()


def test_each_study_is_reported_on_once(whole):
  rows = predictions.read(whole / "eval/predictions.jsonl")
  test = datasets.load("thorax/tiny", "test")
  studies = {record["study_id"]: record for record in writer.Meta(test)}
  assert len({row["study_id"] for row in rows}) == len(rows) > 4
  for row in rows:
    assert row["reference"] == studies[row["study_id"]]["findings"]


def test_a_film_from_elsewhere_is_reported_on_as_in_its_split(whole, few, tmp_path):
  """The only one of its study: the same history, the same similar cases, one graph."""
  split = datasets.load("thorax/tiny", "test")
  parsed = [loader.parse(split, i) for i in range(len(split))]
  films = collections.Counter(record["study_id"] for record in parsed)
  reporter = reporting.Reporter(whole / "export")
  rows = {r["study_id"]: r for r in predictions.read(whole / "eval/predictions.jsonl")}
  similar = neighbours.read(whole / "neighbours.npz")
  alone = [r for r in parsed if films[r["study_id"]] == 1 and r["study_id"] in rows]
  assert len(alone) > 1
  for record in alone:
    study, path = record["study_id"], tmp_path / f"{record['study_id']}.png"
    Image.fromarray(record["image"][..., 0]).save(path)
    told = {name: record[name] for name in ("indication", "history", "view")}
    report = reporter.report(path, **told, force=True)
    assert report.findings == rows[study]["prediction"]
    assert [other for other, _ in report.evidence.similar] == [
      other for other, _ in similar.of(study)[:3]
    ]
    assert f"like: {report.evidence.similar[0][0]} (" in str(report.evidence)
  with pytest.raises(ValueError, match="trained without prior"):
    reporter.report(path, prior=path)


def test_the_verb_finds_the_same_neighbours(whole, few, tmp_path, capsys):
  out = tmp_path / "new" / "neighbours.npz"
  flags = (f"--checkpoint={whole / 'pretrain/export'}", f"--out={out}", "--k=4")
  assert micro.verb("retrieve", *flags, "--batch_size=16") == 0
  assert out.read_bytes() == (whole / "neighbours.npz").read_bytes()
  assert f"neighbours: {out}" in capsys.readouterr().out
  assert micro.verb("retrieve", *flags, "--splits=test") != 0


@pytest.mark.parametrize(
  ("verb", "arguments", "message"),
  [
    ("generate", ("film.png",), "film.png"),
    ("convert", (), "is of eir: only exports of priorrg are written"),
    ("evaluate", (), "scores: "),
  ],
)
def test_what_other_verbs_say_of_an_export(
  whole, few, tmp_path, capsys, verb, arguments, message
):
  flags = {
    "convert": (f"--source={whole / 'export'}", f"--out={tmp_path / 'w.safetensors'}"),
    "evaluate": (f"--checkpoint={whole / 'export'}", f"--out={tmp_path / 'eval'}"),
    "generate": (f"--checkpoint={whole / 'export'}",),
  }[verb]
  status = micro.verb(verb, *flags, *arguments)
  said = capsys.readouterr()
  assert message in said.out + said.err
  assert status == (verb != "evaluate")
  assert "Traceback" not in said.err


DEATHS = {
  "the tokenizer": dict(module=runs.UnigramTokenizer, name="to_json"),
  "the topics": dict(module=eir, name="make_topics", after=True),
  "the triples": dict(module=eir, name="make_triples", after=True),
  "after a save": dict(module=checkpoint, name="save", when=at_step(2), after=True),
  "validation": dict(module=loader, name="eval_batches"),
  "before the last save": dict(module=checkpoint, name="save", when=at_step(6)),
  "the first export": dict(module=exports, name="write", after=True),
  "the neighbours": dict(module=indexing, name="make", after=True),
  "the overlay": dict(module=train, name="overlay", after=True),
  "a save of the writer": dict(
    module=checkpoint, name="save", when=at_step(6), after=True
  ),
  "the threshold": dict(module=validation, name="tune_threshold"),
  "the last export": dict(module=checkpoint.ocp, name="save", after=True),
  "writing reports": dict(module=loader, name="eval_batches"),
  "the model card": dict(module=exports, name="add_scores"),
}  # fmt: skip


@pytest.mark.slow
def test_killed_and_resumed_is_the_same_run(whole, few, tmp_path):
  """Queue and momentum network come back too; the end is the same to the last bit."""
  workdir = tmp_path / "killed"
  for place, death in DEATHS.items():
    print(f"To be killed at {place}.")
    with pytest.MonkeyPatch.context() as patch:
      dies(patch, **death)
      with pytest.raises(Killed):
        runs.run(micro_eir.get_config(), workdir)
  runs.run(micro_eir.get_config(), workdir)
  for export in ("pretrain/export", "interpret/export", "write/export", "export"):
    mine, theirs = micro.leaves(workdir / export), micro.leaves(whole / export)
    assert mine.keys() == theirs.keys()
    for path in mine:
      np.testing.assert_array_equal(mine[path], theirs[path], err_msg=path)
  for name in ("neighbours.npz", "eval/metrics.json", "eval/predictions.jsonl"):
    assert (workdir / name).read_bytes() == (whole / name).read_bytes()
  assert files(workdir) == files(whole)


def test_an_index_of_another_encoder_is_refused(whole, few, tmp_path):
  """The encoder was trained anew, and who is alike is still as the old one saw it."""
  workdir = tmp_path / "run"
  shutil.copytree(whole, workdir)
  shutil.rmtree(workdir / "export")
  leaves = checkpoint.load_arrays(workdir / "pretrain/export")
  leaves["params"]["vision"] = {
    name: {k: v + 1 for k, v in part.items()} if "kernel" in part else part
    for name, part in leaves["params"]["vision"].items()
  }
  kept = ("config.json", "tokenizer/tokenizer.json", "familiarity.npz", "MODEL_CARD.md")
  export = runs.epath.Path(workdir / "pretrain/export")
  contents = {name: (export / name).read_bytes() for name in kept}
  checkpoint.export(export, leaves, contents)
  with pytest.raises(ValueError, match="an index built by another encoder"):
    runs.run(micro_eir.get_config(), workdir)


def test_published_weights_are_what_both_networks_begin_with(whole, few, tmp_path):
  """In arrays of their own: a step gives away the old ones of both."""
  stored = checkpoint.load_arrays(whole / "pretrain/export")
  given = {name: stored[name]["vision"] for name in ("params", "batch_stats")}
  np.savez(tmp_path / "w.npz", **vision.to_torchvision(**given))
  config = micro_eir.get_config(
    {
      "pretrained.vision": str(tmp_path / "w.npz"),
      "pretrained.kind": "torchvision",
      "model.norm": "imagenet",
    }
  )
  tokenizer = runs.Tokenizer.load(whole / "tokenizer")
  stage = stages.prepare(config, "pretrain", tokenizer, whole)
  mesh = sharding.make_mesh(config.mesh)
  with jax.set_mesh(mesh), nn.logical_axis_rules(config.axis_rules):
    abstract, start = train.first_state(stage, mesh, [])
    state = start()
  assert jax.tree.map(jnp.shape, state) == jax.tree.map(lambda x: x.shape, abstract)
  query = {"params": state.params, "batch_stats": state.extra["batch_stats"]}
  for network in (query, state.extra["momentum"]):
    for name, tree in given.items():
      jax.tree.map(np.testing.assert_array_equal, network[name]["vision"], tree)
  leaves = jax.tree.leaves((query, state.extra["momentum"]))
  assert len({x.unsafe_buffer_pointer() for x in leaves}) == len(leaves)
