"""Two systems on the same reports: which is better, and whether that can be told."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines import findings
from jaxrg.metrics import clinical, intervals, nlg, predictions
from jaxrg.metrics.clinical import Reader, Record
from jaxrg.metrics.protocols import PROTOCOLS, Protocol
from jaxrg.metrics.rendering import Table

FEWEST = 10  # Patients of whom a resample tells anything.


class _Sums(NamedTuple):
  """Statistics of reports (n, ...), and the measure of their sum."""

  of_reports: np.ndarray
  measure: intervals.Measure


def compare(
  first: Sequence[Record],
  second: Sequence[Record],
  *,
  protocol: str = "priorrg",
  resamples: int = 1000,
  seed: int = 0,
  reader: Reader = findings,
) -> dict:
  """Each measure of both, and the first minus the second on the same reports.

  protocol, n, left_out (ids of one side alone), then measures: name -> first, second,
  difference {value, low, high, p}, of fewer than FEWEST patients its value alone.
  References and truth are the first one's. Raises ValueError where the two have no id
  in common, or another reference for one.
  """
  others = {row["id"]: row for row in second}
  mine = [row for row in first if row["id"] in others]
  if not mine:
    raise ValueError("The two files have no id in common.")
  theirs = [others[row["id"]] for row in mine]
  for row, other in zip(mine, theirs):
    if row["reference"] != other["reference"]:
      raise ValueError(f"The two files have other references for id {row['id']!r}.")
  theirs = [a | {"prediction": b["prediction"]} for a, b in zip(mine, theirs)]
  options = {"resamples": resamples, "seed": seed}
  options["clusters"] = predictions.patients(mine)
  enough = len(set(options["clusters"])) >= FEWEST
  measures = {}
  pairs = [_measures(rows, PROTOCOLS[protocol], reader) for rows in (mine, theirs)]
  for name, one in pairs[0].items():
    other = pairs[1][name]
    gap = intervals.paired(one.of_reports, other.of_reports, one.measure, **options)
    value = lambda sums: float(sums.measure(sums.of_reports.sum(0)))
    told = gap._asdict() | ({} if enough else dict.fromkeys(("low", "high", "p")))
    measures[name] = {"first": value(one), "second": value(other), "difference": told}
  left_out = len(first) + len(second) - 2 * len(mine)
  return {
    "protocol": protocol,
    "n": len(mine),
    "left_out": left_out,
    "measures": measures,
  }


def _measures(
  rows: Sequence[Record], protocol: Protocol, reader: Reader
) -> dict[str, _Sums]:
  outputs = protocol.apply([row["prediction"] for row in rows])
  references = protocol.apply_to_references([row["reference"] for row in rows])
  corpus = nlg.count(outputs, references)
  bleu = nlg.bleu_statistics(corpus)
  found = {f"bleu_{n}": _Sums(bleu, nlg.bleu_of_order(n)) for n in (1, 4)}
  means = {"rouge_l": nlg.rouge_l(outputs, references), "cider": nlg.cider(corpus)}
  for name, each in means.items():
    found[name] = _Sums(np.stack([each, np.ones_like(each)], axis=1), intervals.mean)
  truth, _ = clinical.true_labels(rows, reader)
  claimed = clinical.read_labels([row["prediction"] for row in rows], reader)
  labels = clinical.label_statistics(claimed, truth)
  found["labels_micro_f1"] = _Sums(labels, clinical.micro_f1)
  found["labels_macro_f1"] = _Sums(labels, clinical.macro_f1)
  has_prior = predictions.with_prior(rows)
  if has_prior.any():
    truth, _ = clinical.true_changes(rows, reader)
    claimed = clinical.read_changes([row["prediction"] for row in rows], reader)
    changes = clinical.change_statistics(claimed, truth) * has_prior[:, None]
    found["change_f1"] = _Sums(changes, clinical.f1)
  return found


def _difference(gap: Mapping) -> str:
  if gap["p"] is None:
    return f"{gap['value']:+.3f}"
  return f"{gap['value']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"


def table(compared: Mapping, first: str, second: str) -> Table:
  """The table of what `compare` gives; the systems by name."""
  note = (
    f"{compared['n']} reports of both, {compared['left_out']} of one alone left out; "
    f"language by protocol {compared['protocol']}; p of no difference, by a paired "
    "bootstrap over patients."
  )
  rows = []
  for name, row in compared["measures"].items():
    gap = row["difference"]
    rows.append(
      (
        name,
        f"{row['first']:.3f}",
        f"{row['second']:.3f}",
        _difference(gap),
        "-" if gap["p"] is None else f"{gap['p']:.3f}",
      )
    )
  return Table(
    "Paired comparison", note, [first, second, "difference [95 %]", "p"], rows
  )
