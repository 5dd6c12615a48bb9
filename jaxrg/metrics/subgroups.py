"""Scores of parts of the reports: where a system is good, and where it is not."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from data_pipelines import findings
from data_pipelines.records import LABELS, PRESENT, UNCERTAIN
from jaxrg.metrics import clinical, intervals, nlg, predictions
from jaxrg.metrics.clinical import Reader, Record
from jaxrg.metrics.protocols import PROTOCOLS
from jaxrg.metrics.rendering import Table, number

LEAST = 10  # Reports of a group that is scored: of fewer an interval says nothing.
FRONTAL = ("PA", "AP")  # Whose report stands for a study, before those of others.
GAPS = (("within a week", 0, 7), ("within 90 days", 7, 90), ("later", 90, np.inf))


def score(
  rows: Sequence[Record],
  *,
  protocol: str = "priorrg",
  resamples: int = 1000,
  seed: int = 0,
  reader: Reader = findings,
) -> dict:
  """Of each kind of group that the rows tell of: name -> n, bleu_4, ce_rules_micro_f1.

  Kinds are `level` (every image, or one of each study: PA, else AP, else the first),
  `prior` (had or not), `gap` since the prior, `view`, `context` (had or not) and
  `finding`, the reports on studies that have it. Groups of fewer than LEAST reports are
  left out. A number is {value, low, high}.
  """
  truth, _ = clinical.true_labels(rows, reader)
  claimed = clinical.read_labels([row["prediction"] for row in rows], reader)
  labels = clinical.label_statistics(claimed, truth)
  words = PROTOCOLS[protocol]
  texts = (
    words.apply([row["prediction"] for row in rows]),
    words.apply_to_references([row["reference"] for row in rows]),
  )
  measures = {
    "bleu_4": (nlg.bleu_statistics(nlg.count(*texts)), nlg.bleu_of_order(4)),
    "ce_rules_micro_f1": (labels, clinical.micro_f1),
  }
  patients = np.array(predictions.patients(rows))
  told = {"protocol": protocol}
  for kind, groups in _groups(rows, truth):
    for name, chosen in groups.items():
      if chosen.sum() < LEAST:
        continue
      options = {"clusters": patients[chosen], "resamples": resamples, "seed": seed}
      told.setdefault(kind, {})[name] = {"n": int(chosen.sum())} | {
        key: intervals.bootstrap(sums[chosen], measure, **options)._asdict()
        for key, (sums, measure) in measures.items()
      }
  return told


def _groups(
  rows: Sequence[Record], truth: np.ndarray
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
  """Kinds of groups, and which reports (n,) are of each."""
  studies = [row.get("study_id") for row in rows]
  if None not in studies and len(set(studies)) < len(rows):
    images = np.ones(len(rows), bool)
    yield "level", {"image": images, "study": _one_each(studies, rows)}
  for key, kind in (("has_prior", "prior"), ("has_context", "context")):
    if any(key in row for row in rows):
      has = np.array([bool(row.get(key)) for row in rows])
      yield kind, {f"with {kind}": has, f"without {kind}": ~has}
  days = np.array([_days(row) for row in rows])
  yield "gap", {name: (days >= low) & (days < high) for name, low, high in GAPS}
  views = np.array([str(row.get("view") or "") for row in rows])
  yield "view", {view: views == view for view in sorted(set(views) - {""})}
  present = np.isin(truth, (PRESENT, UNCERTAIN))
  yield "finding", dict(zip(LABELS, present.T))


def _one_each(studies: Sequence[str], rows: Sequence[Record]) -> np.ndarray:
  """Which report (n,) stands for its study."""
  rank = {view: i for i, view in enumerate(FRONTAL)}
  best = {}
  for i, study in enumerate(studies):
    place = rank.get(rows[i].get("view"), len(rank)), i
    best[study] = min(best.get(study, place), place)
  chosen = np.zeros(len(rows), bool)
  chosen[[i for _, i in best.values()]] = True
  return chosen


def _days(row: Record) -> float:
  days = row.get("prior_days")
  return np.nan if days is None else float(days)


def table(told: Mapping) -> Table:
  """The table of what `score` gives."""
  rows = [
    (f"{kind}: {name}", str(row["n"]))
    + tuple(number(row[key], interval=True) for key in ("bleu_4", "ce_rules_micro_f1"))
    for kind, groups in told.items()
    if kind != "protocol"
    for name, row in groups.items()
  ]
  note = (
    f"BLEU-4 by protocol {told['protocol']}; groups of fewer than {LEAST} reports are "
    "left out."
  )
  columns = ["reports", "BLEU-4 [95 %]", "ce_rules micro-F1 [95 %]"]
  return Table("By subgroup", note, columns, rows)
