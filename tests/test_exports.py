"""What an export tells of itself, and how a folder that is none is refused."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from etils import epath

import micro
from data_pipelines import cli, datasets, loader
from jaxrg import exports, inputs


@pytest.fixture
def export(finished, tmp_path):
  """A copy of the finished run's export, to be damaged."""
  return epath.Path(shutil.copytree(finished / "export", tmp_path / "export"))


def test_an_export_is_read_as_it_was_written(miniature, finished):
  export = exports.read(finished / "export")
  lines = (finished / "finetune/metrics.jsonl").read_text().splitlines()
  scored = [row for row in map(json.loads, lines) if "validation_score" in row]
  best = max(scored, key=lambda row: (np.float32(row["validation_score"]), row["step"]))
  assert (export.stage, export.step) == ("finetune", best["step"])
  assert export.config.to_dict() == micro.get_config().to_dict() | {
    # JSON has no tuples.
    key: json.loads(json.dumps(micro.get_config().to_dict()[key]))
    for key in ("data", "stages", "mesh", "axis_rules", "model", "pretrain", "finetune")
  }
  leaves = micro.leaves(finished / "export")
  assert np.array_equal(
    export.variables["params"]["patch"]["kernel"], leaves["params/patch/kernel"]
  )
  words = "small right effusion"
  ids, mask = export.tokenizer.encode(words, 40)
  assert export.tokenizer.decode(ids[mask]) == words


def test_an_export_is_read_from_where_one_stands(miniature, finished, monkeypatch):
  monkeypatch.chdir(finished)
  export = exports.read("export")
  leaves = micro.leaves(finished / "export")
  assert np.array_equal(
    export.variables["params"]["patch"]["kernel"], leaves["params/patch/kernel"]
  )


def test_an_example_has_the_shapes_of_the_stream(miniature, finished):
  config = micro.get_config()
  encode = inputs.priorrg.make_encode(
    exports.Tokenizer.load(finished / "tokenizer"), **config.text
  )
  source, size = datasets.load(config.data.name, "train"), config.data.image_size
  studies = loader.Studies(source, encode, image_size=size, views=config.data.views)
  streamed = next(loader.train_stream(studies, batch_size=1, seed=0))
  example = inputs.priorrg.example(image_size=config.data.image_size, **config.text)
  for name, value in streamed.items():
    if name != "index":
      assert (example[name].shape, example[name].dtype) == (value.shape, value.dtype)


def damage_nothing(export):
  del export


def remove(name):
  return lambda export: (export / name).unlink()


def cut(name, keep=40):
  return lambda export: (export / name).write_bytes((export / name).read_bytes()[:keep])


def put(name, text):
  return lambda export: (export / name).write_text(text)


def cut_variables(export):
  for path in pathlib.Path(export).glob("variables/**/d/*"):
    path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (lambda export: export.rmtree(), r"is no export: it has no config\.json"),
    (remove("config.json"), r"is no export: it has no config\.json"),
    (cut("config.json"), r"config\.json is damaged: it is not JSON"),
    (put("config.json", "{}"), r"config\.json fits no model here: 'stage'"),
    (put("config.json", "[1]"), r"config\.json fits no model here"),
    (lambda export: (export / "variables").rmtree(), "it has no `variables`"),
    (cut_variables, "variables is damaged"),
    (remove("tokenizer/tokenizer.json"), r"tokenizer\.json is missing"),
    (cut("tokenizer/tokenizer.json"), r"tokenizer\.json is damaged"),
  ],
)
def test_what_is_no_export_is_named(miniature, export, damage, message):
  damage(export)
  with pytest.raises((ValueError, OSError), match=message) as info:
    exports.read(export)
  assert str(export) in str(info.value)
  assert "\n" not in str(info.value)


def test_the_first_stage_cannot_generate(miniature, finished):
  with pytest.raises(ValueError, match="cannot generate: stage 'pretrain'") as info:
    exports.read(finished / "pretrain/export")
  assert str(finished / "pretrain/export") in str(info.value)
  assert "\n" not in str(info.value)


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (cut("familiarity.npz"), r"familiarity\.npz is damaged"),
    (cut("familiarity.npz", keep=0), r"familiarity\.npz is damaged"),
    (put("familiarity.npz", "text"), r"familiarity\.npz is damaged"),
  ],
)
def test_damaged_familiarity_is_named(export, damage, message):
  damage(export)
  with pytest.raises((ValueError, OSError), match=message):
    exports.read_familiarity(export)


def test_familiarity_may_be_missing(export):
  assert exports.read_familiarity(export) is not None
  (export / "familiarity.npz").unlink()
  assert exports.read_familiarity(export) is None


def test_an_export_without_views_is_named(miniature, export):
  facts = json.loads((export / "config.json").read_text())
  del facts["config"]["data"]["views"]
  (export / "config.json").write_text(json.dumps(facts))
  with pytest.raises(ValueError, match=r"fits no model here: .*config\.data\.views"):
    exports.read(export)


def test_the_card_says_what_the_model_is_for(export):
  card = (export / "MODEL_CARD.md").read_text()
  assert cli.INTENDED_USE in card
  assert "one anatomy" in card
  step = json.loads((export / "config.json").read_text())["step"]
  assert f"step {step}, seed 0" in card
  count = sum(
    x.size for path, x in micro.leaves(export).items() if path.startswith("params/")
  )
  assert f"{count:,} parameters" in card


def test_scores_are_added_once(export):
  exports.add_scores(export, "BLEU-4 0.1")
  exports.add_scores(export, "BLEU-4 0.2")
  card = (export / "MODEL_CARD.md").read_text()
  assert "BLEU-4 0.2" in card
  assert "BLEU-4 0.1" not in card


def test_other_data_are_not_called_one_anatomy(export):
  config = micro.get_config({"data.name": "iu_xray"})
  facts = {"stage": "finetune", "step": 6, "num_params": 10}
  assert "anatomy" not in exports.model_card(config, facts)


def test_an_export_is_read_onto_a_mesh(compiled, finished, miniature):
  mesh = exports.sharding.make_mesh((1, 1, 1))
  export = exports.read(finished / "export", mesh)
  assert all(x.sharding.mesh == mesh for x in jax.tree.leaves(export.variables))
