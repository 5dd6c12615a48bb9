"""Linear probes: what of the findings can be read off frozen image encoders.

An encoder is an arm's first stage. A probe is fitted to films of the training split,
its penalty chosen on validation, and judged on test beside encoders that have learnt
nothing; whose film is nearest says what an encoder goes by instead.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from etils import epath

from data_pipelines.records import LABELS
from jaxrg import probes
from jaxrg.experiments import arms, features
from jaxrg.experiments.arms import Arm
from jaxrg.experiments.features import Films
from jaxrg.experiments.outcome import Outcome, facts
from jaxrg.experiments.picture import Panel, Point
from jaxrg.metrics import auc, intervals, nearest
from jaxrg.metrics.rendering import Table, number, words

FILMS = 4000  # Of the training split: thousands more move no probe of some hundreds.
LEAST = 20  # Films that have a finding, and that have it not, for it to be judged.
# Of the nearest films: is it told by the patient, or by the disease?
SHARES = (nearest.SAME_PATIENT, nearest.SAME_FINDINGS_ELSEWHERE)

Base = Callable[[ml_collections.ConfigDict], ml_collections.ConfigDict]


@dataclasses.dataclass(frozen=True)
class Encoder:
  """The image encoder of an arm's first stage."""

  arm: Arm
  base: Base = lambda base: base  # What the arm changes, made of the experiment's.


@dataclasses.dataclass(frozen=True)
class Judged:
  """What an encoder of one seed came to, by its probe and by nearest films."""

  scores: np.ndarray  # (n l): logits of the test films.
  strength: float  # Of the probe's penalty.
  width: int  # Features that it read.
  shares: Mapping[str, Mapping[str, float]]  # Of `nearest.score`.


@dataclasses.dataclass(frozen=True)
class Probing:
  """A question, the encoders (by name) that answer it, and which know nothing yet."""

  name: str
  question: str
  encoders: Mapping[str, Encoder]
  references: Sequence[str]  # Encoders that the others are compared with.

  def run(
    self, base: ml_collections.ConfigDict, seeds: int, root: epath.Path
  ) -> Outcome:
    """Trains what is not there yet, probes all of it, and judges it on test."""
    data = base.data
    load = lambda split, most=None: features.load(data.name, split, data.data_dir, most)
    splits = load("train", FILMS), load("validation"), load("test")
    labels = judged_labels(splits[-1], data.name)
    bases = {name: of.base(base) for name, of in self.encoders.items()}
    judged = {name: [] for name in self.encoders}
    for seed in range(seeds):
      for name, encoder in self.encoders.items():
        export = arms.pretrain(encoder.arm, bases[name], seed, root)
        judged[name].append(judge(export, splits, labels))
    summary = facts(self, base) | summarise(judged, splits, labels, self.references)
    return Outcome(summary, tables(summary), panels(summary))


def judged_labels(test: Films, name: str) -> list[int]:
  """The rows of LABELS that films enough have, and enough have not.

  LEAST, or of small splits a tenth. Raises ValueError where there are none.
  """
  count = test.present.sum(axis=0)
  least = _least(test)
  enough = (count >= least) & (len(test) - count >= least)
  if not enough.any():
    raise ValueError(
      f"A probe needs a label that at least {least} of the {len(test)} test films of "
      f"{name} have and as many have not; there is none."
    )
  return np.flatnonzero(enough).tolist()


def _least(test: Films) -> int:
  return max(1, min(LEAST, len(test) // 10))


def judge(export: epath.Path, splits: Sequence[Films], labels: Sequence[int]) -> Judged:
  """The encoder of an export, probed; `splits` are train, validation and test."""
  print(f"{export.parts[-3]}: features, probe", flush=True)
  train, validation, test = ((features.of(export, f), f.present) for f in splits)
  chosen = [(x, present[:, labels]) for x, present in (train, validation)]
  probe = probes.choose(*chosen)
  x, present = test
  shares = nearest.score(
    probe.standardise(x), splits[-1].patients, splits[-1].studies, present
  )
  kept = {name: shares[name] for name in SHARES}
  return Judged(probe(x), probe.strength, x.shape[1], kept)


def summarise(
  judged: Mapping[str, Sequence[Judged]],
  splits: Sequence[Films],
  labels: Sequence[int],
  references: Sequence[str],
  *,
  resamples: int = 1000,
) -> dict:
  """The scores of each encoder (by name, by seed), and their distance to references.

  references, protocol, then trials: name -> n (films), seeds, width, strengths,
  macro_auc {value, low, high, by_seed}, differences {reference -> {value, low, high,
  p}}, label_auc {label -> value}, nearest {share -> {value, low, high, chance}}.
  """
  test = splits[-1]
  truth = test.present[:, labels]
  resample = lambda seed: auc.resampled_macro(
    seed.scores, truth, test.patients, resamples=resamples
  )
  resampled = {
    name: np.mean([resample(seed) for seed in seeds], axis=0)
    for name, seeds in judged.items()
  }
  by_seed = {
    name: [float(auc.macro(seed.scores, truth)) for seed in seeds]
    for name, seeds in judged.items()
  }
  value = {name: float(np.mean(values)) for name, values in by_seed.items()}
  trials = {}
  for name, seeds in judged.items():
    score = intervals.interval(value[name], resampled[name])._asdict()
    trials[name] = {
      "n": len(test),
      "seeds": len(seeds),
      "width": seeds[0].width,
      "strengths": [seed.strength for seed in seeds],
      "macro_auc": score | {"by_seed": by_seed[name]},
      "differences": {
        reference: intervals.difference(
          value[name] - value[reference], resampled[name] - resampled[reference]
        )._asdict()
        for reference in references
        if reference != name
      },
      "label_auc": _label_auc(seeds, truth, labels),
      "nearest": {share: _mean_share(seeds, share) for share in SHARES},
    }
  return {
    "references": [*references],
    "protocol": protocol(splits, labels),
    "trials": trials,
  }


def _mean_share(seeds: Sequence[Judged], share: str) -> dict[str, float]:
  mean = lambda key: float(np.mean([seed.shares[share][key] for seed in seeds]))
  return {key: mean(key) for key in ("value", "low", "high", "chance")}


def _label_auc(
  seeds: Sequence[Judged], truth: np.ndarray, labels: Sequence[int]
) -> dict[str, float]:
  return {
    LABELS[label]: float(np.mean([auc.auc(s.scores[:, k], truth[:, k]) for s in seeds]))
    for k, label in enumerate(labels)
  }


def protocol(splits: Sequence[Films], labels: Sequence[int]) -> dict[str, Any]:
  """What was fitted to, chosen on and judged by what."""
  train, validation, test = splits
  return {
    "name": "logistic regression on standardised frozen pooled features",
    "n_train": len(train),
    "n_validation": len(validation),
    "n_test": len(test),
    "n_patients": len(np.unique(test.patients)),
    "least": _least(test),
    "labels": {LABELS[k]: int(test.present[:, k].sum()) for k in labels},
  }


def tables(summary: Mapping[str, Any]) -> list[Table]:
  """Macro-AUC and nearest films of each encoder; then the AUC of each label."""
  trials, about = summary["trials"], summary["protocol"]
  references = summary["references"]
  columns = [
    "films",
    "seeds",
    "features",
    "macro-AUC [95 %]",
    *(f"above {name} [95 %]" for name in references),
    *(f"nearest: {words(share)} (by chance)" for share in SHARES),
  ]
  rows = [
    [
      name,
      *(str(trial[key]) for key in ("n", "seeds", "width")),
      number(trial["macro_auc"], interval=True),
      *(_difference(trial["differences"].get(other)) for other in references),
      *(_share(trial["nearest"], share) for share in SHARES),
    ]
    for name, trial in trials.items()
  ]
  note = (
    f"{about['name']}: fitted to {about['n_train']} training films, its penalty chosen "
    f"on {about['n_validation']} of validation, judged on {about['n_test']} test films "
    f"of {about['n_patients']} patients, by the {len(about['labels'])} labels that at "
    f"least {about['least']} of them have and as many have not (present, against all "
    "else); intervals by bootstrap over patients, seeds averaged. nearest: share of "
    "test films whose nearest of another study, by cosine of the standardised "
    "features, is of the same patient; and whose nearest of another patient has the "
    "same findings."
  )
  labels = [
    [f"{label} ({count})", *(number(t["label_auc"][label]) for t in trials.values())]
    for label, count in about["labels"].items()
  ]
  return [
    Table(summary["question"], note, columns, rows),
    Table("AUC of each label", "In brackets, films that have it.", [*trials], labels),
  ]


def _difference(difference: Mapping[str, float] | None) -> str:
  if difference is None:
    return "-"
  value, low, high = (difference[key] for key in ("value", "low", "high"))
  return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _share(shares: Mapping[str, float], name: str) -> str:
  return f"{number(shares[name])} ({number(shares[name]['chance'])})"


def panels(summary: Mapping[str, Any]) -> list[Panel]:
  """Macro-AUC beside that of the first reference, and nearest films beside chance."""
  trials, reference = summary["trials"], summary["references"][0]
  of_reference = trials[reference]["macro_auc"]["value"]
  scores = [
    Point(name, *(trial["macro_auc"][key] for key in ("value", "low", "high")),
          beside=of_reference)
    for name, trial in trials.items()
  ]  # fmt: skip
  return [Panel("macro-AUC", scores, reference)] + [
    Panel(
      f"nearest: {words(share)}",
      [_share_point(name, trial["nearest"], share) for name, trial in trials.items()],
      "by chance",
    )
    for share in SHARES
  ]


def _share_point(name: str, shares: Mapping[str, Any], share: str) -> Point:
  found = shares[share]
  return Point(name, *(found[key] for key in ("value", "low", "high")), found["chance"])
