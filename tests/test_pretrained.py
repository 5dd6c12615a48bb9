"""Parts that training begins with, from files as Hugging Face's models have them."""

import json
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from flax import traverse_util

import micro
from jaxrg import (
  checkpoint,
  convert,
  inputs,
  models,
  pretrained,
  runs,
  sharding,
  stages,
  train,
  weight_files,
  weights,
)
from jaxrg.convert import backbones
from jaxrg.tokenizers import Tokenizer

CROSS = ("crossattention", "ln_cross_attn")
CROSSED = "cross_attention|norm_2"
BIGGER = {"model.text.num_layers": 3, "model.text.vocab_size": 700}
FEWER_WORDS = {"model.decoder.vocab_size": 450}
TO_THEIRS = dict(vision="to_dinov2", text="to_bert", decoder="to_gpt2")


def draw(changes=None, *, seed=0, method="__call__"):
  """Random variables of the model of a config."""
  config = micro.get_config(changes)
  example = inputs.priorrg.example(image_size=config.data.image_size, **config.text)
  init = lambda key: models.build(config.model).init(key, example, method=method)
  shapes = jax.eval_shape(init, jax.random.key(0))
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes)


def flat(tree):
  flat = traverse_util.flatten_dict(tree, sep="/")
  return {path: np.asarray(value) for path, value in flat.items()}


def write(path, part, changes=None, without=(), config=None):
  """A file of a part under Hugging Face's names; the params that went into it."""
  params = draw(changes, seed=1)["params"][part]
  state = getattr(convert, TO_THEIRS[part])(params)
  kept = {k: v for k, v in state.items() if not any(name in k for name in without)}
  path.parent.mkdir(exist_ok=True)
  weight_files.write(path, kept)
  if config:
    (path.parent / "config.json").write_text(json.dumps(config))
  params = flat(params)
  return {p: x for p, x in params.items() if not (without and re.search(CROSSED, p))}


def overlaid(part, source, changes=None, has=()):
  """The part of the params before and after, and that nothing else has changed."""
  config = micro.get_config({f"pretrained.{part}": str(source)} | (changes or {}))
  fresh = draw(changes)["params"]
  variables = {"params": fresh, "batch_stats": {}}
  params = pretrained.overlay(variables, config, has)["params"]
  assert params.keys() == fresh.keys()
  for name in fresh.keys() - {part}:
    assert params[name] is fresh[name]
  return flat(fresh[part]), flat(params[part])


def assert_equal(ours, expected):
  assert ours.keys() == expected.keys()
  for path, value in expected.items():
    np.testing.assert_array_equal(ours[path], value, err_msg=path)


@pytest.mark.parametrize("part", pretrained.NUM_HEADS)
def test_a_part_is_taken_whole(tmp_path, capsys, part):
  given = write(tmp_path / "w.safetensors", part)
  _, ours = overlaid(part, tmp_path)
  assert_equal(ours, given)
  assert capsys.readouterr().out == f"{part}: from {tmp_path / 'w.safetensors'}\n"


def test_positions_are_interpolated(tmp_path):
  given = write(tmp_path / "w.npz", "vision", {"data.image_size": 96})
  _, ours = overlaid("vision", tmp_path / "w.npz")
  given["positions"] = backbones.interpolate(given["positions"], 4)
  assert_equal(ours, given)


def test_the_first_layers_and_words_of_ones_own(tmp_path, capsys):
  given = write(tmp_path / "w.npz", "text", BIGGER)
  fresh, ours = overlaid("text", tmp_path / "w.npz")
  words = fresh["tokens/embedding"]
  taken = {path: given[path] for path in fresh} | {"tokens/embedding": words}
  assert_equal(ours, taken)
  said = "; not its 700 words, as the model has 656\n"
  assert capsys.readouterr().out.endswith(said)


def test_gpt2s_words_are_the_first(tmp_path, capsys):
  """And cross-attention is our own."""
  given = write(tmp_path / "w.npz", "decoder", FEWER_WORDS, without=CROSS)
  fresh, ours = overlaid("decoder", tmp_path / "w.npz")
  crossed = {path for path in fresh if re.search(CROSSED, path)}
  assert crossed
  words = fresh["tokens/embedding"].copy()
  words[:450] = given["tokens/embedding"]
  assert_equal(
    ours, given | {p: fresh[p] for p in crossed} | {"tokens/embedding": words}
  )
  printed = capsys.readouterr().out
  assert "the last 206 of 656 words begin at random; cross-attention begins" in printed


def test_what_is_there_is_neither_replaced_nor_read(tmp_path):
  fresh, ours = overlaid("text", tmp_path / "none.npz", has=("text", "vision"))
  assert_equal(ours, fresh)


@pytest.mark.parametrize(
  ("part", "changes", "message"),
  [
    ("text", {"model.text.mlp_dim": 8}, r"wi/kernel .*\(16, 8\).*\(16, 16\)"),
    ("text", {"model.text.max_length": 20}, r"text/positions .*\(20, 16\).*\(24, 16\)"),
    ("vision", {"model.vision.num_layers": 5}, "layer_4/.* the model no such array"),
    ("decoder", {"model.decoder.vocab_size": 700}, r"embedding .*\(700, 16\).*\(656, "),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, part, changes, message):
  write(tmp_path / "w.npz", part, changes)
  with pytest.raises(ValueError, match=message) as info:
    overlaid(part, tmp_path / "w.npz")
  assert str(info.value).startswith(f"config.pretrained.{part}: {part}/")
  assert "\n" not in str(info.value)


def test_what_is_missing_is_named(tmp_path):
  write(tmp_path / "w.npz", "text")
  with pytest.raises(ValueError, match=r"pretrained\.text: the model has text/layer_1"):
    overlaid("text", tmp_path / "w.npz", {"model.text.num_layers": 2})
  with pytest.raises(ValueError, match=r"vision: .*w\.npz: Unknown key .* no DINOv2"):
    overlaid("vision", tmp_path / "w.npz")


def test_the_heads_are_those_that_its_config_tells(tmp_path):
  write(tmp_path / "w.npz", "text", config={"num_attention_heads": 4})
  with pytest.raises(ValueError, match=r"\(16, 4, 4\) there, .*\(16, 2, 8\)"):
    overlaid("text", tmp_path)
  write(tmp_path / "w.npz", "decoder", config={"n_head": 2})
  overlaid("decoder", tmp_path)


@pytest.mark.parametrize("source", ["none.npz", "somebody/model"])
def test_a_source_that_is_not_there_makes_no_run(
  miniature, monkeypatch, tmp_path, source
):
  def offline(*_, **__):
    raise ConnectionError("no route to host")

  hub = pytest.importorskip("huggingface_hub")
  monkeypatch.setattr(hub.HfApi, "model_info", offline)
  monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
  config = micro.get_config({"pretrained.decoder": source})
  message = rf"^config\.pretrained\.decoder: .*{source}.* is no file or folder here"
  with pytest.raises(ValueError, match=message):
    runs.run(config, tmp_path / "run")
  assert not list((tmp_path / "run").iterdir())


def test_the_second_stage_takes_what_the_first_has_not(tmp_path, monkeypatch):
  """Over eight devices; the first stage's text encoder is kept, its source not read."""
  given = write(tmp_path / "w.npz", "decoder", FEWER_WORDS, without=CROSS)
  write(tmp_path / "bert.npz", "text")
  config = micro.get_config(
    {
      "mesh": (2, 2, 2),
      "pretrained.decoder": str(tmp_path / "w.npz"),
      "pretrained.text": str(tmp_path / "bert.npz"),
    }
  )
  first = draw(seed=2, method="contrast")
  export = epath.Path(tmp_path / "export")
  checkpoint.export(export, first, {})
  tokenizer = Tokenizer.train(["the heart is normal"], config.tokenizer.vocab_size)
  stage = stages.prepare(config, "finetune", tokenizer, export.parent)
  read, asked = weights.read, []
  monkeypatch.setattr(weights, "read", lambda path: (asked.append(path), read(path))[1])
  mesh = sharding.make_mesh(config.mesh)
  with jax.set_mesh(mesh), nn.logical_axis_rules(config.axis_rules):
    abstract, start = train.first_state(stage, mesh, [export])
    state = start()
  assert asked == [str(tmp_path / "w.npz")]
  assert_equal(flat(state.params["text"]), flat(first["params"]["text"]))
  decoder = flat(state.params["decoder"])
  words = decoder.pop("tokens/embedding")
  np.testing.assert_array_equal(words[:450], given.pop("tokens/embedding"))
  assert np.any(words[450:])  # At random.
  assert_equal({path: decoder[path] for path in given}, given)
  jax.tree.map(check_place, abstract, state)


def check_place(expected, value):
  assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
  assert value.sharding.is_equivalent_to(expected.sharding, value.ndim)


def test_the_first_stage_takes_all_but_the_decoder(tmp_path):
  """It has none; what is not read may be missing."""
  given = write(tmp_path / "w.npz", "text")
  config = micro.get_config(
    {
      "pretrained.text": str(tmp_path / "w.npz"),
      "pretrained.decoder": str(tmp_path / "none.npz"),
    }
  )
  fresh = draw(method="contrast")["params"]
  params = pretrained.overlay({"params": fresh}, config)["params"]
  assert_equal(flat(params["text"]), given)
  assert "decoder" not in params
