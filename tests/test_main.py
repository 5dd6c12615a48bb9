"""The training verb: what it runs, and what it refuses in one line."""

import contextlib
import os
import pathlib
import resource
import shutil

import pytest
from etils import epath

import micro
from data_pipelines import datasets
from data_pipelines.thorax import builder as thorax
from jaxrg import checkpoint, exports, runs, sharding
from jaxrg.evaluation import report
from test_runs import assert_same_run, files

EIGHT_DEVICES = sharding.make_mesh  # The fixture replaces it by one device.
ROOT = pathlib.Path(__file__).parents[1]
MICRO = f"--config={ROOT / 'tests/micro.py'}"
PRIORRG = f"--config={ROOT / 'configs/priorrg.py'}"


def main(*arguments):
  return micro.verb("main", *arguments)


def error_of(capsys):
  """The one line that was written to stderr."""
  err = capsys.readouterr().err
  assert err.startswith("error: ")
  assert err.count("\n") == 1, err
  return err.removeprefix("error: ").removesuffix("\n")


@pytest.fixture
def runs_of(monkeypatch):
  """What `main` asks of `runs.run`, which does nothing here."""
  asked = []
  monkeypatch.setattr(runs, "run", lambda *arguments: asked.append(arguments))
  return asked


@pytest.mark.parametrize(
  ("variant", "workdir"),
  [
    ("", "runs/priorrg-thorax"),
    (":tiny", "runs/priorrg-tiny"),
    (":tiny,published", "runs/priorrg-tiny-published"),
  ],
)
def test_the_workdir_is_named_by_config_and_variant(runs_of, variant, workdir):
  assert main(PRIORRG + variant) == 0
  ((config, where, stage),) = runs_of
  assert where == workdir
  assert stage is None
  assert config.model.mask_padding == ("published" not in variant)


def test_flags_reach_the_config(runs_of):
  flags = ("--config.finetune.optim.learning_rate=0.5", "--config.mesh=(1,1,8)")
  assert main(f"{PRIORRG}:tiny", *flags, "--workdir=here", "--stage=finetune") == 0
  ((config, where, stage),) = runs_of
  assert config.finetune.optim.learning_rate == 0.5
  assert config.mesh == (1, 1, 8)
  assert (where, stage) == ("here", "finetune")


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "--config"),
    ([f"{PRIORRG}:large"], "Unknown variant 'large'; known: tiny, thorax"),
    ([f"--config={ROOT / 'configs/none.py'}"], "configs/none.py"),
    ([PRIORRG, "--config.finetune.batchsize=3"], 'Did you mean "batch_size"'),
    ([PRIORRG, "--config.finetune.optim.learning_rat=3"], '"learning_rate"'),
    ([PRIORRG, "--config.seed=many"], "config.seed"),
    ([PRIORRG, "--wordkir=x"], "Did you mean: workdir"),
    ([PRIORRG, "finetune"], "Unexpected arguments: ['finetune']"),
    ([PRIORRG, "--stage=polish"], "--stage=polish: the config has pretrain, finetune"),
  ],
)
def test_wrong_flags(arguments, message, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert main(*arguments) == 1
  assert message in error_of(capsys)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("mesh=8", "config.mesh=(8,) must be (data, fsdp, tensor)"),
    ("mesh=(3,1,1)", "config.mesh=(3, 1, 1) does not divide the 8 devices"),
    ("pretrain.batch_size=12", "config.pretrain.batch_size=12 does not divide over"),
    ("decode.batch_size=20", "config.decode.batch_size=20 does not divide over"),
    ("pretrain.batch_size=64", "config.pretrain.batch_size=64, but there are only 48"),
    ("pretrain.objective=guess", "Unknown config.pretrain.objective 'guess'"),
    ("pretrain.optim.frozen=('nothing/.*',)", "match no parameter: ['nothing/.*']"),
    ("stages=('pretrain','polish')", "the config has no section 'polish'"),
    ("data.name=radio", "Unknown data set 'radio'; known: thorax, photographs"),
    ("data.name=thorax/huge", "thorax has no set 'huge': one of default, tiny"),
    ("data.name=thorax/retrieval", "thorax/retrieval has no split 'train'"),
    ("tokenizer.name=gpt3", "config.tokenizer.name 'gpt3'; known: trained, gpt2"),
  ],
)
def test_wrong_values(
  finished, miniature, monkeypatch, tmp_path, capsys, flag, message
):
  late = "frozen" in flag  # Known when the model is.
  monkeypatch.setattr(sharding, "make_mesh", EIGHT_DEVICES)
  assert main(MICRO, f"--workdir={tmp_path / 'run'}", f"--config.{flag}") == 1
  assert message in error_of(capsys)
  kept = {path.name for path in tmp_path.glob("run/*")}
  assert kept <= ({"config.json", "tokenizer", "pretrain"} if late else set())
  assert not list(tmp_path.glob("**/metrics.jsonl"))


def test_another_config_is_refused(miniature, finished, capsys):
  before = {path: path.stat().st_mtime_ns for path in finished.glob("**/*")}
  flags = ("--config.finetune.optim.b1=0.5", "--config.seed=3")
  assert main(MICRO, f"--workdir={finished}", *flags) == 1
  error = error_of(capsys)
  assert error.startswith(f"{finished} holds the run of another config: there ")
  assert "config.finetune.optim.b1=0.9, here 0.5" in error
  assert before == {path: path.stat().st_mtime_ns for path in finished.glob("**/*")}


def test_where_the_data_lie_is_no_part_of_a_run(miniature, finished, capsys):
  flags = (
    f"--workdir={finished}",
    f"--config.data.data_dir={os.environ['TFDS_DATA_DIR']}",
  )
  assert main(MICRO, *flags) == 0
  assert f"export: {finished / 'export'}" in capsys.readouterr().out


def test_folders_that_are_no_runs(miniature, tmp_path, capsys):
  (tmp_path / "thesis.tex").touch()
  assert main(MICRO, f"--workdir={tmp_path}") == 1
  assert f"{tmp_path} holds something that is no run" in error_of(capsys)
  assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
  assert main(MICRO, f"--workdir={tmp_path / 'thesis.tex/run'}") == 1
  assert f"{tmp_path / 'thesis.tex/run'}: Not a directory." in error_of(capsys)
  (tmp_path / "config.json").write_text('{"seed": ')
  assert main(MICRO, f"--workdir={tmp_path}") == 1
  assert f"{tmp_path / 'config.json'} is damaged" in error_of(capsys)


def test_data_that_cannot_be_written(tmp_path, capsys):
  (tmp_path / "file").touch()
  where = (
    f"--workdir={tmp_path / 'run'}",
    f"--config.data.data_dir={tmp_path / 'file'}",
  )
  assert main(MICRO, *where) == 1
  assert str(tmp_path / "file") in error_of(capsys)


def test_data_that_do_not_fit_on_the_disk(monkeypatch, tmp_path, capsys):
  def full(self, **kwargs):
    raise RuntimeError('Failed to finalize "train": write() failed: No space left')

  monkeypatch.setattr(thorax.Thorax, "download_and_prepare", full)
  where = f"--config.data.data_dir={tmp_path / 'data'}"
  assert main(MICRO, f"--workdir={tmp_path / 'run'}", where) == 1
  assert "write() failed: No space left" in error_of(capsys)
  assert list(tmp_path.glob("run/*")) == []


def test_a_stage_needs_the_one_before(miniature, tmp_path, capsys):
  assert main(MICRO, f"--workdir={tmp_path / 'run'}", "--stage=finetune") == 1
  assert "Stage finetune starts from" in error_of(capsys)


def test_an_empty_report_is_named(miniature, monkeypatch, tmp_path, capsys):
  records = list(datasets.load("thorax/tiny", "train"))
  records[7] = records[7] | {"findings": b" "}
  monkeypatch.setattr(datasets, "load", lambda *_: records)
  assert main(MICRO, f"--workdir={tmp_path / 'run'}") == 1
  name = records[7]["id"].decode()
  assert error_of(capsys).startswith(f"Record {name} has an empty report.")


def test_checkpoints_of_another_config(miniature, finished, tmp_path, capsys):
  """As when somebody has copied folders between runs."""
  workdir = epath.Path(tmp_path / "run")
  config = micro.get_config({"model.decoder.vocab_size": 800})
  (workdir / "pretrain").mkdir(parents=True)
  runs.claim(workdir, config)
  for name in ("tokenizer", "pretrain/checkpoints"):
    shutil.copytree(finished / name, workdir / name)
  assert (
    main(MICRO, f"--workdir={workdir}", "--config.model.decoder.vocab_size=800") == 1
  )
  error = error_of(capsys)
  assert error.startswith(f"{workdir / 'pretrain/checkpoints/6'}: ")
  assert "the checkpoint does not fit this config" in error


@contextlib.contextmanager
def full_disk_from(module, name, when=lambda *_, **__: True):
  """From a call of a function on, no file grows beyond ten kilobytes."""
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  function = getattr(module, name)

  def filling(*args, **kwargs):
    if when(*args, **kwargs):
      resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    return function(*args, **kwargs)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(module, name, filling)
    try:
      yield
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_one_line_and_no_loss(miniature, finished, tmp_path, capsys):
  workdir = tmp_path / "run"
  second = lambda checkpoints, step, *_, **__: step == 2
  last_stage = lambda directory, *_: directory == epath.Path(workdir / "export")
  for module, name, when, where in (
    (runs, "claim", None, "tokenizer/tokenizer.json: File too large."),
    (checkpoint, "save", second, "pretrain/checkpoints/2."),
    (checkpoint.ocp, "save", None, "pretrain/export.unfinished/"),
    (exports, "write", last_stage, "export.unfinished/"),
    (report, "write", None, "eval/report.html: File too large."),
  ):
    with full_disk_from(module, name, *([when] if when else [])):
      assert main(MICRO, f"--workdir={workdir}") == 1
    assert str(workdir / where) in error_of(capsys)
  assert main(MICRO, f"--workdir={workdir}") == 0
  assert_same_run(workdir, finished)
  assert files(workdir) == files(finished)
