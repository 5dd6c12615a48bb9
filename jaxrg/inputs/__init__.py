"""What the stages of each paper read, and what their models take."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from etils import epath

from data_pipelines import datasets
from data_pipelines.loader import Examples
from jaxrg import files, sharding
from jaxrg.inputs import eir, priorrg

# What the stages of a paper may be; all but retrieval train something.
OBJECTIVES = {
  "priorrg": ("contrastive", "generation"),
  "eir": ("momentum", "retrieval", "classification"),
}
ON_FILMS = ("embed",)  # Methods that take films alone, and no batch.

Read = Callable[[Sequence[Any]], Examples]  # From a split to what a stage reads of it.


def trained(config: Any) -> list[str]:
  """The stages of a config that train something."""
  return [name for name in config.stages if config[name].objective != "retrieval"]


def reader(
  config: Any,
  name: str,
  tokenizer: Any,
  train: Sequence[Any],
  folder: epath.Path,
) -> Read:
  """How the stage `name` reads a split.

  `train` is the training split, and `folder` a run's or an export's: what EIR knows of
  other patients comes from the one, and who is alike lies in the other.
  """
  match (recipe := config[name]).objective:
    case "momentum":
      return lambda source: eir.read_films(config, source)
    case "classification":
      return eir.case_reader(config, tokenizer, train, folder)
    case _:
      return lambda source: priorrg.studies(config, recipe, tokenizer, source)


def argument(batch: Any, method: str) -> Any:
  """What a method of a model takes of a batch."""
  return batch["image"] if method in ON_FILMS else batch


def example(config: Any, method: str) -> Any:
  """What a method of the config's model takes: one row, all zeros."""
  size = config.data.image_size
  if config.paper == "priorrg":
    return priorrg.example(image_size=size, **config.text)
  return eir.film(size) if method in ON_FILMS else eir.example(config)


def to_export(config: Any, name: str, folder: epath.Path) -> dict[str, bytes]:
  """What the run's folder holds that the export of the stage `name` needs, too."""
  return eir.files(folder) if config[name].objective == "classification" else {}


def prepare(config: Any, folder: epath.Path, train: Sequence[Any]) -> None:
  """Writes what all stages of a run agree on beside its tokenizer, if anything.

  Raises ValueError, naming the study, where a history tells what the report says.
  """
  path = folder / eir.TOPICS
  if config.paper == "eir" and not path.exists():
    load = lambda split: datasets.load(config.data.name, split, config.data.data_dir)
    eir.check_histories(config, (train, load("validation"), load("test")))
    topics = eir.make_topics(config, train)
    if jax.process_index() == 0:
      files.write(path, topics.to_json())
  sharding.wait("prepared")
