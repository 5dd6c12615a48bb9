"""What validation decides, and from where a stage starts."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from flax import traverse_util

import micro
from data_pipelines import datasets
from jaxrg import (
  checkpoint,
  inputs,
  models,
  objectives,
  runs,
  sharding,
  stages,
  train,
  validation,
)

# Chosen so that the second score is the best one in float32, and equal to the first.
SCORES = (0.5, 0.5 - 1e-12, 0.3, 0.2, 0.9)
CHANGES = {
  "stages": ("pretrain",),
  "pretrain.num_epochs": 5,
  "pretrain.early_stop": 3,
  "pretrain.optim.schedule": "plateau",
  "pretrain.optim.plateau_factor": 0.5,
  "pretrain.optim.plateau_patience": 0,
  "checkpoint.every": 1,
  "checkpoint.keep": 1,
}


class Killed(BaseException):
  pass


@pytest.fixture
def validated(monkeypatch):
  """Step -> the state that validation saw, to which it gave the scores in turn."""
  seen = {}

  def make_validate(stage, mesh):
    def validate(state):
      seen[int(state.step)] = jax.device_get(state)
      return {"score": SCORES[int(state.step) // stage.steps_per_epoch - 1]}

    return validate

  monkeypatch.setattr(validation, "make_validate", make_validate)
  return seen


def run_stage(workdir, changes=CHANGES):
  """Stage 1 alone, without the evaluation that would follow."""
  config = micro.get_config(changes)
  source = datasets.load(config.data.name, "train")
  tokenizer = runs.make_tokenizer(config, workdir, source)
  train.train(
    config,
    "pretrain",
    tokenizer,
    workdir=workdir,
    init_from=[],
    export_to=workdir / "export",
  )


def test_selection_early_stop_and_plateau(miniature, validated, tmp_path):
  """One run, killed after its second validation and resumed."""
  workdir = epath.Path(tmp_path)
  with pytest.MonkeyPatch.context() as patch:
    save = checkpoint.save

    def killing(checkpoints, step, state, **kwargs):
      save(checkpoints, step, state, **kwargs)
      if step == 7:
        raise Killed

    patch.setattr(checkpoint, "save", killing)
    with pytest.raises(Killed):
      run_stage(workdir)
  run_stage(workdir)

  # The fourth validation is the third without improvement: the last epoch is not run.
  assert sorted(validated) == [3, 6, 9, 12]
  assert [row["step"] for row in micro.rows(workdir / "pretrain")] == list(range(1, 13))
  # The rate fell after each stale validation, and stayed so over the restart.
  factors = [float(state.progress.factor) for state in validated.values()]
  assert factors == [1, 1, 0.5, 0.25]
  # The best state is exported, not the last one.
  facts = json.loads((workdir / "export/config.json").read_text())
  assert facts["step"] == 6
  leaves = micro.leaves(workdir / "export")
  best, last = validated[6], validated[12]
  np.testing.assert_array_equal(
    leaves["params/patch/kernel"], best.params["patch"]["kernel"]
  )
  np.testing.assert_array_equal(
    leaves["batch_stats/batch_norm/var"], best.extra["batch_stats"]["batch_norm"]["var"]
  )
  assert (best.params["patch"]["kernel"] != last.params["patch"]["kernel"]).any()

  # What has stopped stays so, though its export be lost.
  (workdir / "export").rmtree()
  validated.clear()
  run_stage(workdir)
  assert validated == {}
  assert json.loads((workdir / "export/config.json").read_text())["step"] == 6


def test_films_with_an_unknown_view_are_told(
  miniature, validated, monkeypatch, tmp_path, capsys
):
  rows = [dict(record) for record in datasets.load("thorax/tiny", "train")]
  rows[3]["view"], rows[9]["view"] = b"RL", b"RL"
  monkeypatch.setattr(datasets, "load", lambda *_: rows)
  run_stage(epath.Path(tmp_path))
  assert capsys.readouterr().out.count("2 films have a view that is not in ") == 1


@pytest.mark.parametrize(
  "scores", [{"score": np.nan}, {"score": -np.inf}, {"loss": np.nan, "score": 0.0}]
)
def test_a_run_that_diverges_stops(miniature, monkeypatch, tmp_path, scores):
  make_validate = lambda stage, mesh: lambda state: scores
  monkeypatch.setattr(validation, "make_validate", make_validate)
  with pytest.raises(ValueError, match=r"^Stage pretrain diverged: at step 3 .* Lower"):
    run_stage(epath.Path(tmp_path))
  assert len(micro.rows(tmp_path / "pretrain")) == 3
  assert not (tmp_path / "export").exists()


def test_views_are_grouped_in_training(miniature, validated, monkeypatch, tmp_path):
  """The films of a study come side by side, but where a batch or an epoch ends."""
  batches, to_global = [], sharding.to_global

  def keep(batch, mesh):
    batches.append([tuple(key) for key in batch["study"].tolist()])
    return to_global(batch, mesh)

  monkeypatch.setattr(sharding, "to_global", keep)
  changes = CHANGES | {"pretrain.group_views": True, "pretrain.num_epochs": 1}
  run_stage(epath.Path(tmp_path), changes)
  epoch = [study for batch in batches for study in batch]
  assert len(epoch) == micro.COUNTS["train"] > len(set(epoch))
  neighbours = zip([None, *epoch], epoch)
  assert sum(a != b for a, b in neighbours) == len(set(epoch))


@pytest.fixture
def second_stage(miniature, finished):
  tokenizer = runs.Tokenizer.load(finished / "tokenizer")
  return stages.prepare(micro.get_config(), "finetune", tokenizer, finished)


def first_state(stage, init_from):
  mesh = sharding.make_mesh((1, 1, 1))
  with jax.set_mesh(mesh):
    abstract, start = train.first_state(stage, mesh, init_from)
    state = start()
  assert jax.tree.structure(abstract) == jax.tree.structure(state)
  return state


def test_a_stage_starts_from_the_export_before(second_stage, finished):
  export = epath.Path(finished / "pretrain/export")
  state, fresh = first_state(second_stage, [export]), first_state(second_stage, [])
  leaves = micro.leaves(export)
  for path, value in leaves.items():
    part, *keys = path.split("/")
    tree = state.params if part == "params" else state.extra[part]
    for key in keys:
      tree = tree[key]
    np.testing.assert_array_equal(tree, value, err_msg=path)
  # What stage 1 does not have is as random as it would be without it.
  np.testing.assert_array_equal(
    state.params["wo"]["kernel"], fresh.params["wo"]["kernel"]
  )
  assert state.step == 0
  assert state.progress.best == -np.inf


def test_a_part_that_begins_anew_keeps_what_it_is(finished):
  export = epath.Path(finished / "pretrain/export")
  shapes = checkpoint.variable_shapes(export)
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  fresh = jax.tree.map(
    lambda x: jax.device_put(jnp.zeros(x.shape, x.dtype), place), shapes
  )
  taken = train.overlay(fresh, export, anew=("vision",))
  stored = micro.leaves(export)
  flat = traverse_util.flatten_dict(taken, sep="/")
  assert flat.keys() == stored.keys()
  for path, x in flat.items():
    kept = path.split("/")[1] == "vision"
    np.testing.assert_array_equal(x, np.zeros_like(x) if kept else stored[path])


def test_an_export_of_another_config_is_refused(second_stage, finished):
  export = epath.Path(finished / "pretrain/export")
  config = second_stage.config.copy_and_resolve_references()
  config.model.decoder.vocab_size += 8
  with pytest.raises(ValueError, match="does not fit this config") as info:
    first_state(dataclasses.replace(second_stage, config=config), [export])
  assert str(info.value).startswith(str(export))


@pytest.mark.parametrize("fusion", ["attention", "last", "mean"])
def test_priorrg_s_stages_fit_each_other(fusion):
  """By shapes alone: stage 1 lies within stage 2, whose variables are the export's."""
  config = micro.get_config({"model.fusion.name": fusion})
  model = models.build(config.model)
  batch = inputs.priorrg.example(image_size=config.data.image_size, **config.text)
  shapes = {}
  for name in inputs.OBJECTIVES["priorrg"]:
    init = functools.partial(model.init, method=objectives.METHODS[name])
    variables = jax.eval_shape(init, jax.random.key(0), batch)
    shapes[name] = traverse_util.flatten_dict(variables, sep="/")
  first, second = shapes["contrastive"], shapes["generation"]
  assert {path: second[path] for path in first} == first
  assert any(path.startswith("batch_stats/") for path in first)
  fused = [path for path in second if path.startswith("params/fusion/")]
  assert bool(fused) == (fusion == "attention")
