"""The experiments on PriorRG: that they are what could be run."""

import re

import pytest

from configs import priorrg
from data_pipelines import datasets
from jaxrg import checks, writer
from jaxrg.experiments.comparison import Comparison, Trial
from jaxrg.experiments.errors import ErrorAnalysis
from jaxrg.experiments.priorrg import EXPERIMENTS, SHARES
from jaxrg.experiments.retrieval import Retrieval

SAFE = re.compile(r"[a-z0-9]+([-.][a-z0-9]+)*")


def arms_of(experiment):
  match experiment:
    case Comparison(trials=trials):
      return [trial.arm for trial in trials]
    case Retrieval(arms=arms):
      return [*arms.values()]
    case ErrorAnalysis(arm=arm):
      return [arm]


ARMS = {a.name: a for e in EXPERIMENTS.values() for a in arms_of(e)}
TRIALS = [
  trial
  for experiment in EXPERIMENTS.values()
  if isinstance(experiment, Comparison)
  for trial in experiment.trials
]
CONDITIONS = {t.condition.name: t.condition for t in TRIALS if t.condition}


@pytest.mark.parametrize("variant", ["thorax", "tiny"])
@pytest.mark.parametrize("name", ARMS)
def test_every_arm_can_be_trained(name, variant):
  base = priorrg.get_config(variant).lock()
  config = ARMS[name].config(base, 1)
  checks.check(config)
  assert (config.to_json() == ARMS["default"].config(base, 1).to_json()) == (
    name == "default"
  )


def test_a_name_is_one_arm_and_one_condition():
  """What is trained or written under a name is found under it again."""
  for experiment in EXPERIMENTS.values():
    assert all(ARMS[arm.name] == arm for arm in arms_of(experiment))
  for trial in TRIALS:
    assert trial.condition is None or CONDITIONS[trial.condition.name] is (
      trial.condition
    )
  overrides = [tuple(sorted(arm.overrides.items())) for arm in ARMS.values()]
  assert len(set(overrides)) == len(ARMS)


def test_names_are_names_of_folders():
  """A run's folder ends in its seed, so that it is no experiment's."""
  for name in (*ARMS, *CONDITIONS, *EXPERIMENTS):
    assert SAFE.fullmatch(name), name
  assert "all" not in EXPERIMENTS
  first = priorrg.get_config().stages[0]
  for name in EXPERIMENTS:
    assert not re.search(r"-\d+$", name)
    assert not name.startswith(f"{first}-")
  assert first not in ARMS


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_trials_are_told_apart(name):
  experiment = EXPERIMENTS[name]
  assert experiment.name == name
  assert experiment.question.endswith("?")
  if isinstance(experiment, Comparison):
    trials = experiment.trials
    assert len({trial.name for trial in trials}) == len(trials)
    asked = {(t.arm.name, t.condition and t.condition.name) for t in trials}
    assert len(asked) == len(trials)
    # What the others are compared with is the default, all of it.
    assert trials[0] == Trial(trials[0].name, ARMS["default"])


@pytest.fixture(scope="module")
def split():
  source = datasets.load("thorax/tiny", "test")
  return writer.Meta(source), source


@pytest.mark.parametrize("name", CONDITIONS)
def test_every_condition_concerns_some_studies(name, split):
  change = CONDITIONS[name].make(*split)
  assert change.applies.shape == (len(split[0]),)
  assert change.applies.any()
  assert callable(change.edit)


def test_shares_of_dropped_priors_are_compared_on_the_same_studies(split):
  meta, source = split
  before = 0
  for share in (*SHARES, 1):
    change = CONDITIONS[f"priors-dropped-{share:g}"].make(meta, source)
    assert change.applies.tolist() == [record["prior"] >= 0 for record in meta]
    edited = [change.edit(i, dict(record)) for i, record in enumerate(meta)]
    dropped = sum(a["prior"] != b["prior"] for a, b in zip(meta, edited))
    assert dropped > before
    before = dropped
  assert before == change.applies.sum()
