"""Models; `build` is the one place where a config becomes modules."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxrg.models.aggregation import AddNorm, Concat, CrossModalAggregation
from jaxrg.models.bert import Bert
from jaxrg.models.classifier import StateClassifier
from jaxrg.models.densenet import DenseNet
from jaxrg.models.eir import EIR
from jaxrg.models.fusion import LastLayer, LayerFusion, LayerMean, TemporalFusion
from jaxrg.models.generator import PrefixGenerator
from jaxrg.models.gpt2 import GPT2
from jaxrg.models.graph import GraphEncoder
from jaxrg.models.grid import ViTGrid
from jaxrg.models.heads import LinearHead, MlpHead
from jaxrg.models.history import HistoryEncoder, token_table
from jaxrg.models.interpreter import READINGS, Interpreter
from jaxrg.models.layers import Readout
from jaxrg.models.norms import NORMS
from jaxrg.models.perceiver import Perceiver
from jaxrg.models.priorrg import SOURCES, PriorRG
from jaxrg.models.resnet import ResNet
from jaxrg.models.topics import AttentionTopics, DenseTopics, GridTokens
from jaxrg.models.vit import ConvStem, PatchStem, ViT

FUSIONS = {"attention": LayerFusion, "last": LastLayer, "mean": LayerMean}
STEMS = {"patch": PatchStem, "conv": ConvStem}
HEADS = {"mlp": MlpHead, "linear": LinearHead}
TOPICS = {"dense": DenseTopics, "attention": AttentionTopics, "grid": GridTokens}
AGGREGATIONS = {
  "cross_modal": CrossModalAggregation,
  "add_norm": AddNorm,
  "concat": Concat,
}
RESNETS = {
  "resnet18": dict(blocks=(2, 2, 2, 2), bottleneck=False),
  "resnet50": dict(blocks=(3, 4, 6, 3), bottleneck=True),
}
GRIDS = (*RESNETS, "densenet121", "vit")


def build(config: Any) -> nn.Module:
  """The model that `config` (the `model` section) describes.

  A section holds exactly its module's fields. Raises ValueError on an unknown
  name and TypeError, which names it, on an unknown field.
  """
  match config["name"]:
    case "priorrg":
      return _priorrg(config)
    case "eir":
      return _eir(config)
    case name:
      raise ValueError(f"Unknown config.model.name {name!r}; known: priorrg, eir.")


def _priorrg(config: Any) -> PriorRG:
  dtype = jnp.dtype(config["dtype"])
  section = lambda name: dict(config[name]) | {"dtype": dtype}
  fusion = section("fusion")
  if fusion["name"] in ("last", "mean"):
    del fusion["dtype"]  # They have no parameters, and compute nothing of their own.
  return PriorRG(
    vision=_vit(section("vision")),
    text=Bert(**section("text")),
    temporal=TemporalFusion(**section("temporal"), width=config["width"]),
    perceiver=Perceiver(**section("perceiver"), width=config["width"]),
    fusion=_choose("fusion", FUSIONS, fusion),
    decoder=GPT2(**section("decoder")),
    width=config["width"],
    bottleneck=config["bottleneck"],
    num_views=config["num_views"],
    pixel_mean=config["pixel_mean"],
    pixel_std=config["pixel_std"],
    mask_padding=config["mask_padding"],
    mask_statistics=config["mask_statistics"],
    prior_gradient=config["prior_gradient"],
    order=_order(config["order"]),
    seeded=config["seeded"],
    embedding_std=config["embedding_std"],
    dtype=dtype,
  )


def _eir(config: Any) -> EIR:
  dtype = jnp.dtype(config["dtype"])
  section = lambda name: dict(config[name]) | {"dtype": dtype}
  width, num_topics = config["width"], config["num_topics"]
  wide = {"width": width, "dtype": dtype}
  aggregation = section("aggregation") | wide | {"num_topics": num_topics}
  stack = dict(aggregation.pop("cross_modal"))  # What the others have no use for.
  if aggregation["name"] == "cross_modal":
    aggregation |= stack
  topics = section("topics") | wide
  if topics["name"] == "grid":
    if aggregation["name"] != "cross_modal":
      raise ValueError(
        "config.model.topics.name='grid' needs config.model.aggregation.name="
        f"'cross_modal', not {aggregation['name']!r}."
      )
    aggregation["target"] = "grid"
  else:
    topics["num_topics"] = num_topics
  if config["norm"] not in NORMS:
    raise ValueError(
      f"Unknown config.model.norm {config['norm']!r}; known: {', '.join(NORMS)}."
    )
  use_text, use_graph = config["use_text"], config["use_graph"]
  words = {"vocab_size": config["words"]["vocab_size"]}
  reading = config["reading"]
  if reading not in READINGS:
    raise ValueError(
      f"Unknown config.model.reading {reading!r}; known: {', '.join(READINGS)}."
    )
  return EIR(
    vision=_grid(config["vision"], dtype),
    head=_choose("head", HEADS, section("head")),
    tokens=token_table(**section("words"), width=width)
    if use_text or use_graph
    else None,
    history=HistoryEncoder(**section("history") | wide) if use_text else None,
    # The stream's graphs list their edges by receiver.
    graph=GraphEncoder(**section("graph") | wide, sorted_receivers=True)
    if use_graph
    else None,
    topics=_choose("topics", TOPICS, topics),
    aggregation=_choose("aggregation", AGGREGATIONS, aggregation),
    classifier=StateClassifier(
      **section("classifier") | wide, num_states=config["num_states"]
    ),
    labels=token_table(num_topics, width, dtype=dtype),
    generator=PrefixGenerator(**section("generator") | wide | words),
    interpreter=_interpreter(config, dtype),
    reading=reading,
    threshold=config["threshold"],
    norm=config["norm"],
    history_dropout=config["history_dropout"],
    graph_dropout=config["graph_dropout"],
  )


def _interpreter(config: Any, dtype: jnp.dtype) -> Interpreter:
  """Reads text as the history encoder does, and says states as the classifier does."""
  fields, width = dict(config["interpreter"]), config["width"]
  same = {"width": width, "num_heads": fields["num_heads"], "dtype": dtype}
  return Interpreter(
    tokens=token_table(**config["words"], width=width, dtype=dtype),
    encoder=HistoryEncoder(**fields | same),
    readout=Readout(config["num_topics"], **same, dropout_rate=fields["dropout_rate"]),
    classifier=StateClassifier(config["num_states"], **same),
  )


def _choose(part: str, known: Mapping[str, type[nn.Module]], fields: dict) -> nn.Module:
  """The module that `fields` name, with the rest of them."""
  if (name := fields.pop("name")) not in known:
    raise ValueError(
      f"Unknown config.model.{part}.name {name!r}; known: {', '.join(known)}."
    )
  return known[name](**fields)


def _vit(fields: dict) -> ViT:
  stem = dict(fields["stem"]) | {"dtype": fields["dtype"], "width": fields["width"]}
  return ViT(**fields | {"stem": _choose("vision.stem", STEMS, stem)})


def _grid(vision: Any, dtype: jnp.dtype) -> nn.Module:
  """The encoder that `vision` names, with the fields of its kind."""
  fields = lambda kind: dict(vision[kind]) | {"dtype": dtype}
  match vision["name"]:
    case "resnet18" | "resnet50" as name:
      return ResNet(**RESNETS[name], **fields("resnet"))
    case "densenet121":
      densenet = fields("densenet")
      return DenseNet(**densenet | {"blocks": tuple(densenet["blocks"])})
    case "vit":
      return ViTGrid(_vit(fields("vit")))
    case name:
      raise ValueError(
        f"Unknown config.model.vision.name {name!r}; known: {', '.join(GRIDS)}."
      )


def _order(names: Sequence[str]) -> tuple[str, ...]:
  order = tuple(names)
  if sorted(order) != sorted(SOURCES):
    raise ValueError(
      f"config.model.order={order} must have each of {', '.join(SOURCES)} once."
    )
  return order


__all__ = ["build"]
