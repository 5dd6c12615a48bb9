"""What of a config cannot be, told before anything is made."""

import sys
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections

from data_pipelines import graphs, interventions, topics, triples
from data_pipelines.feature_store import FeatureStore
from jaxrg import (
  features,
  inputs,
  models,
  momentum,
  neighbours,
  objectives,
  optim,
  retrieval,
  sharding,
  state,
)
from jaxrg.tokenizers import Tokenizer

# On `test` a model is chosen by what it is then judged by, as the published one was.
SELECT_ON = ("validation", "test")
SELECT_BY = ("loss", "retrieval")  # What the contrastive stage's best state is best at.
# A vocabulary of the data's own, and GPT-2's; EIR's is of the data's own.
TOKENIZERS = {"priorrg": ("trained", "gpt2"), "eir": ("unigram",)}


def check(config: ml_collections.ConfigDict) -> None:
  """Raises ValueError, naming the key, for what cannot be, before anything is made."""
  mesh = sharding.make_mesh(config.mesh)
  if config.fused_attention and jax.default_backend() != "tpu":
    raise ValueError(
      "config.fused_attention=True is a TPU's kernel, and this backend is "
      f"{jax.default_backend()}."
    )
  interventions.without(config.data.without)
  for name in config.stages:
    if name not in config:
      raise ValueError(f"config.stages: the config has no section {name!r}.")
    _check_recipe(config, name)
    sharding.check_rows(config[name].batch_size, mesh, f"{name}.batch_size")
  _known("tokenizer.name", config.tokenizer.name, TOKENIZERS[config.paper])
  sharding.check_rows(config.decode.batch_size, mesh, "decode.batch_size")
  if config.paper == "priorrg":
    if config.data.features:
      features.stage(config)
      FeatureStore(config.data.features)
    if config.tokenizer.name == "gpt2":
      check_vocabulary(config, Tokenizer.gpt2())
  else:
    _check_eir(config)
  check_model(config)
  for name in inputs.trained(config):
    _check_shapes(config, name)


def check_model(config: ml_collections.ConfigDict) -> None:
  """Raises ValueError, naming the key, where data, texts and model do not agree."""
  views = tuple(config.data.views)
  size = config.model.get("num_views", len(views))  # EIR has no table of them.
  if len(views) != size:
    raise ValueError(
      f"config.data.views has {len(views)} names, but config.model.num_views={size}."
    )
  if "unk" not in views or len(set(views)) < len(views):
    raise ValueError(
      f"config.data.views={views} needs unk, for what is unknown, and no name twice."
    )
  for part, length in _text_lengths(config).items():
    if (size := config.model[part].max_length) < length:
      raise ValueError(
        f"config.model.{part}.max_length={size}, but texts have up to {length} tokens."
      )
  try:
    models.build(config.model)
  except (KeyError, TypeError) as error:
    raise ValueError(f"config.model describes no model: {error}") from error


def _text_lengths(config: ml_collections.ConfigDict) -> dict[str, int]:
  """Of each part that reads text, how many tokens it may be given."""
  if config.paper == "eir":
    report = config.text.report_length
    lengths = {"generator": report, "interpreter": report}
    if config.model.use_text:
      lengths["history"] = config.text.history_length
    return lengths
  contexts = [config[name].context_length for name in config.stages]
  return {
    "text": max(*config.text.values(), *contexts),
    "decoder": config.text.report_length,
  }


def check_vocabulary(config: ml_collections.ConfigDict, tokenizer: Any) -> None:
  """Raises ValueError, naming the key, where a table has no row for some token."""
  # Under jit an index beyond a table is no error: it reads the last row.
  parts = ("text", "decoder") if config.paper == "priorrg" else ("words",)
  for part in parts:
    if (size := config.model[part].vocab_size) < len(tokenizer):
      raise ValueError(
        f"config.model.{part}.vocab_size={size}, but the tokenizer has "
        f"{len(tokenizer)} entries."
      )


def check_count(config: ml_collections.ConfigDict, name: str, count: int) -> None:
  """Raises ValueError where `count` records do not fill one batch of a stage."""
  if (size := config[name].batch_size) > count:
    raise ValueError(
      f"config.{name}.batch_size={size}, but there are only {count} records to "
      "train on."
    )


def _check_shapes(config: ml_collections.ConfigDict, name: str) -> None:
  """Makes a stage's parameters and moments as shapes: what is wrong says so."""
  model, recipe = models.build(config.model), config[name]

  def init(key):
    method = objectives.METHODS[recipe.objective]
    params = model.init(key, inputs.example(config, method), method=method)["params"]
    trainable, _ = optim.split(params, recipe.optim.frozen)
    return optim.make(recipe.optim, num_steps=sys.maxsize).init(trainable)

  try:
    jax.eval_shape(init, jax.random.key(0))
  except (TypeError, ValueError) as error:
    reason = str(error).splitlines()[0]
    raise ValueError(f"Stage {name} of this config cannot be: {reason}") from error


def _known(key: str, value: str, known: Sequence[str]) -> None:
  if value not in known:
    raise ValueError(f"Unknown config.{key} {value!r}; known: {', '.join(known)}.")


def _at_least(key: str, value: float, least: int) -> None:
  if value < least:
    raise ValueError(f"config.{key}={value}, but {least} is the least.")


def _check_recipe(config: ml_collections.ConfigDict, name: str) -> None:
  recipe = config[name]
  _known(f"{name}.objective", recipe.objective, inputs.OBJECTIVES[config.paper])
  if recipe.objective == "retrieval":
    _at_least(f"{name}.count", recipe.count, max(1, config.graph.neighbours))
    _known(f"{name}.vectors", recipe.vectors, neighbours.VECTORS)
    _check_width(config, name)
    return
  _known(f"{name}.select_on", recipe.select_on, SELECT_ON)
  _known(f"{name}.remat", recipe.remat, state.REMAT)
  for key in ("batch_size", "num_epochs", "accumulation"):
    _at_least(f"{name}.{key}", recipe[key], 1)
  if recipe.batch_size % recipe.accumulation:
    raise ValueError(
      f"config.{name}.batch_size={recipe.batch_size} does not divide into "
      f"config.{name}.accumulation={recipe.accumulation} micro-batches."
    )
  if recipe.objective == "contrastive":
    _known(f"{name}.positives", recipe.positives, objectives.POSITIVES)
    _known(f"{name}.select_by", recipe.select_by, SELECT_BY)
    _check_groups(recipe, name)
  if recipe.objective in ("contrastive", "generation"):
    _at_least(f"{name}.context_length", recipe.context_length, 1)
    for key, amount in recipe.augment.items():
      _at_least(f"{name}.augment.{key}", amount, 0)
  if recipe.objective == "momentum":
    _check_momentum(recipe, name)
  if recipe.objective in ("reporting", "review"):
    _known(f"{name}.states", recipe.states, objectives.STATES)


def _check_groups(recipe: ml_collections.ConfigDict, name: str) -> None:
  # Micro-batches take the rows in turn: side by side would be in different ones.
  if recipe.group_views and recipe.accumulation > 1:
    raise ValueError(
      f"config.{name}.group_views=True needs config.{name}.accumulation=1, not "
      f"{recipe.accumulation}, which would part the views of a study."
    )


def _check_momentum(recipe: ml_collections.ConfigDict, name: str) -> None:
  contrast = recipe.contrast
  _known(f"{name}.contrast.name", contrast.name, momentum.NAMES)
  if recipe.accumulation > 1:
    raise ValueError(
      f"config.{name}.accumulation={recipe.accumulation}: each micro-batch would move "
      "the momentum network and the queue; it must be 1."
    )
  momentum.check(
    name, size=contrast.queue, batch_size=recipe.batch_size, groups=contrast.groups
  )


def _check_eir(config: ml_collections.ConfigDict) -> None:
  """What of EIR's data, graphs and topics cannot be."""
  _at_least("data.max_films", config.data.max_films, 1)
  for key in ("history_length", "report_length"):
    _at_least(f"text.{key}", config.text[key], 2)
  topics.check(config.model.num_topics, config.model.num_states)
  for key in ("threshold", "history_dropout", "graph_dropout"):
    if not 0 <= (rate := config.model[key]) <= 1:
      raise ValueError(f"config.model.{key}={rate} is no probability.")
  _check_interpreter(config)
  everywhere = sharding.make_mesh((-1, 1, 1))
  for name in config.stages:
    if (
      config[name].objective == "retrieval" or config[name].objective in inputs.REPORTS
    ):
      sharding.check_rows(config[name].batch_size, everywhere, f"{name}.batch_size")
  if config.model.use_graph:
    _check_graph(config)


def _check_width(config: ml_collections.ConfigDict, name: str) -> None:
  by_head = config[name].vectors == "head"
  key = "model.head.width" if by_head else f"{name}.width"
  width = config.model.head.width if by_head else config[name].width
  _at_least(key, width, 1)
  if width > retrieval.WIDEST:
    raise ValueError(
      f"config.{key}={width}, but neighbours are found by at most {retrieval.WIDEST} "
      "numbers a film."
    )


def _check_interpreter(config: ml_collections.ConfigDict) -> None:
  """A critic that has learnt nothing would teach nothing."""
  learnt = bool(config.init_from)
  for name in config.stages:
    learnt |= config[name].objective == "interpretation"
    if config[name].objective == "review" and not learnt:
      raise ValueError(
        f"config.stages: {name} has no interpreter to learn from; put the interpret "
        "stage before it, or name an export as config.init_from."
      )


def _finds_neighbours(config: ml_collections.ConfigDict) -> bool:
  return any(config[name].objective == "retrieval" for name in config.stages)


def _check_graph(config: ml_collections.ConfigDict) -> None:
  for key in ("neighbours", "max_triples", "name_length"):
    _at_least(f"graph.{key}", config.graph[key], 0 if key == "neighbours" else 1)
  if config.graph.neighbours and not _finds_neighbours(config):
    raise ValueError(
      f"config.graph.neighbours={config.graph.neighbours}, but config.stages has no "
      "retrieve to find them; 0 is the base graph alone."
    )
  budget = ("max_nodes", "max_edges")
  graphs.build((), **{key: config.graph[key] for key in budget})
  if (source := config.graph.triples) != triples.RULES:
    try:
      triples.load_radgraph(source)
    except OSError as error:
      raise ValueError(
        f"config.graph.triples={source}: {error.strerror}; it is a file of RadGraph's, "
        f"or {triples.RULES!r}."
      ) from error
