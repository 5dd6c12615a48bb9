"""`python -m jaxrg.convert`, there and back, with the goldens' checkpoint."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from flax import traverse_util
from PIL import Image

import goldens
import micro
from configs import priorrg
from data_pipelines import cli, datasets
from jaxrg import (
  checkpoint,
  conversion,
  convert,
  exports,
  inference,
  reporting,
  sharding,
  train,
  weight_files,
)
from jaxrg.convert import authors
from jaxrg.metrics import predictions
from jaxrg.tokenizers import Tokenizer

HEADS = "--heads=image=4,text=4,gpt=4"
SHORT = ("--config.text.context_length=40", "--config.text.report_length=36")
VIEWS = ("unk", "PA", "LL", "AP AXIAL", "LATERAL", "PA LLD", "AP")
WORDS = "text_encoder.bert.embeddings.word_embeddings.weight"
DECODER = "text_decoder.encoder_decoder.decoder"


class Killed(BaseException):
  """Passes every handler, as a signal would."""


def checkpoint_of(stage):
  """The goldens', with a tensor that the model has no use for."""
  extra = {"text_encoder.cls.predictions.bias": np.arange(5, dtype=np.float32)}
  return goldens.state(stage) | extra


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """The checkpoints of both stages, the tokenizer's folder and a table of views."""
  folder = tmp_path_factory.mktemp("authors")
  for name in ("1.npz", "2.npz", "2.safetensors"):
    weight_files.write(folder / name, checkpoint_of(int(name[0])))
  tokenizer = Tokenizer.from_gpt2_files(goldens.FOLDER / "tokenizer")
  (folder / "tokenizer.json").write_text(tokenizer.to_json())
  rows = {view: VIEWS.index(view) for view in sorted(VIEWS)}
  (folder / "views.json").write_text(json.dumps(rows))
  return folder


def verb(*arguments):
  # A config's values are to come behind it.
  is_value = lambda argument: str(argument).startswith("--config.")
  return micro.verb("convert", *sorted(arguments, key=is_value))


def to_export(files, source, out, *arguments):
  """Exit status of a conversion with all that the goldens need."""
  needed = (HEADS, f"--tokenizer={files}", *SHORT)
  return verb(f"--source={source}", f"--out={out}", *needed, *arguments)


@pytest.fixture(scope="module")
def converted(files):
  """An export of the second stage's checkpoint, for reading only."""
  out = files / "runs" / "export"
  recipe = ("--config=configs/priorrg.py:tiny,published", "--config.data.image_size=9")
  views = f"--views={files / 'views.json'}"
  assert to_export(files, files / "2.npz", out, *recipe, views) == 0
  return out


@pytest.fixture
def copied(converted, tmp_path):
  return pathlib.Path(shutil.copytree(converted, tmp_path / "export"))


def assert_equal(state, expected):
  assert state.keys() == expected.keys()
  for key, value in expected.items():
    np.testing.assert_array_equal(state[key], value, strict=True, err_msg=key)


def assert_returned(path, stage, without=()):
  """A file holds what the checkpoint did; a twin comes back though it was left out."""
  state = weight_files.read(path)
  twins = authors.table(stage, **authors.HEADS).tied
  expected = {k: v for k, v in checkpoint_of(stage).items() if k not in without}
  assert state.keys() - expected.keys() <= twins.keys()
  assert_equal({key: state[key] for key in state.keys() & expected.keys()}, expected)


def one_line(capsys):
  out, err = capsys.readouterr()
  assert out == ""
  assert err.startswith("error: ")
  assert err.count("\n") == 1, err
  return err


@pytest.mark.parametrize(("stage", "suffix"), [(1, "npz"), (2, "safetensors")])
def test_there_and_back(files, tmp_path, stage, suffix):
  assert to_export(files, files / f"{stage}.{suffix}", tmp_path / "export") == 0
  _, variables = convert.priorrg(checkpoint_of(stage), **goldens.HEADS)
  flat = traverse_util.flatten_dict(variables, sep="/")
  assert_equal(micro.leaves(tmp_path / "export"), flat)
  for back in ("back.npz", "back.safetensors"):
    assert verb(f"--source={tmp_path / 'export'}", f"--out={tmp_path / back}") == 0
    assert_returned(tmp_path / back, stage)


def test_a_checkpoint_of_lightning(files, tmp_path):
  torch = pytest.importorskip("torch")
  state = {k: torch.from_numpy(np.array(v)) for k, v in checkpoint_of(2).items()}
  torch.save({"state_dict": state, "epoch": 7}, tmp_path / "best.ckpt")
  assert to_export(files, tmp_path / "best.ckpt", tmp_path / "export") == 0
  assert exports.read(tmp_path / "export").converted_from == "best.ckpt"
  assert verb(f"--source={tmp_path / 'export'}", f"--out={tmp_path / 'back.npz'}") == 0
  assert_returned(tmp_path / "back.npz", 2)


def test_what_is_printed(files, tmp_path, capsys):
  assert to_export(files, files / "2.npz", tmp_path / "export") == 0
  printed = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
  printed = {name: value.strip() for name, value in printed.items()}
  count = sum(
    x.size
    for path, x in micro.leaves(tmp_path / "export").items()
    if path.startswith("params/")
  )
  assert printed["read"] == f"{files / '2.npz'}, {len(checkpoint_of(2))} tensors"
  # Five of the bias, and the mask token.
  assert printed["stage"] == (
    f"finetune; {count + 5 + 48:,} parameters, of which the model uses {count:,}"
  )
  assert "56 px, contexts of 40 and reports of 36 tokens" in printed["recipe"]
  assert printed["tokenizer"] == f"{files}, 367 entries"
  assert printed["views"].startswith("PA, AP, LATERAL, LL, unk, AP AXIAL, PA LLD: a ")
  assert printed["dropped"] == (
    "image_encoder.embeddings.mask_token (1), text_encoder.cls.* (1), "
    "*.num_batches_tracked (3); kept in dropped.safetensors"
  )
  assert printed["export"] == str(tmp_path / "export")


def test_an_export_has_the_recipe_and_the_checkpoint_s_own_sizes(converted):
  export = exports.read(converted)
  assert (export.stage, export.step, export.converted_from) == ("finetune", 0, "2.npz")
  config = export.config
  assert config.variant == "tiny,published"
  assert config.finetune.optim.schedule == "plateau"
  assert (config.data.name, config.data.image_size) == ("thorax/tiny", 56)
  assert tuple(config.data.views) == VIEWS
  assert not config.model.mask_padding
  assert config.model.decoder.vocab_size == len(export.tokenizer) == 367


def test_the_card_says_that_it_was_converted(converted):
  card = (converted / "MODEL_CARD.md").read_text()
  assert cli.INTENDED_USE in card
  assert "Converted from `2.npz`, **not trained here**" in card
  assert "Trained on" not in card
  assert "anatomy" not in card
  assert f"Views: {', '.join(VIEWS)}." in card


def test_an_export_writes_the_authors_reports(converted):
  export, arrays = exports.read(converted), goldens.load("stage2_mixed6")
  generate = inference.make_generate(
    export.model, export.tokenizer, num_beams=3, max_length=36
  )
  ids, _ = generate(export.variables, goldens.batch(2, "mixed6"))
  expected = arrays["out/ids_beams3_len36"]
  np.testing.assert_array_equal(ids[:, : expected.shape[1]], expected)


def test_an_export_can_be_evaluated(converted, monkeypatch, tmp_path):
  """On films of another size than its own."""
  load = datasets.load
  first = lambda name, split, *_: [load(name, split)[i] for i in range(12)]
  monkeypatch.setattr(datasets, "load", first)
  monkeypatch.setattr(sharding, "make_mesh", micro.one_device)
  arguments = (f"--checkpoint={converted}", f"--out={tmp_path}", "--num_beams=1")
  assert micro.verb("evaluate", *arguments) == 0
  assert len(predictions.read(tmp_path / "predictions.jsonl")) == 12


def test_a_report_of_a_film_that_nobody_can_compare(converted, tmp_path, capsys):
  noise = np.random.default_rng(0).integers(0, 256, (70, 60), np.uint8)
  Image.fromarray(noise).save(tmp_path / "film.png")
  arguments = (f"--checkpoint={converted}", "--num_beams=1", tmp_path / "film.png")
  assert micro.verb("generate", *arguments) == 0
  out, err = capsys.readouterr()
  assert out.strip()
  warning, caution = err.strip().split("\n\n")
  assert warning == reporting.NOT_COMPARED
  assert caution == cli.INTENDED_USE  # It has not seen thorax.


def test_the_second_stage_starts_from_a_converted_first(files, tmp_path):
  assert to_export(files, files / "1.npz", tmp_path / "export") == 0
  with pytest.raises(ValueError, match="cannot generate: stage 'pretrain'"):
    exports.read(tmp_path / "export")
  zeros = jax.tree.map(jnp.zeros_like, goldens.model(2)[1])
  laid = train.overlay(zeros, epath.Path(tmp_path / "export"))
  flat = traverse_util.flatten_dict(laid, sep="/")
  stored = micro.leaves(tmp_path / "export")
  assert_equal({path: np.asarray(flat[path]) for path in stored}, stored)
  assert not np.any(flat["params/decoder/positions"])


def test_gpt2s_vocabulary_needs_no_file(tmp_path):
  state = goldens.state(2)
  head, words = f"{DECODER}.lm_head.weight", f"{DECODER}.transformer.wte.weight"
  for key in (WORDS, head, words):
    state = state | {key: np.zeros((50264, state[key].shape[1]), np.float32)}
  weight_files.write(tmp_path / "model.safetensors", state)
  arguments = (f"--source={tmp_path}", f"--out={tmp_path / 'export'}", HEADS, *SHORT)
  assert verb(*arguments) == 0
  export = exports.read(tmp_path / "export")
  assert len(export.tokenizer) == 50264
  assert export.config.tokenizer.name == "gpt2"


def test_without_the_sidecar_what_is_absent_is_named(copied, tmp_path, capsys):
  (copied / conversion.SIDECAR).unlink()
  assert verb(f"--source={copied}", f"--out={tmp_path / 'back.npz'}") == 0
  printed = capsys.readouterr().out
  for name in ("image_encoder.embeddings.mask_token", "text_encoder.cls.*"):
    assert name in printed
  assert "strict=False" in printed
  assert_returned(tmp_path / "back.npz", 2, without=convert.dropped(checkpoint_of(2)))


@pytest.mark.parametrize(
  ("part", "prefix", "absent"),
  [
    ("vision", "image_encoder.", {"embeddings.mask_token"}),
    ("text", "text_encoder.bert.", set()),
    ("decoder", f"{DECODER}.transformer.", set()),
  ],
)
def test_a_part_has_hugging_face_s_names(converted, tmp_path, part, prefix, absent):
  out = tmp_path / "part.safetensors"
  assert verb(f"--source={converted}", f"--out={out}", f"--part={part}") == 0
  theirs = {
    key.removeprefix(prefix): value
    for key, value in goldens.state(2).items()
    if key.startswith(prefix) and key.removeprefix(prefix) not in absent
  }
  assert_equal(weight_files.read(out), theirs)


@pytest.mark.parametrize("there", [False, True])
def test_an_interrupted_conversion(files, converted, tmp_path, monkeypatch, there):
  """What was there stays; what was not is not; the next one clears up."""
  out = tmp_path / "export"
  if there:
    shutil.copytree(converted, out)
  with monkeypatch.context() as patch:

    def killed(path, *_, **__):
      path.mkdir(parents=True)
      raise Killed

    patch.setattr(checkpoint.ocp, "save", killed)
    options = dict(num_heads=goldens.HEADS, tokenizer=files)
    with pytest.raises(Killed):
      conversion.to_export(files / "1.npz", out, priorrg.get_config(), **options)
  assert out.exists() == there
  if there:
    assert exports.read(out).stage == "finetune"
  assert to_export(files, files / "1.npz", out) == 0
  assert checkpoint.load_config(out)["stage"] == "pretrain"
  assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_only_a_converted_export_is_replaced(files, copied, tmp_path, capsys):
  assert to_export(files, files / "2.npz", copied) == 0
  capsys.readouterr()
  facts = checkpoint.load_config(copied)
  del facts["converted_from"]  # As of a run, hours of training.
  (copied / "config.json").write_text(json.dumps(facts))
  (tmp_path / "thesis").mkdir()
  (tmp_path / "thesis/thesis.tex").touch()
  (tmp_path / "file").touch()
  for out in (copied, tmp_path / "thesis", tmp_path / "file"):
    assert to_export(files, files / "2.npz", out) == 1
    assert f"{out} exists, and is no converted export" in one_line(capsys)
  assert (copied / "variables").exists()
  assert (tmp_path / "thesis/thesis.tex").exists()


def bert(folder):
  state = goldens.state(1)
  bare = "text_encoder.bert."
  state = {k.removeprefix(bare): v for k, v in state.items() if k.startswith(bare)}
  weight_files.write(folder / "bert.safetensors", state)
  return folder / "bert.safetensors"


def truncated(folder):
  weight_files.write(folder / "cut.safetensors", goldens.state(1))
  data = (folder / "cut.safetensors").read_bytes()
  (folder / "cut.safetensors").write_bytes(data[: len(data) // 2])
  return folder / "cut.safetensors"


def evil(folder):
  torch = pytest.importorskip("torch")
  torch.save({"state_dict": {"x": print}}, folder / "evil.ckpt")
  return folder / "evil.ckpt"


def hub_name(folder):
  return "somebody/priorrg"


@pytest.mark.parametrize(
  ("source", "message"),
  [
    (bert, r"bert.safetensors: Unknown key 'embeddings.LayerNorm.bias' (and "),
    (truncated, "is a truncated or damaged safetensors file"),
    (evil, "is refused: its pickle asks for "),
    (hub_name, "somebody/priorrg is no file or folder here, and cannot be fetched"),
    (lambda folder: folder / "none.ckpt", "is no file or folder here"),
  ],
)
def test_what_is_no_checkpoint(files, tmp_path, monkeypatch, capsys, source, message):
  def offline(*_, **__):
    raise ConnectionError("no route to host")

  hub = pytest.importorskip("huggingface_hub")
  monkeypatch.setattr(hub.HfApi, "model_info", offline)
  monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
  assert to_export(files, source(tmp_path), tmp_path / "export") == 1
  assert message in one_line(capsys)
  assert not list(tmp_path.glob("export*"))


NINE = {f"view {i}": i for i in range(9)}


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("{", "views.json is damaged: it is not JSON"),
    ('["PA", "unk"]', "views.json is no table of views"),
    ('{"PA": "first"}', "views.json is no table of views"),
    (json.dumps(NINE), "has the rows 0, 1, 2, 3, 4, 5, 6, 7, 8, but the "),
    (json.dumps({v: 1 + i for i, v in enumerate(VIEWS)}), "checkpoint's are 0 to 6"),
    (json.dumps({v: i for i, v in enumerate("abcdefg")}), "views.json has no unk"),
  ],
)
def test_tables_of_views_that_cannot_be(files, tmp_path, capsys, content, message):
  path = tmp_path / "views.json"
  path.write_text(content)
  out = tmp_path / "export"
  assert to_export(files, files / "2.npz", out, f"--views={path}") == 1
  assert message in one_line(capsys)
  assert not list(tmp_path.glob("export*"))


def test_a_table_of_views_cannot_be_guessed_of_another_length(files, tmp_path, capsys):
  state = checkpoint_of(2)
  views = np.zeros((5, 1, state["vp_pos_embed"].shape[2]), np.float32)
  weight_files.write(tmp_path / "five.npz", state | {"vp_pos_embed": views})
  assert to_export(files, tmp_path / "five.npz", tmp_path / "export") == 1
  assert "has 5 views, and config.data.views 7: give" in one_line(capsys)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([HEADS], "GPT-2's tokenizer has 50,264 entries, the checkpoint 367: give "),
    ([HEADS, "--tokenizer={tmp}"], "No tokenizer in {tmp}"),
    ([HEADS, "--tokenizer={toy}", "--config.text.report_length=3000"], "3000 tokens"),
    (["--heads=image=5"], "are the head counts right?"),
    (["--heads=eyes=2"], "'eyes=2' is no NAME=COUNT; names: image, text, temporal"),
    (["--heads=image=0"], "'image=0' is no NAME=COUNT"),
    (["--config=configs/none.py"], "configs/none.py"),
    (["--out={tmp}/file.npz"], "{source} is no export, which --part and a weight file"),
    (["--part=text"], "{source} is no export"),
    (["--part=head"], "vision|text|decoder"),
    (["more"], "Unexpected arguments: ['more']"),
    (["--sauce=x"], "Unknown command line flag 'sauce'"),
  ],
)
def test_what_cannot_be_asked_of_a_checkpoint(
  files, tmp_path, capsys, arguments, message
):
  source = files / "2.npz"
  known = dict(tmp=tmp_path, source=source, toy=files)
  arguments = [argument.format(**known) for argument in arguments]
  where = (f"--source={source}", f"--out={tmp_path / 'export'}")
  assert verb(*where, *SHORT, *arguments) == 1
  assert message.format(**known) in one_line(capsys)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--out={tmp}/file"], "file: weights are written as .safetensors or .npz"),
    (["--out={tmp}/no/file.npz"], "{tmp}/no/file.npz: No such file or directory"),
    (["--out={tmp}/f.npz", "--views=v.json"], "--views is for checkpoints; {source} "),
    (["--out={tmp}/f.npz", HEADS], "--heads is for checkpoints; {source} is an export"),
    (["--out={tmp}/f.npz", "--config=configs/priorrg.py"], "--config is for"),
    ([], "--out"),
  ],
)
def test_what_cannot_be_asked_of_an_export(
  converted, tmp_path, capsys, arguments, message
):
  known = dict(tmp=tmp_path, source=converted)
  arguments = [argument.format(**known) for argument in arguments]
  assert verb(f"--source={converted}", *arguments) == 1
  assert message.format(**known) in one_line(capsys)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ("key", "value"),
  [("order", ["joint", "time", "context"]), ("seeded", False), ("fusion", "mean")],
)
def test_a_model_that_the_authors_code_would_not_be(
  copied, tmp_path, capsys, key, value
):
  facts = json.loads((copied / "config.json").read_text())
  facts["config"]["model"][key] = {"name": value} if key == "fusion" else value
  (copied / "config.json").write_text(json.dumps(facts))
  out = tmp_path / "back.npz"
  assert verb(f"--source={copied}", f"--out={out}") == 1
  error = one_line(capsys)
  assert f"{copied} has config.model.{key}=" in error
  assert "published weights" in error
  assert not out.exists()
  assert verb(f"--source={copied}", f"--out={out}", "--part=text") == 0


def test_exports_that_cannot_go_back(files, finished, copied, tmp_path, capsys):
  out = f"--out={tmp_path / 'back.npz'}"
  assert verb(f"--source={finished / 'export'}", out) == 1  # Of the miniature.
  assert f"{finished / 'export'}: A PriorRG stage-1 checkpoint" in one_line(capsys)
  assert to_export(files, files / "1.npz", tmp_path / "first") == 0
  capsys.readouterr()
  assert verb(f"--source={tmp_path / 'first'}", out, "--part=decoder") == 1
  assert "has no decoder: stage 'pretrain' exported it" in one_line(capsys)
  (copied / conversion.SIDECAR).write_bytes(b"12")
  assert verb(f"--source={copied}", out) == 1
  assert f"{copied / conversion.SIDECAR} is" in one_line(capsys)
  assert not (tmp_path / "back.npz").exists()
