"""What stage 1 is chosen by: its loss, or how well images find their reports."""

import types

import jax
import numpy as np
import pytest

import micro
from data_pipelines import datasets, loader
from jaxrg import inference, inputs, models, runs, sharding, stages, train, validation
from jaxrg.metrics import retrieval

BATCH = 10  # Of 16 studies: the last batch is filled up.


@pytest.fixture
def setup(miniature, finished):
  """The stage, its first state, the mesh, and the studies in batches."""
  tokenizer = runs.Tokenizer.load(finished / "tokenizer")
  config = micro.get_config({"pretrain.batch_size": BATCH})
  stage = stages.prepare(config, "pretrain", tokenizer, finished)
  mesh = sharding.make_mesh((1, 1, 1))
  with jax.set_mesh(mesh):
    _, start = train.first_state(stage, mesh, [])
    state = start()
  studies = loader.Studies(
    datasets.load(config.data.name, "validation"),
    inputs.priorrg.encode_for(config, config.pretrain, tokenizer),
    image_size=config.data.image_size,
    views=config.data.views,
  )
  return stage, state, mesh, lambda: loader.eval_batches(studies, batch_size=BATCH)


def test_loss_and_recall_are_those_of_separate_passes(setup):
  stage, state, mesh, batches = setup
  scores = validation.make_validate(stage, mesh)(state)

  losses, weights = [], []
  objective = jax.jit(stage.objective)
  for batch in batches():
    losses.append(objective(state.params, state.extra, dict(batch), None)[0])
    weights.append(batch["valid"].sum())
  assert weights == [10, 6]
  assert scores["loss"] == pytest.approx(np.average(losses, weights=weights), rel=1e-5)

  embed = inference.make_embed(models.build(stage.config.model))
  variables = {"params": state.params, **state.extra}
  image, report = inference.embed_all(embed, variables, batches(), mesh)
  source = datasets.load(stage.config.data.name, "validation")
  texts = [record["findings"].decode() for record in source]
  found = retrieval.score_instances(image, report, texts, resamples=2)
  assert found["protocol"]["n"] == 16
  for direction in ("image_to_report", "report_to_image"):
    for name, value in found[direction].items():
      assert scores[f"{direction}_{name}"] == pytest.approx(value["value"])
  at_5 = [found[d]["recall_at_5"]["value"] for d, _ in retrieval.directions(0, 0)]
  assert scores["retrieval"] == pytest.approx(np.mean(at_5))
  assert scores["score"] == -scores["loss"]


def test_selection_by_retrieval(setup):
  stage, state, mesh, _ = setup
  stage.recipe.select_by = "retrieval"
  scores = validation.make_validate(stage, mesh)(state)
  assert scores["score"] == scores["retrieval"] > 0


def test_one_pass_over_the_split(setup, monkeypatch):
  stage, state, mesh, _ = setup
  validate, passes = validation.make_validate(stage, mesh), []
  original = loader.eval_batches

  def counted(*arguments, **options):
    passes.append(options)
    return original(*arguments, **options)

  monkeypatch.setattr(validation, "loader", types.SimpleNamespace(eval_batches=counted))
  validate(state)
  assert len(passes) == 1
