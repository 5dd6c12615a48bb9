"""Everything that is said of a set of predictions, as one nested dict.

`score` gives

    n, n_unique, n_empty, n_patients, n_with_prior, words, reference_words
    health       of the system and of the references, by `health.measure`
    resampling   level, unit, units, resamples, seed
    language     for each of `protocols.PROTOCOLS`: protocol, bleu_1 .. bleu_4,
                 rouge_l, cider; with Java also `coco` and, of some, meteor
    failed       what Java did not score after all: why, by protocol
    labels       protocol, micro and macro (precision, recall, f1), classes (name ->
                 precision, recall, f1, n_true, n_predicted), ceiling
    ce_rules     every average that is called CE F1, by `averages.all_averages`
    changes      protocol, changed and unchanged (precision, recall, f1,
                 n_true, n_predicted), ceiling, confusion (kinds, and counts: a row
                 for what is so, a column for what is said); None where no study has
                 a prior
    subgroups    by prior, gap, view, context and finding, by `subgroups.score`
    errors       what is wrong of findings that are named, by `errors.score`

where `protocol` says how the numbers beside it were made, a number with an interval
is {value, low, high}, and `ceiling` is what the reader reaches on the references
themselves (None without ground truth).
"""

from collections.abc import Collection, Mapping, Sequence, Set

import numpy as np

from data_pipelines import findings
from data_pipelines.records import LABELS
from jaxrg.metrics import (
  averages,
  clinical,
  coco,
  errors,
  health,
  intervals,
  nlg,
  predictions,
  subgroups,
)
from jaxrg.metrics.clinical import Change, Reader, Record
from jaxrg.metrics.protocols import PROTOCOLS, Protocol, Truncation


def score(
  rows: Sequence[Record],
  *,
  truncation: Truncation | None = None,
  with_java: bool = False,
  training: Collection[str] | None = None,
  uncertain: str = "positive",
  resamples: int = 1000,
  seed: int = 0,
  reader: Reader = findings,
) -> dict:
  """All scores of predictions (rows as in `predictions`), by the schema above.

  `truncation` cuts the references of the language scores; the findings and changes
  are read from the references in full. What needs Java (`coco.missing` says whether
  it is here) is scored only `with_java`, for it takes most of a minute. The reports of
  `training`, where they are known, tell what was copied.
  """
  predictions.check(rows)
  outputs = [row["prediction"] for row in rows]
  options = {
    "clusters": predictions.patients(rows),
    "resamples": resamples,
    "seed": seed,
  }
  counts = {"n": len(rows), "n_unique": len(set(outputs))}
  metrics = counts | {
    "n_empty": sum(not text.strip() for text in outputs),
    "n_patients": len(set(options["clusters"])),
    "n_with_prior": predictions.count_with_prior(rows),
    "words": float(np.mean([len(text.split()) for text in outputs])),
    "reference_words": float(np.mean([len(row["reference"].split()) for row in rows])),
    "resampling": {
      "level": intervals.LEVEL,
      "unit": "patient" if any("patient_id" in row for row in rows) else "report",
      "units": len(set(options["clusters"])),
      "resamples": resamples,
      "seed": seed,
    },
  }
  truth = [row["reference"] for row in rows]
  metrics["health"] = {
    "system": health.measure(outputs, reader, references=truth, training=training),
    "references": health.measure(truth, reader, training=training),
  }
  metrics["language"], metrics["failed"] = {}, {}
  for name, protocol in PROTOCOLS.items():
    if protocol.by_java and not with_java:
      continue
    try:
      texts = _texts(rows, protocol, truncation)
      told = _language(*texts, protocol, truncation, counts, options)
      metrics["language"][name] = told
      if with_java and protocol.with_meteor:
        # It is no mean over reports, so that there is no interval of it here.
        told["meteor"] = {"value": coco.meteor(*texts)[0]}
    except coco.JavaError as error:  # The other scores stand.
      metrics["failed"][name] = str(error)
  metrics["labels"] = _labels(rows, reader, uncertain, counts, options)
  claimed, truth = clinical.read_labels(outputs, reader), clinical.true_labels
  metrics["ce_rules"] = averages.all_averages(claimed, truth(rows, reader)[0])
  metrics["changes"] = _changes(rows, reader, options)
  asked = {"resamples": resamples, "seed": seed, "reader": reader}
  metrics["subgroups"] = subgroups.score(rows, **asked)
  metrics["errors"] = errors.score(rows, **asked)
  return metrics


def prior_effect(
  runs: Mapping[str, Sequence[Record]],
  constant: Set[Change] | None = None,
  *,
  resamples: int = 1000,
  seed: int = 0,
  reader: Reader = findings,
) -> dict:
  """Change F1 of several runs over the same studies, and their distance to the first.

  The first run names the studies, which of them have a prior, and the truth; it
  should be the one that saw the true prior. Others may be decoded with another
  patient's prior, or none. `constant` is one set of changes claimed of every study
  (`baselines.constant_changes` of the training set). Name -> n, f1, precision,
  recall, unchanged_f1, difference (to the first; value, low, high, p).
  """
  first = next(iter(runs.values()))
  rows = [row for row, has in zip(first, predictions.with_prior(first)) if has]
  if not rows:
    raise ValueError("What the prior does cannot be told: no study has a prior.")
  claims = {}
  for name, run in runs.items():
    texts = {row["id"]: row["prediction"] for row in run}
    if missing := [row["id"] for row in rows if row["id"] not in texts]:
      raise ValueError(f"{name}: no prediction for id {missing[0]!r}.")
    claims[name] = clinical.read_changes([texts[row["id"]] for row in rows], reader)
  if constant is not None:
    claims["constant answer"] = [constant] * len(rows)

  truth, _ = clinical.true_changes(rows, reader)
  options = {
    "clusters": predictions.patients(rows),
    "resamples": resamples,
    "seed": seed,
  }
  statistics = {
    name: clinical.change_statistics(claim, truth) for name, claim in claims.items()
  }
  reference = next(iter(statistics.values()))
  effect = {}
  for name, outcomes in statistics.items():
    unchanged = clinical.change_statistics(claims[name], truth, clinical.UNCHANGED)
    effect[name] = _measures(outcomes, options) | {
      "n": len(rows),
      "unchanged_f1": float(clinical.f1(unchanged.sum(0))),
    }
    if outcomes is not reference:
      distance = intervals.paired(outcomes, reference, clinical.f1, **options)
      effect[name]["difference"] = distance._asdict()
  return effect


def _texts(
  rows: Sequence[Record], protocol: Protocol, truncation: Truncation | None
) -> tuple[list[str], list[str]]:
  """Outputs and references as the protocol compares them."""
  references = [row["reference"] for row in rows]
  if truncation is not None:
    references = [truncation.cut(text) for text in references]
  outputs = [row["prediction"] for row in rows]
  return protocol.apply(outputs), protocol.apply_to_references(references)


def _language(
  outputs: Sequence[str],
  references: Sequence[str],
  protocol: Protocol,
  truncation: Truncation | None,
  counts: Mapping,
  options: Mapping,
) -> dict:
  corpus = nlg.count(outputs, references)
  bleu = nlg.bleu_statistics(corpus)
  scores = {
    f"bleu_{order}": intervals.bootstrap(bleu, nlg.bleu_of_order(order), **options)
    for order in range(1, nlg.ORDERS + 1)
  }
  reports = {"rouge_l": nlg.rouge_l(outputs, references), "cider": nlg.cider(corpus)}
  for name, values in reports.items():
    statistics = np.stack([values, np.ones_like(values)], axis=1)
    scores[name] = intervals.bootstrap(statistics, intervals.mean, **options)
  description = {
    "name": protocol.name,
    "tokens": protocol.tokens,
    "references": truncation.name if truncation else protocol.references,
    **counts,
  }
  return {"protocol": description} | {k: v._asdict() for k, v in scores.items()}


def _labels(
  rows: Sequence[Record],
  reader: Reader,
  uncertain: str,
  counts: Mapping,
  options: Mapping,
) -> dict:
  truth, source = clinical.true_labels(rows, reader)
  claimed = clinical.read_labels([row["prediction"] for row in rows], reader)
  outcomes = clinical.label_statistics(claimed, truth, uncertain)
  total = outcomes.sum(0)
  support = clinical.support(total)
  ceiling = None
  if source == clinical.GROUND_TRUTH:
    read = clinical.read_labels([row["reference"] for row in rows], reader)
    best = clinical.label_statistics(read, truth, uncertain).sum(0)
    ceiling = {
      "micro_f1": float(clinical.micro_f1(best)),
      "macro_f1": float(clinical.macro_f1(best)),
    }
  return {
    "protocol": {
      "labeler": clinical.LABELER,
      "truth": source,
      "uncertain": f"as {uncertain}",
      "macro": f"over the {int((support > 0).sum())} labels that occur in the truth",
      **counts,
    },
    "micro": {
      "precision": float(clinical.precision(total.sum(0))),
      "recall": float(clinical.recall(total.sum(0))),
      "f1": intervals.bootstrap(outcomes, clinical.micro_f1, **options)._asdict(),
    },
    "macro": {
      "precision": float(clinical.macro(clinical.precision, total)),
      "recall": float(clinical.macro(clinical.recall, total)),
      "f1": intervals.bootstrap(outcomes, clinical.macro_f1, **options)._asdict(),
    },
    "classes": {
      name: {
        "precision": float(clinical.precision(row)),
        "recall": float(clinical.recall(row)),
        "f1": float(clinical.f1(row)),
        "n_true": int(row[0] + row[2]),
        "n_predicted": int(row[0] + row[1]),
      }
      for name, row in zip(LABELS, total)
    },
    "ceiling": ceiling,
  }


def _changes(rows: Sequence[Record], reader: Reader, options: Mapping) -> dict | None:
  rows = [row for row, has in zip(rows, predictions.with_prior(rows)) if has]
  if not rows:
    return None
  options = {**options, "clusters": predictions.patients(rows)}
  truth, source = clinical.true_changes(rows, reader)
  outputs = [row["prediction"] for row in rows]
  claimed = clinical.read_changes(outputs, reader)
  read = clinical.read_changes([row["reference"] for row in rows], reader)
  result = {
    "protocol": {
      "labeler": clinical.LABELER,
      "truth": source,
      "changes": "finding, side, one of " + ", ".join(clinical.CHANGED),
      "n": len(rows),
      "n_unique": len(set(outputs)),
    },
    "ceiling": {} if source == clinical.GROUND_TRUTH else None,
    "confusion": {
      "kinds": [*clinical.KINDS, "not said"],
      "counts": clinical.change_confusion(claimed, truth).tolist(),
    },
  }
  for name, kinds in (("changed", clinical.CHANGED), ("unchanged", clinical.UNCHANGED)):
    outcomes = clinical.change_statistics(claimed, truth, kinds)
    result[name] = _measures(outcomes, options)
    if result["ceiling"] is not None:
      best = clinical.change_statistics(read, truth, kinds).sum(0)
      result["ceiling"][f"{name}_f1"] = float(clinical.f1(best))
  return result


def _measures(outcomes: np.ndarray, options: Mapping) -> dict:
  true, wrong, missed = total = outcomes.sum(0)
  return {
    "precision": float(clinical.precision(total)),
    "recall": float(clinical.recall(total)),
    "f1": intervals.bootstrap(outcomes, clinical.f1, **options)._asdict(),
    "n_true": int(true + missed),
    "n_predicted": int(true + wrong),
  }
