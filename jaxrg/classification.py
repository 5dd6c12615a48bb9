"""How well an export tells the states of topics: a split classified and scored."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from data_pipelines import datasets, loader
from data_pipelines.topics import LABELS
from jaxrg import exports, inference, inputs, sharding
from jaxrg.metrics import auc, intervals, predictions
from jaxrg.metrics.tables import number


def evaluate(
  directory: epath.PathLike,
  split: str,
  out: epath.Path,
  *,
  data_dir: str | None = None,
) -> str:
  """Writes the scores of a split to `out / metrics.json`; their table.

  Raises FileNotFoundError or ValueError where the export is none of a classifier.
  """
  mesh = sharding.make_mesh((-1, 1, 1))
  with jax.set_mesh(mesh), nn.logical_axis_rules(sharding.AXIS_RULES):
    export = exports.read(directory, mesh)
    config = export.config
    load = lambda name: datasets.load(
      config.data.name, name, data_dir or config.data.data_dir
    )
    name = export.stage
    source = load(split)
    read = inputs.reader(
      config, name, export.tokenizer, load("train"), epath.Path(directory)
    )
    cases = read(source)
    batches = loader.eval_batches(
      cases,
      batch_size=config[name].batch_size,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    classify = make_classify(export.model)
    present, states = inference.collect(
      lambda rows: (classify(export.variables, rows), rows["states"]), batches, mesh
    )
  patients = [
    loader.parse(source, cases.first_film(i))["patient_id"] for i in range(len(cases))
  ]
  names = inputs.eir.read_topics(epath.Path(directory)).names
  scores = score(present, is_present(states), patients, names)
  if jax.process_index() == 0:
    out.mkdir(parents=True, exist_ok=True)
    predictions.write_private(out / "metrics.json", json.dumps(scores, indent=2) + "\n")
  return table(scores)


def make_classify(model: nn.Module):
  """The jitted `(variables, batch) -> (b n)`: how likely each topic is present."""

  def classify(variables, batch):
    probs = jnp.exp(model.apply(variables, batch))
    return jnp.sum(probs[..., 1:3], axis=-1)  # Present, and of four states, uncertain.

  return jax.jit(classify)


def is_present(states: np.ndarray) -> np.ndarray:
  """Whether a topic is present or uncertain, of two states or four."""
  return (states == 1) | (states == 2)


def score(
  present: np.ndarray,
  truth: np.ndarray,
  patients: Sequence[str],
  names: Sequence[str],
) -> dict[str, Any]:
  """AUC of each topic and their means, of probabilities and truth (n topics).

  Intervals are bootstraps over patients. A topic that all studies have, or none, is
  left out, and so is the mean of phrases where there are none.
  """
  of_topic = {
    name: {"auc": float(auc.auc(p, t)), "present": int(t.sum())}
    for name, p, t in zip(names, present.T, truth.T, strict=True)
  }
  is_label = np.array([name in LABELS for name in names])
  macro = {
    kind: _macro(present[:, rows], truth[:, rows], patients)
    for kind, rows in (("labels", is_label), ("phrases", ~is_label))
    if rows.any()
  }
  return {
    "studies": len(truth),
    "patients": len(set(patients)),
    "macro_auc": macro,
    "topics": {k: row for k, row in of_topic.items() if not np.isnan(row["auc"])},
  }


def _macro(
  present: np.ndarray, truth: np.ndarray, patients: Sequence[str]
) -> dict[str, float]:
  resampled = auc.resampled_macro(present, truth, patients)
  return intervals.interval(float(auc.macro(present, truth)), resampled)._asdict()


def table(scores: Mapping[str, Any]) -> str:
  """The table of what `metrics.json` holds: labels one by one, phrases as one."""
  lines = [f"{'label':<28}{'present':>8}{'AUC':>7}"]
  for name, row in scores["topics"].items():
    if name in LABELS:
      lines.append(f"{name:<28}{row['present']:>8}{row['auc']:>7.3f}")
  for kind, macro in scores["macro_auc"].items():
    lines.append(f"{f'macro-AUC of {kind} [95 %]':<36}{number(macro, interval=True)}")
  lines.append(f"{scores['studies']} studies of {scores['patients']} patients")
  return "\n".join(lines)
