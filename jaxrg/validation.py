"""What decides which state of a stage is the best one."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from data_pipelines import findings, loader
from jaxrg import classification, inference, inputs, objectives, sharding
from jaxrg.metrics import clinical, nlg, retrieval
from jaxrg.metrics.protocols import PROTOCOLS
from jaxrg.stages import Stage
from jaxrg.state import TrainState

Validate = Callable[[TrainState], dict[str, float]]


def make_validate(stage: Stage, mesh: Mesh) -> Validate:
  """The function from a state to its scores; `score` is the one to be maximised.

  The contrastive stage maximises the negative loss, as the published code selects, or
  retrieval where `select_by` says so; generation BLEU-4 plus the micro-F1 of labels,
  which need no weights, where theirs needs three models; EIR's the negative loss, as
  published. Momentum contrast goes on to its end.
  """
  config = stage.config
  source = inputs.load_split(config, stage.name, stage.recipe.select_on)
  studies = stage.read(source)
  if stage.recipe.objective == "momentum":
    loss = _make_loss(stage, studies, mesh)
    # Each loss is against another queue; of these states the last is taken.
    return lambda state: loss(state) | {"score": float(state.step)}
  if stage.recipe.objective in ("interpretation", *inputs.REPORTS):
    loss = _make_loss(stage, studies, mesh)
    return lambda state: (scores := loss(state)) | {"score": -scores["loss"]}
  if stage.recipe.objective == "contrastive":
    reports = [loader.parse_text(source, i)["findings"] for i in range(len(source))]
    return _make_contrast(stage, studies, reports, mesh)
  loss = _make_loss(stage, studies, mesh)
  chosen = loader.spread(len(source), stage.recipe.validation_studies)
  records = [loader.parse_text(source, i) for i in chosen]
  write = _make_write(stage, studies, chosen, records, mesh)

  def validate(state: TrainState) -> dict[str, float]:
    return (scores := loss(state) | write(state)) | {
      "score": scores["bleu_4"] + scores["label_micro_f1"]
    }

  return validate


def tune_threshold(stage: Stage, variables: Any, mesh: Mesh) -> float:
  """By which the model decides best which topics are present, on validation."""
  source = inputs.load_split(stage.config, stage.name, "validation")
  batches = _batches(stage.read(source), stage.recipe.batch_size)
  classify = inference.make_classify(stage.model)
  present, states = inference.classify_all(classify, variables, batches, mesh)
  return classification.best_threshold(present, classification.is_present(states))


def _batches(studies: loader.Examples, batch_size: int, indices=None):
  """This process's rows of the batches of all studies, or of those at `indices`."""
  return loader.eval_batches(
    studies,
    batch_size=batch_size,
    indices=indices,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )


def _average(losses, weights) -> float:
  losses, weights = np.asarray(jax.device_get((losses, weights)), np.float64)
  return float(np.average(losses, weights=weights))


def _make_loss(stage: Stage, studies: loader.Examples, mesh: Mesh) -> Validate:
  @jax.jit
  def batch_loss(params, extra, batch):
    return stage.objective(params, extra, batch, None)[0], batch["valid"].sum()

  def loss(state: TrainState) -> dict[str, float]:
    pairs = [
      batch_loss(state.params, state.extra, sharding.to_global(dict(batch), mesh))
      for batch in _batches(studies, stage.recipe.batch_size)
    ]
    return {"loss": _average(*zip(*pairs))}

  return loss


def _make_contrast(
  stage: Stage, studies: loader.Examples, reports: list[str], mesh: Mesh
) -> Validate:
  """Loss and retrieval of one pass; `retrieval` is recall@5, mean of both directions.

  The loss compares within a batch, recall across the split.
  """

  @jax.jit
  def contrast(variables, batch):
    output = stage.model.apply(variables, batch, method="contrast")
    loss = objectives.contrast_loss(output, batch, stage.recipe.positives)
    return (loss, batch["valid"].sum()), (*output[:2], batch["valid"])

  def validate(state: TrainState) -> dict[str, float]:
    variables = {"params": state.params, **state.extra}
    batches = _batches(studies, stage.recipe.batch_size)
    sums, rows = zip(
      *(contrast(variables, sharding.to_global(dict(batch), mesh)) for batch in batches)
    )
    image, report, valid = map(sharding.gather, zip(*rows))
    scores = {"loss": _average(*zip(*sums))}
    scores |= _recall(image[valid], report[valid], reports)
    by = stage.recipe.select_by
    return scores | {"score": -scores["loss"] if by == "loss" else scores[by]}

  return validate


def _recall(image: np.ndarray, report: np.ndarray, texts: list[str]) -> dict:
  scores = {}
  for direction, sides in retrieval.directions(image, report):
    values = retrieval.recall(*sides, texts).mean(axis=0)
    for rank, value in zip(retrieval.RANKS, values):
      scores[f"{direction}_recall_at_{rank}"] = float(value)
  at_5 = [value for name, value in scores.items() if name.endswith("_at_5")]
  return scores | {"retrieval": float(np.mean(at_5))}


def _make_write(
  stage: Stage, studies: loader.Examples, chosen, records, mesh: Mesh
) -> Validate:
  """Greedy reports of the chosen studies: their BLEU-4, label F1 and variety."""
  tokenizer = stage.tokenizer
  generate = inference.make_generate(
    stage.model,
    tokenizer,
    num_beams=1,
    max_length=stage.config.text.report_length,
  )
  truth, _ = clinical.true_labels(
    [{"reference": r["findings"], "labels": r["labels"].tolist()} for r in records],
    findings,
  )
  protocol = PROTOCOLS["priorrg"]
  references = protocol.apply([record["findings"] for record in records])

  def write(state: TrainState) -> dict[str, float]:
    batches = _batches(studies, stage.config.decode.batch_size, chosen)
    variables = {"params": state.params, **state.extra}
    reports = inference.write_reports(generate, variables, batches, tokenizer, mesh)
    outputs = [reports[i] for i in chosen]
    bleu = nlg.bleu(
      nlg.bleu_statistics(nlg.count(protocol.apply(outputs), references)).sum(axis=0)
    )
    claimed = clinical.read_labels(outputs, findings)
    outcomes = clinical.label_statistics(claimed, truth, "positive").sum(axis=0)
    return {
      "bleu_4": float(bleu[3]),
      "label_micro_f1": float(clinical.micro_f1(outcomes)),
      "unique": len(set(outputs)) / len(outputs),
    }

  return write
