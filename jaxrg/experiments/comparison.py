"""Trials of reports: arms that write a split under conditions, compared with the first.

A trial that concerns a part of the studies is scored on these, and compared with what
the reference says of the same ones.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from etils import epath

from data_pipelines import datasets
from data_pipelines.interventions import Intervention
from data_pipelines.records import is_composed
from jaxrg.experiments import arms, page
from jaxrg.experiments.arms import Arm
from jaxrg.experiments.outcome import Outcome, facts
from jaxrg.experiments.picture import Panel, Point
from jaxrg.experiments.scores import PROTOCOL, TITLES, WORDS, Rows, scores
from jaxrg.metrics import intervals, predictions
from jaxrg.metrics.rendering import Table, number
from jaxrg.writer import Meta, Writer

SPLIT = "test"

# From (records without images, source) of the split to what is done to its inputs.
MakeIntervention = Callable[[Sequence[Mapping[str, Any]], Any], Intervention]


@dataclasses.dataclass(frozen=True)
class Condition:
  """What is done to the inputs of a split before its reports are written."""

  name: str
  make: MakeIntervention


def of_meta(name: str, make: Callable[..., Intervention], *args: Any) -> Condition:
  """A condition that `make(meta, *args)` makes of the records alone."""
  return Condition(name, lambda meta, source: make(meta, *args))


@dataclasses.dataclass(frozen=True)
class Trial:
  """An arm, and the condition under which it writes; None: with all as it is."""

  name: str
  arm: Arm
  condition: Condition | None = None


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A question, and the trials that answer it; the first is the reference."""

  name: str
  question: str
  trials: Sequence[Trial]
  side_by_side: int = 0  # Studies whose reports a page shows beside one another.

  def run(
    self, base: ml_collections.ConfigDict, seeds: int, root: epath.Path
  ) -> Outcome:
    """Trains and writes what is not there yet, and scores all of it."""
    source = datasets.load(base.data.name, SPLIT, base.data.data_dir)
    meta = Meta(source)
    written = {}
    for trial in self.trials:
      change = trial.condition and trial.condition.make(meta, source)
      applies = change.applies if change else np.ones(len(meta), bool)
      written[trial.name] = Written([], applies, change)
    for seed in range(seeds):
      for trial in self.trials:
        folder = arms.train(trial.arm, base, seed, root)
        change = written[trial.name].change
        rows = _rows(folder, trial.condition, change, base.data.data_dir)
        written[trial.name].seeds.append(rows)
    written = {name: _of_rows(trial, meta) for name, trial in written.items()}
    summary = facts(self, base) | summarise(written, WORDS[base.paper])
    shown = ""
    # Composed data is nobody's; of credentialed data no page shows text or images.
    if self.side_by_side and is_composed(base.data.name):
      reports = {name: trial.seeds[0] for name, trial in written.items()}
      shown = page.render(self.question, source, reports, self.side_by_side)
    return Outcome(summary, [table(summary)], panels(summary), shown)


@dataclasses.dataclass(frozen=True)
class Written:
  """The reports of a trial, by seed, and which of the studies it concerns."""

  seeds: list[Rows]
  applies: np.ndarray  # (n,) bool
  change: Intervention | None = None


def _of_rows(written: Written, meta: Sequence[Mapping[str, Any]]) -> Written:
  """A change applies to films; a report is of one, or of a study by its first."""
  place = {record["id"]: i for i, record in enumerate(meta)}
  places = [place[row["id"]] for row in written.seeds[0]]
  return dataclasses.replace(written, applies=written.applies[places])


def _rows(
  folder: epath.Path,
  condition: Condition | None,
  change: Intervention | None,
  data_dir: str | None,
) -> Rows:
  """What the run of `folder` writes; written once."""
  if condition is None:
    return predictions.read(folder / "eval" / "predictions.jsonl")
  path = folder / "conditions" / f"{condition.name}.jsonl"
  if not path.exists():
    print(f"{folder.name}: {condition.name}", flush=True)
    path.parent.mkdir(exist_ok=True)
    changes = {} if change.graph is None else {"graph": change.graph}
    written = _writer(folder, data_dir).write(change.edit, **changes)
    predictions.write(path, written)
  return predictions.read(path)


@functools.lru_cache(maxsize=1)  # Conditions of one run come one after the other.
def _writer(folder: epath.Path, data_dir: str | None) -> Writer:
  return Writer(folder / "export", SPLIT, data_dir=data_dir)


def summarise(
  written: Mapping[str, Written], words: str, *, resamples: int = 1000
) -> dict:
  """The scores of each trial (by name), and their distance to the first one's.

  reference, protocol, then trials: name -> n (studies), seeds, and score -> value, low,
  high, by_seed and, but for the reference, difference {value, low, high, p}. A trial
  that concerns no study has no scores. BLEU-4 is by the protocol `words`.
  """
  reference = next(iter(written))
  # Scores that are measures of the same sums share them.
  measured = scores(words)
  needed = {score.statistics for score in measured.values()}
  statistics = {
    name: {of: np.stack([of(rows) for rows in trial.seeds]) for of in needed}
    for name, trial in written.items()
  }
  patients = np.array(predictions.patients(written[reference].seeds[0]))
  trials = {}
  for name, trial in written.items():
    chosen = trial.applies
    options = {"clusters": patients[chosen], "resamples": resamples}
    trials[name] = {"n": int(chosen.sum()), "seeds": len(trial.seeds)}
    if not chosen.any():
      continue
    for key, (of, measure) in measured.items():
      own = statistics[name][of][:, chosen]
      told = intervals.bootstrap(own.mean(0), measure, **options)._asdict()
      told["by_seed"] = [float(measure(seed.sum(0))) for seed in own]
      if name != reference:
        other = statistics[reference][of][:, chosen]
        told["difference"] = intervals.paired(
          own.mean(0), other.mean(0), measure, **options
        )._asdict()
      trials[name][key] = told
  protocol = PROTOCOL.format(words=words)
  return {"reference": reference, "protocol": protocol, "trials": trials}


def table(summary: Mapping[str, Any]) -> Table:
  """Each trial's scores, and in brackets how far they are from the reference's."""
  columns = ["studies", "seeds", *TITLES.values()]
  rows = [
    [name, str(trial["n"]), str(trial["seeds"]), *map(_cell, map(trial.get, TITLES))]
    for name, trial in summary["trials"].items()
  ]
  note = (
    f"The value, and its difference to {summary['reference']!r} on the same studies "
    f"with the interval of that; {summary['protocol']}."
  )
  return Table(summary["question"], note, columns, rows)


def _cell(score: Mapping[str, Any] | None) -> str:
  if score is None:
    return "-"
  if (difference := score.get("difference")) is None:
    return number(score, interval=True)
  return (
    f"{score['value']:.3f} {difference['value']:+.3f} "
    f"[{difference['low']:+.3f}, {difference['high']:+.3f}]"
  )


def panels(summary: Mapping[str, Any]) -> list[Panel]:
  """A panel a score; each trial stands beside the reference on the same studies."""
  beside = f"{summary['reference']}, same studies"
  trials = [(name, trial) for name, trial in summary["trials"].items() if trial["n"]]
  return [
    Panel(title, [_point(name, trial[key]) for name, trial in trials], beside)
    for key, title in TITLES.items()
  ]


def _point(name: str, score: Mapping[str, Any]) -> Point:
  of_reference = score["value"] - score.get("difference", {"value": 0.0})["value"]
  return Point(name, score["value"], score["low"], score["high"], of_reference)
