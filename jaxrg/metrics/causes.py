"""What an opacity is taken for, which the film does not show and the context tells.

Atelectasis is a finding of its own, too. The two differ in how they are said: what an
opacity is taken for lies where the opacity lies and has no grade or change of its own
("opacity in the left lower lobe, moderate and new, due to atelectasis"), what is seen
has ("atelectasis in the left lower lobe, moderate"). Opacities are compared by their
side: that the report puts one into another lobe is an error of another kind. The
opacities of one side are one question; in the embedded data no side has two.
"""

from collections.abc import Sequence, Set

import numpy as np

from data_pipelines import findings
from data_pipelines.records import Fact
from jaxrg.metrics import clinical, intervals, predictions
from jaxrg.metrics.clinical import Reader, Record

OPACITY = "Lung Opacity"
CAUSES = ("Pneumonia", "Atelectasis")

# Name -> which opacities of the truth are asked about.
QUESTIONS = {
  "told": "those whose cause the context tells",
  "all": "those of which it tells nothing too, where nothing is right",
  "found": "those whose cause the context tells, and that the report names",
}


def interpretations(facts: Sequence[Fact]) -> Set[Fact]:
  """The facts that say what an opacity is taken for, and not what is seen."""
  places = {(fact.side, fact.location) for fact in facts if _is_opacity(fact)}
  return frozenset(
    fact
    for fact in facts
    if fact.label in CAUSES
    and fact.status != "absent"
    and not (fact.severity or fact.change)
    and (fact.side, fact.location) in places
  )


def causes(facts: Sequence[Fact]) -> dict[str, Set[str]]:
  """Side of each opacity -> the labels that it is taken for, mostly one or none."""
  taken = interpretations(facts)
  return {
    side: frozenset(fact.label for fact in taken if fact.side == side)
    for side in (fact.side for fact in facts if _is_opacity(fact))
  }


def statistics(
  predicted: Sequence[Sequence[Fact]],
  truth: Sequence[Sequence[Fact]],
  question: str = "told",
) -> np.ndarray:
  """Right answers, and opacities asked about (QUESTIONS), of every report: n 2.

  An answer is right where the report names an opacity on that side, and takes it for
  the same, for nothing else besides, or rightly for nothing. `accuracy` is its measure.
  """
  counts = np.zeros((len(truth), 2))
  for row, claimed, real in zip(counts, map(causes, predicted), map(causes, truth)):
    for side, cause in real.items():
      if (cause or question == "all") and (side in claimed or question != "found"):
        row += claimed.get(side) == cause, 1
  return counts


def accuracy(sums: np.ndarray) -> np.ndarray:
  """The share of right answers in `statistics` (... 2); 0 where nothing was asked."""
  return clinical.ratio(sums[..., 0], sums[..., 1])


def score(
  rows: Sequence[Record],
  *,
  resamples: int = 1000,
  seed: int = 0,
  reader: Reader = findings,
) -> dict:
  """The accuracy of predictions (rows as in `predictions`) on each of QUESTIONS.

  protocol, then question -> n (opacities), accuracy {value, low, high}, ceiling (of the
  references as the reader reads them; None without ground truth).
  """
  predictions.check(rows)
  patients = predictions.patients(rows)
  options = {"clusters": patients, "resamples": resamples, "seed": seed}
  claimed = clinical.read_facts([row["prediction"] for row in rows], reader)
  written = clinical.read_facts([row["reference"] for row in rows], reader)
  truth, source = clinical.true_facts(rows, reader)
  result = {
    "protocol": {"labeler": clinical.LABELER, "truth": source, "asked": QUESTIONS}
  }
  for question in QUESTIONS:
    counts = statistics(claimed, truth, question)
    best = accuracy(statistics(written, truth, question).sum(0))
    result[question] = {
      "n": int(counts[:, 1].sum()),
      "accuracy": intervals.bootstrap(counts, accuracy, **options)._asdict(),
      "ceiling": float(best) if source == clinical.GROUND_TRUTH else None,
    }
  return result


def _is_opacity(fact: Fact) -> bool:
  return fact.label == OPACITY and fact.status != "absent"
