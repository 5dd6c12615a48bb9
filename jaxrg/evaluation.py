"""Decodes a split from an export, scores it, and writes the page."""

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from data_pipelines import datasets, findings, interventions, loader, records
from jaxrg import classification, evidence, inputs, report, writer
from jaxrg.attention import Looks
from jaxrg.metrics import (
  baselines,
  clinical,
  consistency,
  predictions,
  rendering,
  scoring,
  tables,
)
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
  system = writer.Writer(directory, split, data_dir=data_dir, num_beams=num_beams)
  config, meta = system.config, system.meta
  ids = system.decode()
  rows = system.rows(ids)
  runs = {TRUE: rows}
  if any(row["has_prior"] for row in rows) and "prior" not in config.data.without:
    other = interventions.other_patients_prior(meta)
    none = interventions.without(("prior",))
    runs |= {OTHER: system.write(other.edit), NONE: system.write(none)}
  topics = tell = looks = None
  names = ()
  if config.paper == "eir":
    names = inputs.eir.read_topics(epath.Path(directory)).names
    topics = _topics(system, rows, names)
    if config.model.use_graph:
      tell = evidence.of_studies(config, epath.Path(directory))
  # Composed data is nobody's; of credentialed data no text or image is shown.
  if include_text is None:
    include_text = records.is_composed(config.data.name)
  if include_text:
    looks = system.looks(ids, names)
  if jax.process_index() != 0:
    return ""
  out.mkdir(parents=True, exist_ok=True)
  predictions.write(out / "predictions.jsonl", rows)
  train = datasets.load(config.data.name, "train", data_dir or config.data.data_dir)
  seen, library = _read(loader.parse_all(train, skip_damaged=config.data.skip_damaged))
  truncation = _truncation(config, system.export.tokenizer)
  score = functools.partial(
    scoring.score,
    truncation=truncation,
    training=[record["findings"] for record in seen],
  )
  scores = {
    "metrics": score(rows),
    "baselines": {
      name: score(baselines.with_reports(rows, texts))
      for name, texts in _answers(system, seen, library).items()
    },
    "priors": _prior_effect(runs, seen) if len(runs) > 1 else None,
  }
  if topics is not None:
    scores["topics"] = topics
  shown = None
  if looks is not None:
    shown = _for_page(system.source, system.places, looks, tell)
  _write_page(out / "report.html", config, rows, scores, shown)
  predictions.write_private(out / "metrics.json", json.dumps(scores, indent=2) + "\n")
  views = [record["view"] for record in meta]
  if unknown := [view for view in views if view and view not in config.data.views]:
    print(records.unknown_views(unknown))
  return table(scores)


def _topics(
  system: writer.Writer, rows: Sequence[Mapping], names: Sequence[str]
) -> dict[str, Any]:
  """How well the classifier tells what is written from, and whether it is written."""
  present, states = system.classify()
  patients = [row["patient_id"] for row in rows]
  truth = classification.is_present(states)
  decided = present > system.config.model.threshold
  decided = decided[:, [names.index(label) for label in records.LABELS]]
  texts = [row["prediction"] for row in rows]
  return classification.score(present, truth, patients, names) | {
    "consistency": consistency.score(decided, texts, patients)
  }


def _read(training: Iterable[Mapping[str, Any]]) -> tuple[list[dict], np.ndarray]:
  """The training records without images, and thumbnails of these; one image at a time.

  At a paper's size the films do not fit in memory.
  """
  seen = []

  def films() -> Iterator[np.ndarray]:
    for record in training:
      seen.append({name: part for name, part in record.items() if name != "image"})
      yield record["image"]

  library = baselines.thumbnails(films())
  return seen, library


def _answers(
  system: writer.Writer, seen: Sequence[Mapping[str, Any]], library: np.ndarray
) -> dict[str, list[str]]:
  """What the baselines say of each study that is written of, by name.

  `library` are the thumbnails of what was `seen` in training.
  """
  queries = baselines.thumbnails(
    loader.parse(system.source, at)["image"] for at in system.places
  )
  nearest = [seen[i]["findings"] for i in baselines.nearest(queries, library)]
  common = baselines.most_common_report([record["findings"] for record in seen])
  return {"most common": [common] * len(nearest), "nearest image": nearest}


def _prior_effect(
  runs: Mapping[str, Sequence[Mapping]], seen: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  """What changes are found with each prior, beside the best constant answer."""
  with_prior = [writer.row(record, "") for record in seen if record["prior"] >= 0]
  changes, _ = clinical.true_changes(with_prior, findings)
  return scoring.prior_effect(runs, baselines.constant_changes(changes))


def _write_page(
  path: epath.Path,
  config: Any,
  rows: Sequence[Mapping],
  scores: Mapping[str, Any],
  shown: Mapping[str, Mapping] | None,
) -> None:
  """The page; of studies that are not `shown` no text or image."""
  data = config.data
  report.write(
    path,
    rows,
    scores["metrics"],
    include_text=shown is not None,
    records=shown,
    baselines=scores["baselines"],
    priors=scores["priors"],
    title=f"{config.paper} on {data.name}",
    notes=[f"The model never sees: {', '.join(data.without)}."] if data.without else (),
  )


def table(scores: Mapping[str, Any]) -> str:
  """The score table of what `metrics.json` holds."""
  text = tables.text(scores["metrics"], scores["baselines"], scores["priors"])
  if "topics" in scores:
    topics = scores["topics"]
    agreement = rendering.render(consistency.table(topics["consistency"]))
    text += f"\n\n{classification.table(topics)}\n\n{agreement}"
  return text


def _truncation(config: Any, tokenizer: Tokenizer) -> Truncation | None:
  """References no longer than a report may be, as the published code scores them."""
  if not config.decode.cut_references:
    return None
  length = config.text.report_length

  def cut(findings: str) -> str:
    ids, _ = tokenizer.encode(inputs.reference(config, findings), length)
    return tokenizer.decode(ids)

  return Truncation(cut, f"cut to {length} tokens")


def _for_page(
  source: Sequence[Any],
  places: Iterable[int],
  looks: Iterable[Looks],
  tell: Callable[[str], evidence.Evidence] | None,
) -> dict[str, dict]:
  """What the page shows of each study, by id.

  `looks` are of the words of its report; `tell` says what EIR has written from.
  """
  shown = {}
  for at, of_words in zip(places, looks, strict=True):
    record = loader.parse(source, at)
    shown[record["id"]] = {
      name: record[name]
      for name in ("image", "view", "study_time", "indication", "history")
    } | {"looks": of_words}
    if record["prior"] >= 0:
      prior = loader.parse(source, int(record["prior"]))
      shown[record["id"]] |= {
        "prior_image": prior["image"],
        "prior_view": prior["view"],
        "prior_time": prior["study_time"],
      }
    if tell is not None:
      told = tell(record["study_id"])
      shown[record["id"]] |= {"like": told.cases(), "graph": evidence.draw(told.graph)}
  return shown
