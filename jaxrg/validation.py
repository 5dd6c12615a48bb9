"""What decides which state of a stage is the best one."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from data_pipelines import datasets, findings, loader
from jaxrg import inference, sharding, stages
from jaxrg.metrics import clinical, nlg
from jaxrg.metrics.protocols import PROTOCOLS
from jaxrg.stages import Stage
from jaxrg.state import TrainState

Validate = Callable[[TrainState], dict[str, float]]


def make_validate(stage: Stage, mesh: Mesh) -> Validate:
  """The function from a state to its scores; `score` is the one to be maximised.

  Stage 1 maximises the negative loss, as the published code selects; stage 2 BLEU-4
  plus the micro-F1 of labels, which need no weights, where theirs needs three models.
  """
  config = stage.config
  source = datasets.load(config.data.name, stage.recipe.select_on, config.data.data_dir)
  encode = stages.make_encode(config, stage.name, stage.tokenizer)
  studies = loader.Studies(
    source, encode, image_size=config.data.image_size, views=config.data.views
  )
  loss = _make_loss(stage, studies, mesh)
  if stage.recipe.objective == "contrastive":
    return lambda state: (scores := loss(state)) | {"score": -scores["loss"]}
  count = min(stage.recipe.validation_studies, len(source))
  # Spread over the split: neighbours are studies of one patient.
  chosen = np.linspace(0, len(source) - 1, count).round().astype(int)
  records = [loader.parse(source, int(i)) for i in chosen]
  write = _make_write(stage, studies, chosen, records, mesh)

  def validate(state: TrainState) -> dict[str, float]:
    return (scores := loss(state) | write(state)) | {
      "score": scores["bleu_4"] + scores["label_micro_f1"]
    }

  return validate


def _make_loss(stage: Stage, studies: loader.Studies, mesh: Mesh) -> Validate:
  @jax.jit
  def batch_loss(params, extra, batch):
    return stage.objective(params, extra, batch, None)[0], batch["valid"].sum()

  def loss(state: TrainState) -> dict[str, float]:
    batches = loader.eval_batches(
      studies,
      batch_size=stage.recipe.batch_size,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    pairs = [
      batch_loss(state.params, state.extra, sharding.to_global(dict(batch), mesh))
      for batch in batches
    ]
    losses, weights = np.asarray(jax.device_get(pairs), np.float64).T
    return {"loss": float(np.average(losses, weights=weights))}

  return loss


def _make_write(
  stage: Stage, studies: loader.Studies, chosen, records, mesh: Mesh
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
    batches = loader.eval_batches(
      studies,
      batch_size=stage.config.decode.batch_size,
      indices=chosen,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    variables = {"params": state.params, **state.extra}
    reports = inference.write_reports(generate, variables, batches, tokenizer, mesh)
    outputs = [reports[int(i)] for i in chosen]
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
