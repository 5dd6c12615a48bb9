"""What a stage is told to be, and what it refuses to be."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from etils import epath

import micro
from data_pipelines import datasets, loader
from jaxrg import checks, inputs, learning, runs, stages

RUN = epath.Path("no such run")  # PriorRG's stages find nothing for one another.


class Damaged(list):
  """Records, one of which cannot be read."""

  def __getitem__(self, index):
    if index == 5:
      raise ValueError("crc mismatch")
    return super().__getitem__(index)


@pytest.fixture
def tokenizer(finished):
  return runs.Tokenizer.load(finished / "tokenizer")


def prepare(tokenizer, changes):
  return stages.prepare(micro.get_config(changes), "finetune", tokenizer, RUN)


class Teller(nn.Module):
  """A reporter whose classifier is as wrong as its states are its own."""

  @nn.compact
  def __call__(self, batch, *, train=False):
    log_probs = -jnp.broadcast_to(batch.get("predicted", 0.0), (1, 1, 2))
    return jnp.zeros((1, 1, 3)), log_probs


@pytest.mark.parametrize(
  ("source", "shares"),
  [("label", (0, 0, 0)), ("predicted", (1, 1, 1)), ("scheduled", (0, 0.5, 1))],
)
def test_reports_are_learnt_from_so_many_predicted_states(source, shares):
  """Spec eir 8.3, `states.source`; there is no step of an evaluation."""
  recipe = {"objective": "reporting", "states": source}
  recipe["weights"] = {"generator": 0.0, "classifier": 1.0}
  recipe = ml_collections.ConfigDict(recipe)
  objective = learning.make_objective(None, recipe, Teller(), num_steps=10)
  batch = {
    "tokens": jnp.zeros((1, 2), jnp.int32),
    "tokens_mask": jnp.ones((1, 2), bool),
    "states": jnp.zeros((1, 1), jnp.int32),
  }
  assert objective({}, {}, batch, None)[0] == 0
  for step, share in zip((0, 5, 10), shares, strict=True):
    loss, _ = objective({}, {}, batch | {"step": step}, jax.random.key(0))
    assert float(loss) == pytest.approx(share)


def test_steps_are_whole_batches_of_all_epochs(miniature, tokenizer):
  stage = prepare(tokenizer, {"finetune.batch_size": 10, "finetune.num_epochs": 3})
  assert (stage.steps_per_epoch, stage.num_steps) == (4, 12)


@pytest.mark.parametrize("keep_end", [True, False])
def test_texts_are_those_of_the_stage(tokenizer, keep_end):
  """Contexts as long as the stage says; a report that is cut ends where it is told."""
  changes = {"pretrain.context_length": 7, "finetune.keep_end": keep_end}
  config = micro.get_config(changes)
  record = {"indication": "cough " * 9, "history": "", "findings": "clear lungs " * 9}
  first, second = (
    inputs.priorrg.encode_for(config, config[name], tokenizer)(record)
    for name in ("pretrain", "finetune")
  )
  assert (len(first["context"]), len(second["context"])) == (7, 12)
  assert second["tokens_mask"].all()
  assert (second["tokens"][-1] == tokenizer.eos) == keep_end
  encode = inputs.priorrg.encode_for(config, config.finetune, tokenizer)
  short = encode(record | {"findings": "x"})
  ends = np.flatnonzero(short["tokens"] == tokenizer.eos)
  assert ends.tolist() == [0, short["tokens_mask"].sum() - 1]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"finetune.batch_size": 0}, r"finetune\.batch_size=0, but 1 is the least"),
    ({"finetune.num_epochs": 0}, r"finetune\.num_epochs=0, but 1 is the least"),
    ({"finetune.accumulation": -1}, r"finetune\.accumulation=-1, but 1 is the least"),
    ({"finetune.accumulation": 3}, r"batch_size=16 does not divide .*accumulation=3"),
    ({"finetune.objective": "guess"}, "objective 'guess'; known: contrastive"),
    ({"finetune.select_on": "train"}, "select_on 'train'; known: validation, test"),
    ({"finetune.remat": "all"}, "finetune.remat .all.; known: none, dots"),
    ({"fused_attention": True}, "fused_attention=True is a TPU.s kernel"),
    ({"pretrain.positives": "view"}, "positives 'view'; known: study, patient"),
    ({"pretrain.select_by": "recall"}, "select_by 'recall'; known: loss, retrieval"),
    ({"data.without": ("image",)}, r"data\.without 'image'; known: prior, context"),
    (
      {"pretrain.group_views": True, "pretrain.accumulation": 2},
      r"pretrain\.group_views=True needs config\.pretrain\.accumulation=1, not 2",
    ),
    ({"finetune.augment.shift": -1}, r"finetune\.augment\.shift=-1, but 0 is"),
    ({"pretrain.context_length": 0}, r"context_length=0, but 1 is the least"),
    ({"pretrain.context_length": 99}, r"text\.max_length=24, .* 99 tokens"),
    ({"pretrain.optim.skip_unused": ("tmp/",)}, r"pretrain .*skip_unused.*'tmp/'"),
    ({"tokenizer.name": "gpt3"}, r"tokenizer\.name 'gpt3'; known: trained, gpt2"),
    ({"tokenizer.name": "gpt2"}, r"text\.vocab_size=656, .* has 50264 entries"),
    ({"data.views": ("PA", "unk")}, r"views has 2 names, .*num_views=7"),
    ({"data.views": tuple("abcdefg")}, r"data\.views=\('a', .* needs unk"),
    ({"data.views": ("unk", *"aabcde")}, r"data\.views=.* no name twice"),
    ({"model.text.max_length": 15}, r"text\.max_length=15, .* 16 tokens"),
    ({"model.decoder.max_length": 9}, r"decoder\.max_length=9, .* 16 tokens"),
    ({"model.dtype": "float33"}, r"config\.model describes no model: .*float33"),
    ({"model.name": "eir2"}, r"config\.model\.name 'eir2'; known: priorrg"),
    ({"model.fusion.name": "max"}, r"model\.fusion\.name 'max'; known: attention, l"),
    ({"model.order": ("time", "joint")}, r"config\.model\.order=\('time', 'joint'\) m"),
    ({"stages": ("pretrain", "polish")}, "config has no section 'polish'"),
    ({"mesh": (8,)}, r"config\.mesh=\(8,\) must be \(data, fsdp, tensor\)"),
    ({"mesh": (3, 1, 1)}, r"mesh=\(3, 1, 1\) does not divide the 8 devices"),
    ({"finetune.batch_size": 12}, r"finetune\.batch_size=12 does not divide over"),
    ({"decode.batch_size": 20}, r"decode\.batch_size=20 does not divide over"),
    ({"model.vision.num_layers": 3}, "Stage finetune .*at least 4 encoder layers"),
    ({"pretrain.optim.frozen": ("visoin/",)}, r"pretrain .*optim\.frozen.*'visoin/'"),
    ({"finetune.optim.groups": (("txt", 1.0),)}, r"finetune .*optim\.groups.*'txt'"),
    ({"finetune.optim.schedule": "stairs"}, "finetune .*'stairs'; known: cosine"),
  ],
)
def test_configs_that_cannot_be(changes, message):
  with pytest.raises(ValueError, match=message) as info:
    checks.check(micro.get_config(changes))
  assert "\n" not in str(info.value)


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
@pytest.mark.parametrize("group_views", [True, False])
def test_groups_are_studies_of_the_contrastive_stage(
  miniature, tokenizer, name, group_views
):
  config = micro.get_config({"pretrain.group_views": group_views})
  stage = stages.prepare(config, name, tokenizer, RUN)
  source = datasets.load("thorax/tiny", "train")
  studies = [record["study_id"].decode() for record in source]
  assert len(set(studies)) < len(studies)
  grouped = group_views and name == "pretrain"
  assert stage.groups == (studies if grouped else None)


@pytest.mark.parametrize(
  "changes",
  [
    {"model.order": ("joint", "time", "context")},
    {"model.seeded": False},
    # What has no parameters asks for no number of layers; the norm behind it stays.
    {"model.fusion.name": "last", "model.vision.num_layers": 2},
    {"model.fusion.name": "mean", "finetune.optim.groups": (("fusion", 5e-5),)},
  ],
)
def test_configs_that_can_be(changes):
  checks.check(micro.get_config(changes))


def test_a_mesh_takes_the_rows_of_data_and_fsdp():
  checks.check(micro.get_config({"mesh": (2, 2, 2), "decode.batch_size": 4}))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"finetune.batch_size": 49}, r"finetune\.batch_size=49, .* only 48 records"),
    ({"finetune.optim.schedule": "stairs"}, "schedule 'stairs'; known: cosine"),
    ({"finetune.optim.warmup_steps": 6}, "warmup_steps=6 must be fewer than the 6"),
    ({"model.decoder.vocab_size": 100}, r"decoder\.vocab_size=100, .* entries"),
    ({"model.text.vocab_size": 100}, r"text\.vocab_size=100, .* entries"),
  ],
)
def test_stages_that_cannot_be(miniature, tokenizer, changes, message):
  with pytest.raises(ValueError, match=message) as info:
    prepare(tokenizer, changes)
  assert "\n" not in str(info.value)


def test_damaged_records_can_be_left_out(miniature, tokenizer, monkeypatch, capsys):
  records = datasets.load("thorax/tiny", "train")
  monkeypatch.setattr(datasets, "load", lambda *_: Damaged(records))
  with pytest.raises(ValueError, match="Record 5 "):
    runs.make_tokenizer(micro.get_config(), epath.Path("/none"), Damaged(records))
  stage = prepare(tokenizer, {"data.skip_damaged": True})
  followers = [i for i in range(len(records)) if records[i]["prior"] == 5]
  assert set(range(48)) - set(stage.indices.tolist()) == {5, *followers}
  count = 1 + len(followers)
  assert f"Skipped {count} damaged records of 48: [5" in capsys.readouterr().out
  batches = loader.train_stream(
    stage.studies, batch_size=16, seed=0, indices=stage.indices
  )
  seen = np.concatenate([next(batches)["index"] for _ in range(6)])
  assert 5 not in seen
