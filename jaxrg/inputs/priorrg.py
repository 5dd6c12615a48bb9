"""What PriorRG reads of a record."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines import interventions, loader
from data_pipelines.feature_store import FeatureStore
from data_pipelines.loader import Record
from jaxrg import tokenizers
from jaxrg.tokenizers import Tokenizer

TEXTS = ("context", "report", "tokens")  # Each with its `*_mask`.


def make_encode(
  tokenizer: Tokenizer,
  *,
  context_length: int,
  report_length: int,
  keep_end: bool = True,
) -> Callable[[Record], dict[str, np.ndarray]]:
  """The token arrays of a record, as PriorRG takes them: ids, and `*_mask`.

  A report that is cut ends all the same where `keep_end` is set; the published code
  teaches it not to (spec priorrg 8, D9).
  """

  def encode(record: Record) -> dict[str, np.ndarray]:
    findings = record["findings"]
    texts = {
      "context": tokenizers.context(record["indication"], record["history"]),
      "report": tokenizers.alignment_report(findings),
      "tokens": tokenizers.reference(findings),
    }
    arrays = {}
    for name, text in texts.items():
      length = context_length if name == "context" else report_length
      arrays[name], arrays[f"{name}_mask"] = tokenizer.encode(text, length)
    if keep_end and arrays["tokens_mask"][-1]:
      arrays["tokens"][-1] = tokenizer.eos
    return arrays

  return encode


def example(
  *, image_size: int, context_length: int, report_length: int
) -> dict[str, jax.Array]:
  """A batch of one, all zeros, of the shapes that PriorRG takes."""
  image = jnp.zeros((1, image_size, image_size, 1), jnp.uint8)
  row = jnp.zeros(1, jnp.int32)
  batch = {"image": image, "prior_image": image, "view": row, "prior_view": row}
  batch["has_prior"] = jnp.zeros(1, bool)
  batch["study"] = batch["patient"] = jnp.zeros((1, 2), jnp.uint32)
  for name in TEXTS:
    length = context_length if name == "context" else report_length
    batch[name] = jnp.zeros((1, length), jnp.int32)
    batch[f"{name}_mask"] = jnp.ones((1, length), bool)
  return batch


def encode_for(
  config: Any, recipe: Any, tokenizer: Tokenizer
) -> Callable[[Record], dict[str, np.ndarray]]:
  """`make_encode` for the texts as the stage of `recipe` reads them."""
  text = dict(config.text) | {"context_length": recipe.context_length}
  if recipe.objective == "generation":
    text["keep_end"] = recipe.keep_end
  return make_encode(tokenizer, **text)


def study_reader(config: Any, tokenizer: Tokenizer) -> Callable[..., loader.Studies]:
  """The function from a split, and edits of its records, to what is reported on."""
  encode = make_encode(tokenizer, **config.text)
  without = interventions.without(config.data.without)

  def read(source: Sequence[Any], *edits: loader.Edit) -> loader.Studies:
    return loader.Studies(
      source,
      encode,
      image_size=config.data.image_size,
      views=config.data.views,
      edit=interventions.in_turn(*edits, without),
    )

  return read


def studies(
  config: Any, recipe: Any, tokenizer: Tokenizer, source: Sequence[Any]
) -> loader.Studies:
  """A split as the stage of `recipe` reads it: stage 1 from features, if there are."""
  folder = config.data.features if recipe.objective == "contrastive" else None
  return loader.Studies(
    source,
    encode_for(config, recipe, tokenizer),
    image_size=config.data.image_size,
    views=config.data.views,
    edit=interventions.without(config.data.without),
    in_memory=config.data.in_memory,
    features=FeatureStore(folder) if folder else None,
  )
