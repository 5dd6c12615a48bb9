"""A stage: all of it that is fixed before its first step."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np
from etils import epath

from data_pipelines import loader
from jaxrg import checks, inputs, learning
from jaxrg.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class Stage(learning.Learning):
  """What a stage works with."""

  tokenizer: Tokenizer
  source: Sequence[Any]
  read: inputs.Read  # From a split to what this stage reads of it.
  studies: loader.Examples
  indices: np.ndarray  # Of the examples that are trained on.
  groups: Sequence[str] | None  # Of each of them, where the order goes by groups.
  steps_per_epoch: int


def prepare(
  config: ml_collections.ConfigDict,
  name: str,
  tokenizer: Tokenizer,
  workdir: epath.Path,
) -> Stage:
  """The stage `name` of a config; `workdir` holds what stages before it found."""
  recipe = config[name]
  source = inputs.load_split(config, name, "train")
  read = inputs.reader(config, name, tokenizer, workdir)
  studies = read(source)
  indices = _readable(studies, config.data.skip_damaged)
  checks.check_count(config, name, len(indices))
  checks.check_vocabulary(config, tokenizer)
  steps_per_epoch = len(indices) // recipe.batch_size
  learned = learning.learning(config, name, recipe.num_epochs * steps_per_epoch)
  return Stage(
    **vars(learned),
    tokenizer=tokenizer,
    source=source,
    read=read,
    studies=studies,
    indices=indices,
    groups=_study_ids(source, indices) if _is_grouped(recipe) else None,
    steps_per_epoch=steps_per_epoch,
  )


def _is_grouped(recipe: ml_collections.ConfigDict) -> bool:
  """Whether a stage has the views of a study side by side."""
  return recipe.objective == "contrastive" and recipe.group_views


def _study_ids(source: Sequence[Any], indices: np.ndarray) -> list[str]:
  return [loader.parse_text(source, int(i))["study_id"] for i in indices]


def _readable(studies: loader.Examples, skip_damaged: bool) -> np.ndarray:
  """Indices of the training records; with `skip_damaged` only of those that load."""
  if not skip_damaged:
    return np.arange(len(studies))
  good, bad = studies.readable()
  if bad:
    print(f"Skipped {len(bad)} damaged records of {len(studies)}: {bad[:10]}.")
  return np.asarray(good)
