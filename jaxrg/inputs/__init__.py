"""What the stages of each paper read, and what their models take."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from etils import epath

from data_pipelines import datasets, files, history
from data_pipelines.loader import Examples
from jaxrg import sharding, tokenizers
from jaxrg.inputs import eir, priorrg

# What the stages of a paper may be; all but retrieval train something.
OBJECTIVES = {
  "priorrg": ("contrastive", "generation"),
  "eir": ("momentum", "interpretation", "retrieval", "reporting", "review"),
}
REPORTS = ("reporting", "review")  # Of EIR's, those that teach to write.
WRITES = ("generation", *REPORTS)  # After which a model can.
ON_FILMS = ("embed",)  # Methods that take films alone, and no batch.

Read = Callable[[Sequence[Any]], Examples]  # From a split to what a stage reads of it.


def trained(config: Any) -> list[str]:
  """The stages of a config that train something."""
  return [name for name in config.stages if config[name].objective != "retrieval"]


def load_split(config: Any, name: str, split: str) -> Sequence[Any]:
  """A split of the data that the stage `name` trains on, which may be its own."""
  data = config[name].get("films") or config.data.name
  return datasets.load(data, split, config.data.data_dir)


def reader(config: Any, name: str, tokenizer: Any, folder: epath.Path) -> Read:
  """How the stage `name` reads a split.

  `folder`, a run's or an export's, holds what EIR knows of other patients.
  """
  match (recipe := config[name]).objective:
    case "momentum":
      return lambda source: eir.read_films(config, source)
    case "interpretation":
      return eir.text_reader(config, tokenizer, folder)
    case objective if objective in REPORTS:
      return eir.case_reader(config, tokenizer, folder)
    case _:
      return lambda source: priorrg.studies(config, recipe, tokenizer, source)


def to_report_on(
  config: Any, tokenizer: Any, folder: epath.Path
) -> Callable[..., Examples]:
  """How a model reads what it shall report on: of a split, and edits of its records.

  EIR's takes another `graph`, too (`eir.ChangeGraph`). `folder` is the model's export.
  """
  if config.paper == "priorrg":
    return priorrg.study_reader(config, tokenizer)
  return eir.case_reader(config, tokenizer, folder)


def reference(config: Any, findings: str) -> str:
  """Findings as the paper's model is taught to write them."""
  if config.paper == "eir":
    return history.clean(findings)
  return tokenizers.reference(findings)


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
  return eir.files(folder) if config[name].objective in REPORTS else {}


def prepare(config: Any, folder: epath.Path, train: Sequence[Any]) -> None:
  """Writes what all stages of a run agree on beside its tokenizer, if anything.

  Raises ValueError, naming the study, where a history tells what the report says.
  """
  if config.paper == "eir":
    _write_once(folder / eir.TOPICS, lambda: _checked_topics(config, train))
    if eir.reads_neighbours(config):
      _write_once(folder / eir.TRIPLES, lambda: eir.make_triples(config, train))
  sharding.wait("prepared")


def _write_once(path: epath.Path, make: Callable[[], str | bytes]) -> None:
  if not path.exists():
    content = make()
    if jax.process_index() == 0:
      files.write(path, content)


def _checked_topics(config: Any, train: Sequence[Any]) -> str:
  load = lambda split: datasets.load(config.data.name, split, config.data.data_dir)
  eir.check_histories(config, (train, load("validation"), load("test")))
  return eir.make_topics(config, train).to_json()
