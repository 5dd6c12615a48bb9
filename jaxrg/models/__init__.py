"""Models; `build` is the one place where a config becomes modules."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxrg.models.bert import Bert
from jaxrg.models.fusion import LastLayer, LayerFusion, LayerMean, TemporalFusion
from jaxrg.models.gpt2 import GPT2
from jaxrg.models.layers import Dtype
from jaxrg.models.perceiver import Perceiver
from jaxrg.models.priorrg import SOURCES, PriorRG
from jaxrg.models.vit import ConvStem, PatchStem, ViT


def build(config: Any) -> nn.Module:
  """The model that `config` (the `model` section) describes.

  A section holds exactly its module's fields. Raises ValueError on an unknown
  name and TypeError, which names it, on an unknown field.
  """
  dtype = jnp.dtype(config["dtype"])
  section = lambda name: dict(config[name]) | {"dtype": dtype}
  match config["name"]:
    case "priorrg":
      vision = section("vision")
      vision["stem"] = _stem(dict(vision["stem"]) | {"dtype": dtype}, vision["width"])
      return PriorRG(
        vision=ViT(**vision),
        text=Bert(**section("text")),
        temporal=TemporalFusion(**section("temporal"), width=config["width"]),
        perceiver=Perceiver(**section("perceiver"), width=config["width"]),
        fusion=_fusion(dict(config["fusion"]), dtype),
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
    case name:
      raise ValueError(f"Unknown config.model.name {name!r}; known: priorrg.")


def _stem(fields: dict, width: int) -> nn.Module:
  match fields.pop("name"):
    case "patch":
      return PatchStem(width=width, **fields)
    case "conv":
      return ConvStem(width=width, **fields)
    case name:
      raise ValueError(
        f"Unknown config.model.vision.stem.name {name!r}; known: patch, conv."
      )


def _fusion(fields: dict, dtype: Dtype) -> nn.Module:
  match fields.pop("name"):
    case "attention":
      return LayerFusion(dtype=dtype, **fields)
    case "last":
      return LastLayer(**fields)
    case "mean":
      return LayerMean(**fields)
    case name:
      raise ValueError(
        f"Unknown config.model.fusion.name {name!r}; known: attention, last, mean."
      )


def _order(names: Sequence[str]) -> tuple[str, ...]:
  order = tuple(names)
  if sorted(order) != sorted(SOURCES):
    raise ValueError(
      f"config.model.order={order} must have each of {', '.join(SOURCES)} once."
    )
  return order
