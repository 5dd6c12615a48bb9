"""Decodes a split from an export, scores it, and writes the page."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from etils import epath

from data_pipelines import datasets, findings, interventions, loader, records
from jaxrg import exports, inference, report, sharding, tokenizers
from jaxrg.metrics import baselines, clinical, predictions, scoring, tables
from jaxrg.metrics.protocols import Truncation
from jaxrg.tokenizers import Tokenizer

TRUE, OTHER, NONE = "true prior", "another patient's prior", "no prior"


def evaluate(
  directory: epath.PathLike,
  split: str,
  out: epath.Path,
  *,
  data_dir: str | None = None,
  num_beams: int | None = None,
  include_text: bool | None = None,
) -> str:
  """Writes predictions.jsonl, report.html and metrics.json to `out`; the score table.

  `metrics.json` comes last: where it is, the evaluation is whole.
  """
  mesh = sharding.make_mesh((-1, 1, 1))
  with jax.set_mesh(mesh), nn.logical_axis_rules(sharding.AXIS_RULES):
    export = exports.read(directory, mesh)
    config = export.config
    sharding.check_rows(config.decode.batch_size, mesh, "decode.batch_size")
    load = lambda split: datasets.load(
      config.data.name, split, data_dir or config.data.data_dir
    )
    source = load(split)
    meta = [_without_image(loader.parse(source, i)) for i in range(len(source))]
    generate = inference.make_generate(
      export.model,
      export.tokenizer,
      num_beams=num_beams or config.decode.num_beams,
      max_length=config.text.report_length,
      length_penalty=config.decode.length_penalty,
    )
    encode = inference.make_encode(export.tokenizer, **config.text)
    without = interventions.without(config.data.without)

    def decode(*edits: loader.Edit) -> list[dict]:
      studies = loader.Studies(
        source,
        encode,
        image_size=config.data.image_size,
        views=config.data.views,
        edit=interventions.in_turn(*edits, without),
      )
      batches = loader.eval_batches(
        studies,
        batch_size=config.decode.batch_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
      )
      reports = inference.write_reports(
        generate, export.variables, batches, export.tokenizer, mesh
      )
      return [_row(record, reports[i]) for i, record in enumerate(meta)]

    rows = decode()
    runs = {TRUE: rows}
    if any(row["has_prior"] for row in rows) and "prior" not in config.data.without:
      other = interventions.other_patients_prior(meta)
      none = interventions.without(("prior",))
      runs |= {OTHER: decode(other.edit), NONE: decode(none)}
  if jax.process_index() != 0:
    return ""
  out.mkdir(parents=True, exist_ok=True)
  predictions.write(out / "predictions.jsonl", rows)
  truncation = _truncation(config, export.tokenizer)
  scores = _score(
    rows, runs, source, load("train"), out, config, include_text, truncation
  )
  views = [record["view"] for record in meta]
  if unknown := [view for view in views if view and view not in config.data.views]:
    print(records.unknown_views(unknown))
  return scores


def _score(rows, runs, source, train, out, config, include_text, truncation) -> str:
  """Scores the rows beside the baselines; writes the page and metrics.json."""
  seen = list(loader.parse_all(train, skip_damaged=config.data.skip_damaged))
  library = baselines.thumbnails(record["image"] for record in seen)
  queries = baselines.thumbnails(
    loader.parse(source, i)["image"] for i in range(len(source))
  )
  nearest = [seen[i]["findings"] for i in baselines.nearest(queries, library)]
  common = baselines.most_common_report([record["findings"] for record in seen])
  answers = {"most common": [common] * len(rows), "nearest image": nearest}
  metrics = scoring.score(rows, truncation=truncation)
  beside = {
    name: scoring.score(baselines.with_reports(rows, texts), truncation=truncation)
    for name, texts in answers.items()
  }
  priors = None
  if len(runs) > 1:
    with_prior = [_row(record, "") for record in seen if record["prior"] >= 0]
    changes, _ = clinical.true_changes(with_prior, findings)
    priors = scoring.prior_effect(runs, baselines.constant_changes(changes))
  # Composed data is nobody's; of credentialed data the page shows no text or image.
  if include_text is None:
    include_text = config.data.name.startswith("thorax")
  gone = config.data.without
  report.write(
    out / "report.html",
    rows,
    metrics,
    include_text=include_text,
    records=_for_page(source) if include_text else None,
    baselines=beside,
    priors=priors,
    title=f"{config.paper} on {config.data.name}",
    notes=[f"The model never sees: {', '.join(gone)}."] if gone else (),
  )
  scores = {"metrics": metrics, "baselines": beside, "priors": priors}
  predictions.write_private(out / "metrics.json", json.dumps(scores, indent=2) + "\n")
  return table(scores)


def table(scores: Mapping[str, Any]) -> str:
  """The score table of what `metrics.json` holds."""
  return tables.text(scores["metrics"], scores["baselines"], scores["priors"])


def _truncation(config: Any, tokenizer: Tokenizer) -> Truncation | None:
  """References no longer than a report may be, as the published code scores them."""
  if not config.decode.cut_references:
    return None
  length = config.text.report_length

  def cut(findings: str) -> str:
    ids, _ = tokenizer.encode(tokenizers.reference(findings), length)
    return tokenizer.decode(ids)

  return Truncation(cut, f"cut to {length} tokens")


def _row(record: Mapping[str, Any], prediction: str) -> dict:
  """A line of predictions.jsonl."""
  truth = record["truth"]
  known = (record["labels"] != records.UNMENTIONED).any()
  return {
    "id": record["id"],
    "patient_id": record["patient_id"],
    "study_id": record["study_id"],
    "view": record["view"],
    "has_prior": bool(record["prior"] >= 0),
    "reference": record["findings"],
    "prediction": prediction,
    "prior_report": record["prior_report"],
    "labels": record["labels"].tolist() if known else None,
    "truth": json.loads(truth) if truth else None,
  }


def _without_image(record: loader.Record) -> loader.Record:
  return {name: value for name, value in record.items() if name != "image"}


def _for_page(source: Sequence[Any]) -> dict[str, dict]:
  """What the page shows of each study, by id."""
  shown = {}
  for i in range(len(source)):
    record = loader.parse(source, i)
    shown[record["id"]] = {
      name: record[name]
      for name in ("image", "view", "study_time", "indication", "history")
    }
    if record["prior"] >= 0:
      prior = loader.parse(source, int(record["prior"]))
      shown[record["id"]] |= {
        "prior_image": prior["image"],
        "prior_view": prior["view"],
        "prior_time": prior["study_time"],
      }
  return shown
