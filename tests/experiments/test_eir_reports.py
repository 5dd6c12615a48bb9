"""The experiments on EIR's reports: that they are what could be run."""

import itertools
import re

import numpy as np
import pytest

from configs import eir as recipe
from data_pipelines import base_graph, datasets, graphs, triples
from jaxrg import checks, writer
from jaxrg.experiments import eir, priorrg
from jaxrg.experiments.eir_reports import EXPERIMENTS, GRAPHS, HISTORIES, LEVELS
from jaxrg.inputs.eir import Grow

SAFE = re.compile(r"[a-z0-9]+([-.][a-z0-9]+)*")
TRIALS = [trial for experiment in EXPERIMENTS.values() for trial in experiment.trials]
ARMS = {trial.arm.name: trial.arm for trial in TRIALS}
CONDITIONS = {t.condition.name: t.condition for t in TRIALS if t.condition}
GROW = Grow(
  {
    f"s{i}": triples.extract(f"Small left pleural effusion. Nodule {i}. {extra}")
    for i, extra in enumerate(
      ("Left basilar atelectasis.", "Right rib fracture.", "Apical scarring.", "")
    )
  },
  count=2,
  settings={},
)


@pytest.mark.parametrize("variant", ["thorax", "tiny"])
@pytest.mark.parametrize("name", ARMS)
def test_every_arm_can_be_trained(name, variant):
  base = recipe.get_config(variant).lock()
  config = ARMS[name].config(base, 1)
  checks.check(config)
  assert (config.to_json() == ARMS["written"].config(base, 1).to_json()) == (
    name == "written" or ARMS[name].vision is not None
  )


def test_a_name_is_one_arm_and_one_condition():
  """What is trained or written under a name is found under it again."""
  assert all(ARMS[trial.arm.name] == trial.arm for trial in TRIALS)
  for trial in TRIALS:
    if (condition := trial.condition) is not None:
      assert CONDITIONS[condition.name] is condition
  overrides = [
    (tuple(sorted(arm.overrides.items())), arm.vision and arm.vision.name)
    for arm in ARMS.values()
  ]
  assert len(set(overrides)) == len(ARMS)


def test_names():
  for name, experiment in EXPERIMENTS.items():
    assert experiment.name == name
    assert experiment.question.endswith("?")
    assert len({trial.name for trial in experiment.trials}) == len(experiment.trials)
  for name in (*EXPERIMENTS, *ARMS, *CONDITIONS):
    assert SAFE.fullmatch(name), name
  assert not set(EXPERIMENTS) & (set(eir.EXPERIMENTS) | set(priorrg.EXPERIMENTS))


def test_the_grid_has_every_cell_once():
  """2 x 2 x 2 x 2, but that without text and graph there is nothing to fuse."""
  cells = {}
  base = recipe.get_config().lock()
  for trial in EXPERIMENTS["grid"].trials:
    config = trial.arm.config(base, 0)
    fused = config.model.use_text or config.model.use_graph
    cell = (
      config.model.use_text,
      config.model.use_graph,
      not config.write.fresh,
      config.model.aggregation.name if fused else None,
    )
    cells[cell] = trial.name
    words = set(trial.name.split("-"))
    assert [word in words for word in ("text", "graph", "medical")] == [*cell[:3]]
    assert ("add" in words) == (cell[3] == "add_norm")
  assert len(cells) == len(EXPERIMENTS["grid"].trials) == 14
  assert EXPERIMENTS["grid"].trials[0].arm == ARMS["written"]


@pytest.fixture(scope="module")
def split():
  source = datasets.load("thorax/tiny", "test")
  return writer.Meta(source), source


def graph_under(split, condition, similar=("s0", "s1", "s2", "s3")):
  return condition.make(*split).graph("study", similar, GROW)


def test_graphs_that_fail(split):
  named = {condition.name: condition for condition in GRAPHS}
  graph = lambda name: graph_under(split, named[name])
  assert graph("no-graph").names == ()
  assert graph("base-graph") == graphs.build(())
  assert graph("worst-cases") == GROW(["s3", "s2"])
  chosen = graph("random-cases")
  pairs = [GROW([a, b]) for a in GROW.triples for b in GROW.triples if a != b]
  assert chosen in pairs
  whole = GROW(["s0", "s1"])
  assert len(whole.names) > len(base_graph.NAMES)
  for name in ("drop-nodes", "drop-edges", "rewire"):
    levels = [graph(f"{name}-{level:g}") for level in LEVELS]
    changed = [set(whole.edges) - set(g.edges) for g in levels]
    if name != "drop-nodes":  # Whose numbers are other ones.
      assert all(a <= b for a, b in itertools.pairwise(changed))
    assert changed[-1]
  assert len(graph("drop-nodes-1").names) == 1


def test_histories_that_fail_are_nested(split):
  meta, _ = split
  for kind in ("masked", "noisy"):
    applies = [
      condition.make(*split).applies
      for condition in HISTORIES
      if condition.name.startswith(f"history-{kind}")
    ]
    assert len(applies) == len(LEVELS)
    assert all((a <= b).all() for a, b in itertools.pairwise(applies))
  gone = {c.name: c for c in HISTORIES}["history-masked-1"].make(*split).edit
  for i, record in enumerate(meta):
    edited = gone(i, record)
    assert (edited["indication"], edited["history"]) == ("", "")


def test_the_isolation_matrix_changes_what_it_says(split):
  meta, _ = split
  trials = {trial.name: trial for trial in EXPERIMENTS["isolation"].trials}
  for text in ("history", "masked history", "another's history"):
    for graph in ("graph", "no graph", "another's graph"):
      trial = trials[f"{text}, {graph}"]
      if trial.condition is None:
        assert (text, graph) == ("history", "graph")
        continue
      change = trial.condition.make(*split)
      assert change.applies.all()
      edited = [change.edit(i, record) for i, record in enumerate(meta)]
      told = [(r["indication"], r["history"]) for r in edited]
      was = [(r["indication"], r["history"]) for r in meta]
      assert (told == was) == (text == "history")
      assert (set(told) == {("", "")}) == (text == "masked history")
      assert (change.graph is None) == (graph == "graph")
      if graph == "no graph":
        assert change.graph("study", ("s0",), GROW).names == ()
  assert np.unique([t.arm.name for t in trials.values()]).size == 3
