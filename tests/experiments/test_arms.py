"""Arms are trained once, and share a first stage where they agree in it."""

import pathlib

import pytest
from etils import epath

import micro
import micro_eir
from jaxrg import checkpoint, evaluation, runs
from jaxrg.experiments import arms
from jaxrg.experiments.arms import Arm

DEFAULT = Arm("default")


@pytest.fixture
def root(tmp_path):
  return epath.Path(tmp_path)


def first_stages(asked):
  return [what for what in asked if what.endswith("/pretrain")]


def same_files(*folders):
  """Whether the folders hold the same export, and that it is one."""
  first, second = (
    {
      path.relative_to(folder): path.read_bytes()
      for path in (folder / "export").rglob("*")
      if path.is_file()
    }
    for folder in map(pathlib.Path, folders)
  )
  return bool(first) and first == second


def test_an_arm_is_its_overrides_and_its_seed():
  base = micro.get_config({"seed": 3})
  arm = Arm("a", {"data.without": ("prior",), "finetune.num_epochs": 7})
  config = arm.config(base, 2)
  assert config.data.without == ("prior",)
  assert config.finetune.num_epochs == 7
  assert config.seed == 5
  assert base.to_json() == micro.get_config({"seed": 3}).to_json()


def test_a_misspelt_override_is_no_arm():
  with pytest.raises(KeyError, match="num_epoch"):
    Arm("a", {"finetune.num_epoch": 7}).config(micro.get_config(), 0)


def test_what_is_finished_is_not_done_again(copies, root):
  folder = arms.train(DEFAULT, micro.get_config(), 0, root)
  assert folder == root / "default-0"
  first, *rest = copies
  assert first.startswith("pretrain-")
  assert rest == ["default-0/finetune", "default-0/eval"]
  assert arms.train(DEFAULT, micro.get_config(), 0, root) == folder
  assert len(copies) == 3


@pytest.mark.parametrize(
  "overrides",
  [
    {"finetune.num_epochs": 7},
    {"decode.num_beams": 1},
    {"finetune.optim.learning_rate": 0.1, "decode.length_penalty": 0.5},
  ],
)
def test_arms_that_differ_later_share_their_first_stage(copies, root, overrides):
  for arm in (DEFAULT, Arm("other", overrides)):
    arms.train(arm, micro.get_config(), 0, root)
  assert len(first_stages(copies)) == 1
  for name in ("default-0", "other-0"):
    assert same_files(root / name / "pretrain", root / copies[0])


@pytest.mark.parametrize(
  ("overrides", "seed"),
  [
    ({"data.without": ("prior",)}, 0),
    ({"pretrain.group_views": True}, 0),
    ({"model.text.dropout_rate": 0.3}, 0),
    ({"model.decoder.dropout_rate": 0.3}, 0),  # Not `decode`.
    ({}, 1),
  ],
)
def test_arms_that_differ_before_have_their_own(copies, root, overrides, seed):
  arms.train(DEFAULT, micro.get_config(), 0, root)
  arms.train(Arm("other", overrides), micro.get_config(), seed, root)
  assert len(set(first_stages(copies))) == 2
  folder = root / f"other-{seed}"
  assert checkpoint.load_config(folder)["seed"] == seed
  assert same_files(folder / "pretrain", root / first_stages(copies)[1])


def test_an_arm_without_a_first_stage(copies, root):
  arms.train(Arm("alone", {"stages": ("finetune",)}), micro.get_config(), 0, root)
  assert copies == ["alone-0/finetune", "alone-0/eval"]
  assert checkpoint.load_config(root / "alone-0")["init_from"] is None


def test_a_first_stage_for_itself_is_the_one_of_the_arm(copies, root):
  export = arms.pretrain(DEFAULT, micro.get_config(), 0, root)
  assert export.exists()
  arms.train(DEFAULT, micro.get_config(), 0, root)
  assert len(first_stages(copies)) == 1


@pytest.fixture
def asked(monkeypatch):
  """What is asked of `runs.run`, which does nothing."""
  told = []

  def run(config, folder, stage=None):
    folder.mkdir(exist_ok=True)
    told.append((folder, config, stage))

  monkeypatch.setattr(runs, "run", run)
  return told


@pytest.mark.parametrize(
  ("overrides", "shared"),
  [
    ({}, 4),
    ({"model.reading": "gumbel_st", "refine.weights.interpreter": 0.0}, 4),
    ({"write.num_epochs": 7}, 3),
    ({"stages": ("pretrain", "interpret", "retrieve", "write")}, 3),
    ({"model.use_text": False}, 3),
  ],
)
def test_arms_share_all_stages_in_which_they_agree(asked, root, overrides, shared):
  """EIR's: but for its last one, which is each arm's own."""
  base = micro_eir.get_config()
  arms.train(DEFAULT, base, 0, root)
  *of_default, (own, _, _) = asked
  asked.clear()
  arms.train(Arm("other", overrides), base, 0, root)
  *of_other, (folder, _, _) = asked
  assert (own.name, folder.name) == ("default-0", "other-0")
  place = lambda asked: [(folder, stage) for folder, _, stage in asked]
  assert place(of_other) == place(of_default)[:shared]
  assert len(of_default) == 4


def test_an_arm_that_begins_with_the_encoder_of_another(asked, root):
  arm = Arm("begun", vision=Arm("other", {"pretrain.films": "photographs"}))
  arms.train(arm, micro_eir.get_config(), 0, root)
  stages = ["pretrain", "pretrain", "interpret", "retrieve", None]
  assert [stage for _, _, stage in asked] == stages
  (other, of_others, _), (first, of_films, _), *_, (folder, config, _) = asked
  assert (of_others.pretrain.films, of_films.pretrain.films) == ("photographs", None)
  assert other != first
  assert folder == root / "begun-0"
  assert config.pretrained.vision == str(other / "pretrain" / "export")
  assert (config.pretrained.kind, config.write.fresh) == ("jaxrg", ("vision",))


def test_a_killed_run_goes_on(copies, root, monkeypatch):
  whole = evaluation.evaluate

  def killed(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(evaluation, "evaluate", killed)
  with pytest.raises(KeyboardInterrupt):
    arms.train(DEFAULT, micro.get_config(), 0, root)
  monkeypatch.setattr(evaluation, "evaluate", whole)
  arms.train(DEFAULT, micro.get_config(), 0, root)
  assert copies[1:] == ["default-0/finetune", "default-0/eval"]


@pytest.mark.parametrize("finished_there", [True, False])
def test_another_base_is_refused_before_anything_is_trained(
  copies, root, finished_there
):
  arms.train(DEFAULT, micro.get_config(), 0, root)
  if not finished_there:
    (root / "default-0/eval/metrics.json").unlink()
  before = len(copies)
  with pytest.raises(ValueError, match="default-0 holds the run of another config"):
    arms.train(DEFAULT, micro.get_config({"text.report_length": 15}), 0, root)
  assert len(copies) == before
