"""What a report gets wrong of what it finds: grade, side, lobe and change.

A finding is a label on a side, of devices also the kind; what an opacity is taken for
is none (see `causes`). Where several facts are of one finding, its gravest grade and
first change hold, and all its lobes. A finding that is doubted counts as named.

Outcomes come in groups. Those of a group exclude one another and add up to what the
group is about, which differs between groups: see GROUPS. They are counted for every
report first, so that any subset or resample is a sum.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines import findings
from data_pipelines.findings import CHANGED
from data_pipelines.records import SEVERITIES, Fact
from jaxrg.metrics import clinical, intervals, predictions
from jaxrg.metrics.causes import interpretations
from jaxrg.metrics.clinical import Reader, Record

DISTANCES = ("same", "one_off", "two_off")  # Of grades.
# Group -> what it is about, and its outcomes.
GROUPS = {
  "severity": (
    "findings that both name, graded in the truth: grades between the two",
    (*DISTANCES, "not_said"),
  ),
  "side": (
    "findings of a side, whose label the report names on it, or where it is not",
    ("right", "wrong", "not_said"),
  ),
  "lobe": (
    "lobes of the findings that both name",
    ("right", "wrong", "not_said"),
  ),
  "change": (
    "findings new, larger, smaller or resolved, in studies with a prior; missed: not "
    "named, or not called changed",
    ("right", "wrong_kind", "missed"),
  ),
  "unchanged": (
    "findings unchanged, in studies with a prior, whether named or not",
    ("right", "called_changed", "not_said"),
  ),
  "claim": (
    "what the report calls changed, in studies with a prior; unfounded is what did "
    "not change or is not there, on that side",
    ("right", "wrong_kind", "unfounded"),
  ),
  "no_prior": (
    "studies without a prior; compared: any change, or that there is none, is claimed",
    ("compared", "not_compared"),
  ),
}

Finding = tuple[str, str, str]  # Label, kind of device or "", side.


class Stated(NamedTuple):
  """What facts say of one finding."""

  there: bool
  grade: int  # From 1; 0 where none is said.
  lobes: frozenset[str]
  change: str


def stated(facts: Sequence[Fact]) -> dict[Finding, Stated]:
  """The findings that are there or changed; what is merely denied is left out."""
  groups, taken = defaultdict(list), interpretations(facts)
  for fact in facts:
    if fact not in taken:
      device = fact.location if fact.label == "Support Devices" else ""
      groups[fact.label, device, fact.side].append(fact)
  merged = {
    finding: Stated(
      there=any(fact.status != "absent" for fact in same),
      grade=max(SEVERITIES.index(fact.severity) for fact in same),
      lobes=frozenset(f.location for f in same if f.location) - {finding[1]},
      change=next((fact.change for fact in same if fact.change), ""),
    )
    for finding, same in groups.items()
  }
  return {key: said for key, said in merged.items() if said.there or said.change}


def count(
  predicted: Sequence[Sequence[Fact]],
  truth: Sequence[Sequence[Fact]],
  has_prior: Sequence[bool],
) -> dict[str, np.ndarray]:
  """Group -> how often each report has each of its outcomes: n outcomes."""
  rows = [
    Counter(_outcomes(stated(claimed), stated(real), bool(prior)))
    for claimed, real, prior in zip(predicted, truth, has_prior, strict=True)
  ]
  return {
    group: np.array([[row[group, name] for name in names] for row in rows], np.float64)
    for group, (_, names) in GROUPS.items()
  }


def share(outcome: int) -> intervals.Measure:
  """The measure of one outcome's share in a group's counts (... outcomes).

  Of nothing there is no share: nan, which a resample may be.
  """

  def measure(sums: np.ndarray) -> np.ndarray:
    whole = sums.sum(-1)
    nothing = np.full_like(whole, np.nan, np.float64)
    return np.divide(sums[..., outcome], whole, out=nothing, where=whole > 0)

  return measure


def score(
  rows: Sequence[Record],
  *,
  resamples: int = 1000,
  seed: int = 0,
  reader: Reader = findings,
) -> dict:
  """The errors of predictions (rows as in `predictions`).

  protocol, then group -> about, n, and outcome -> count, value (its share of n), low,
  high; None for a group of nothing.
  """
  predictions.check(rows)
  has_prior = predictions.with_prior(rows)
  claimed = clinical.read_facts([row["prediction"] for row in rows], reader)
  truth, source = clinical.true_facts(rows, reader)
  patients = predictions.patients(rows)
  options = {"clusters": patients, "resamples": resamples, "seed": seed}
  result = {
    "protocol": {
      "labeler": clinical.LABELER,
      "truth": source,
      "n": len(rows),
      "n_with_prior": predictions.count_with_prior(rows),
    }
  }
  for group, counts in count(claimed, truth, has_prior).items():
    about, names = GROUPS[group]
    total = counts.sum(0)
    result[group] = None
    if total.any():
      result[group] = {"about": about, "n": int(total.sum())} | {
        name: {"count": int(total[i])}
        | intervals.bootstrap(counts, share(i), **options)._asdict()
        for i, name in enumerate(names)
      }
  return result


Outcomes = Iterator[tuple[str, str]]  # Group and outcome.
_Findings = Mapping[Finding, Stated]


def _outcomes(claimed: _Findings, real: _Findings, has_prior: bool) -> Outcomes:
  for finding, truth in real.items():
    said = claimed.get(finding)
    if truth.there and said and said.there:
      yield from _of_both(said, truth)
  yield from _sides(claimed, real)
  if has_prior:
    yield from _changes(claimed, real)
  else:
    compared = any(said.change for said in claimed.values())
    yield "no_prior", "compared" if compared else "not_compared"


def _of_both(said: Stated, truth: Stated) -> Outcomes:
  if truth.grade:
    off = abs(said.grade - truth.grade)
    yield "severity", DISTANCES[off] if said.grade else "not_said"
  for lobe in truth.lobes:
    elsewhere = "wrong" if said.lobes else "not_said"
    yield "lobe", "right" if lobe in said.lobes else elsewhere


def _sides(claimed: _Findings, real: _Findings) -> Outcomes:
  """A side is wrong where the report has one too many and one too few of a label."""
  for name in dict.fromkeys(finding[:2] for finding in real):
    true, said = (
      {side for *of, side in found if tuple(of) == name and found[*of, side].there}
      for found in (real, claimed)
    )
    true -= {""}
    missing = len(true - said)
    wrong = min(missing, len(said - true - {""}))
    yield from [("side", "right")] * len(true & said) + [("side", "wrong")] * wrong
    if "" in said:
      yield from [("side", "not_said")] * (missing - wrong)


def _changes(claimed: _Findings, real: _Findings) -> Outcomes:
  for finding in dict.fromkeys((*real, *claimed)):
    true, said = (
      found[finding].change if finding in found else "" for found in (real, claimed)
    )
    if true in CHANGED:
      kind = "wrong_kind" if said in CHANGED else "missed"
      yield "change", "right" if said == true else kind
    if true == "unchanged":
      kind = "called_changed" if said in CHANGED else "not_said"
      yield "unchanged", "right" if said == true else kind
    if said in CHANGED:
      kind = "wrong_kind" if true in CHANGED else "unfounded"
      yield "claim", "right" if said == true else kind
