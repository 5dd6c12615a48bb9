"""What EIR's reports owe to history, graph, pre-training, fusion and interpreter.

All but `interpreter` are of models after stage 1: stage 2 takes as long again, and what
it adds is a question of its own.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines import corruptions, interventions
from data_pipelines.graphs import Graph
from jaxrg.experiments.arms import Arm
from jaxrg.experiments.comparison import Comparison, Condition, Trial, of_meta

SEED = 0  # Of what conditions draw: the same for every arm and every seed of it.
LEVELS = (0.25, 0.5, 0.75, 1.0)

STAGES = ("pretrain", "interpret", "retrieve", "write")


def _written(
  name: str, overrides: Mapping[str, Any] | None = None, vision: Arm | None = None
) -> Arm:
  """An arm that ends with stage 1."""
  return Arm(name, {"stages": STAGES} | dict(overrides or {}), vision)


DEFAULT = Arm("default")
WRITTEN = _written("written")
NO_TEXT = _written("no-text", {"model.use_text": False})
NO_GRAPH = _written("no-graph", {"model.use_graph": False})
STATIC = _written("static-graph", {"graph.neighbours": 0})
RANDOM = _written("grid-text-graph-cross-modal", {"write.fresh": ("vision",)})
NATURAL = _written(
  "natural", vision=Arm("photographs", {"pretrain.films": "photographs"})
)
FROZEN = _written("frozen", {"write.optim.frozen": ("vision",)})
# Of the size of the default ResNet-18, more or less.
DENSENET = _written(
  "densenet",
  {
    "model.vision.name": "densenet121",
    "model.vision.densenet.blocks": (2, 4, 4, 2),
    "model.vision.densenet.growth": 16,
    "model.vision.densenet.base_width": 16,
  },
)
DROPPED = _written(
  "dropout", {"model.history_dropout": 0.3, "model.graph_dropout": 0.3}
)


def _cases(count: int) -> Arm:
  """A graph of so many cases, each above three with as much room as these have."""
  added = max(count - 3, 0)
  return _written(
    f"cases-{count}",
    {
      "graph.neighbours": count,
      "graph.max_nodes": 48 + 7 * added,
      "graph.max_edges": 512 + 100 * added,
    },
  )


def _grid() -> list[Trial]:
  """All of it, the paper's own first; without text and graph nothing is fused."""
  known = [WRITTEN, NO_TEXT, NO_GRAPH, RANDOM]
  trials = {}
  for text, graph, medical in itertools.product((True, False), repeat=3):
    for kind in ("cross_modal", "add_norm"):
      parts = {"text": text, "graph": graph, "medical": medical}
      name = "-".join([part for part, there in parts.items() if there] or ["image"])
      if text or graph:
        name += f"-{kind.replace('_', '-')}"
      overrides = {f"model.use_{part}": False for part in ("text", "graph")
                   if not parts[part]}  # fmt: skip
      if (text or graph) and kind == "add_norm":
        overrides["model.aggregation.name"] = kind
      if not medical:
        # Cases are found by the same encoder: only what learns to write begins anew.
        overrides["write.fresh"] = ("vision",)
      arm = _written(f"grid-{name}", overrides)
      arm = next((a for a in known if a.overrides == arm.overrides), arm)
      trials.setdefault(name, Trial(name, arm))
  return [*trials.values()]


def _of_graph(name: str, change: Callable[..., Graph]) -> Condition:
  return of_meta(name, interventions.other_graph, change)


def no_graph(study: str, similar: Sequence[str], grow) -> Graph:
  """No node at all."""
  return corruptions.none(grow(similar))


def base_graph(study: str, similar: Sequence[str], grow) -> Graph:
  """As if nothing had been retrieved."""
  return corruptions.base_only(grow(similar))


def random_cases(study: str, similar: Sequence[str], grow) -> Graph:
  """Of studies that are like this one by chance alone."""
  # A query's own patient is in another split.
  corpus = dict.fromkeys(grow.triples, "another")
  chosen = corruptions.random_neighbours(study, "own", corpus, grow.count, seed=SEED)
  return grow(chosen)


def worst_cases(study: str, similar: Sequence[str], grow) -> Graph:
  """Of the least similar of the studies that were found."""
  return grow(corruptions.worst_k(similar, grow.count))


def _corrupted(name: str, level: float) -> Condition:
  corrupt = getattr(corruptions, name)

  def change(study: str, similar: Sequence[str], grow) -> Graph:
    return corrupt(grow(similar), level, seed=SEED, study=study)

  return _of_graph(f"{name.replace('_', '-')}-{level:g}", change)


HISTORIES = (
  *(
    of_meta(f"history-masked-{x:g}", interventions.masked_context, x, "token", SEED)
    for x in LEVELS
  ),
  *(
    of_meta(f"history-noisy-{x:g}", interventions.noisy_indication, x, SEED)
    for x in LEVELS
  ),
  of_meta("history-swapped", interventions.swapped_context),
)
GRAPHS = (
  _of_graph("no-graph", no_graph),
  _of_graph("base-graph", base_graph),
  _of_graph("random-cases", random_cases),
  _of_graph("worst-cases", worst_cases),
  *(
    _corrupted(name, level)
    for name in ("drop_nodes", "drop_edges", "rewire")
    for level in LEVELS
  ),
)


def _isolation() -> list[Trial]:
  """History and graph, each as it is, masked and another's."""
  texts = {
    "history": None,
    "masked history": interventions.without_context,
    "another's history": interventions.swapped_context,
  }
  changes = {"graph": None, "no graph": no_graph, "another's graph": random_cases}
  trials = []
  for (text, edit), (graph, change) in itertools.product(
    texts.items(), changes.items()
  ):
    name = f"{text}, {graph}"
    slug = name.replace(", ", "-").replace(" ", "-").replace("'", "")
    condition = _both(slug, edit, change) if edit or change else None
    trials.append(Trial(name, WRITTEN, condition))
  return trials


def _both(name: str, edit: Callable | None, change: Callable | None) -> Condition:
  def make(meta, source):
    everyone = np.ones(len(meta), bool)
    changed = edit(meta) if edit else interventions.other_graph(meta, change)
    return dataclasses.replace(changed, applies=everyone, graph=change)

  return Condition(name, make)


AS_IT_IS = Trial("with all as it is", WRITTEN)
_against = functools.partial(Trial, arm=WRITTEN)
_ORDER = "model.aggregation.cross_modal."

EXPERIMENTS = {
  experiment.name: experiment
  for experiment in (
    Comparison(
      "grid",
      "What do history, graph, medical pre-training and cross-modal fusion each add?",
      _grid(),
    ),
    Comparison(
      "initialisation",
      "Does it matter what the image encoder has seen before it learns to write?",
      [
        Trial("radiographs", WRITTEN),
        Trial("photographs", NATURAL),
        Trial("nothing", RANDOM),
        Trial("radiographs, and it learns no more", FROZEN),
      ],
    ),
    Comparison(
      "backbones",
      "Does another image encoder see more?",
      [
        Trial("ResNet", WRITTEN),
        Trial("DenseNet", DENSENET),
        Trial("ViT", _written("vit", {"model.vision.name": "vit"})),
      ],
    ),
    Comparison(
      "graphs",
      "Does a graph that grows from similar cases say more than one that does not?",
      [
        AS_IT_IS,
        Trial("base graph alone", STATIC),
        Trial("without a graph", NO_GRAPH),
        *(Trial(f"{k} similar cases", _cases(k)) for k in (1, 5, 10)),
      ],
    ),
    Comparison(
      "robustness",
      "What is left of the reports when history or graph fail at decoding?",
      [AS_IT_IS, *(_against(c.name, condition=c) for c in (*HISTORIES, *GRAPHS))],
    ),
    Comparison(
      "isolation",
      "Which of history and graph are the reports written from?",
      [
        *_isolation(),
        Trial("trained without history", NO_TEXT),
        Trial("trained without a graph", NO_GRAPH),
      ],
    ),
    Comparison(
      "modality-dropout",
      "Does a training that at times lacks history or graph bear their absence?",
      [
        Trial(f"{name}, {what}", arm, condition)
        for name, arm in (("as it is", WRITTEN), ("dropout", DROPPED))
        for what, condition in (
          ("all there", None),
          ("no history", HISTORIES[len(LEVELS) - 1]),
          ("no graph", GRAPHS[0]),
        )
      ],
    ),
    Comparison(
      "fusion-order",
      "Does it matter in which order, and how deep, topics read history and graph?",
      [
        AS_IT_IS,
        Trial("graph first", _written("graph-text", {_ORDER + "order": "graph_text"})),
        Trial("side by side", _written("parallel", {_ORDER + "order": "parallel"})),
        Trial("one layer", _written("depth-1", {_ORDER + "num_layers": 1})),
        Trial("four layers", _written("depth-4", {_ORDER + "num_layers": 4})),
        Trial("concatenated", _written("concat", {"model.aggregation.name": "concat"})),
      ],
    ),
    Comparison(
      "states",
      "Should reports be learnt from true states of topics, or from predicted ones?",
      [
        Trial("true", WRITTEN),
        Trial("predicted", _written("predicted", {"write.states": "predicted"})),
        Trial("ever more", _written("scheduled", {"write.states": "scheduled"})),
      ],
    ),
    Comparison(
      "interpreter",
      "Does a critic that reads the words teach the generator anything?",
      [
        Trial("with stage 2", DEFAULT),
        Trial("without stage 2", WRITTEN),
        Trial(
          "stage 2 without the critic",
          Arm("no-critic", {"refine.weights.interpreter": 0.0}),
        ),
        Trial("reads states", Arm("residual", {"model.reading": "residual"})),
        Trial("reads drawn words", Arm("gumbel", {"model.reading": "gumbel_st"})),
      ],
    ),
  )
}
