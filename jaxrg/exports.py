"""An export: all that stage 2, evaluate and generate need, and nothing of the run."""

import dataclasses
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from etils import epath
from jax.sharding import Mesh

from data_pipelines import cli, familiarity, files, loader, records
from jaxrg import checkpoint, inputs, models, objectives, sharding
from jaxrg.tokenizers import Tokenizer

FILMS = 1000  # Enough for the familiarity of a data set.


@dataclasses.dataclass(frozen=True)
class Export:
  """An export, read."""

  config: ml_collections.ConfigDict
  model: nn.Module
  variables: Any
  tokenizer: Tokenizer
  stage: str
  step: int
  converted_from: str | None  # The file's name, where it was not trained here.


def write(
  directory: epath.Path,
  variables: Any,
  config: ml_collections.ConfigDict,
  stage: str,
  tokenizer: Tokenizer,
  step: int,
  extra: Mapping[str, bytes],
  converted_from: str | None = None,
) -> None:
  """Writes an export, all or nothing; `extra` are files that its kind has besides."""
  sizes = [x.size for x in jax.tree.leaves(variables["params"])]
  facts = {"stage": stage, "step": step, "num_params": sum(sizes)}
  if converted_from is not None:
    facts["converted_from"] = converted_from
  config_json = ml_collections.ConfigDict(facts | {"config": config}).to_json(indent=2)
  checkpoint.export(
    directory,
    variables,
    {
      "config.json": config_json.encode(),
      "tokenizer/tokenizer.json": tokenizer.to_json().encode(),
      "MODEL_CARD.md": model_card(config, facts).encode(),
      **extra,
    },
  )


def read(
  directory: epath.PathLike, mesh: Mesh | None = None, method: str | None = None
) -> Export:
  """Reads an export for a method of its model; on a mesh, every array in its place.

  By default the method is what its stage was trained for, if that can write. Raises
  FileNotFoundError or ValueError, naming the folder, where it is none.
  """
  directory = epath.Path(directory)
  facts = checkpoint.load_config(directory)
  try:
    stage, step = facts["stage"], facts["step"]
    config = ml_collections.ConfigDict(facts["config"])
    model = models.build(config.model)
    if missing := {"views", "without"} - set(config.data):
      raise KeyError(f"config.data.{min(missing)}")
    method = method or _writing(config[stage].objective)
  except (KeyError, AttributeError, TypeError) as error:
    raise ValueError(
      f"{directory / 'config.json'} fits no model here: {error}"
    ) from None
  tokenizer = Tokenizer.load(directory / "tokenizer")
  init = lambda key: model.init(key, inputs.example(config, method), method=method)
  abstract = jax.eval_shape(init, jax.random.key(0))
  mesh = mesh or sharding.make_mesh((-1, 1, 1))
  shardings = sharding.state_shardings(abstract, mesh, sharding.AXIS_RULES)
  abstract = sharding.abstract(dict(abstract), dict(shardings))
  try:
    variables = checkpoint.load_variables(directory, abstract)
  except (ValueError, KeyError) as error:
    purpose = "generate" if method in ("__call__", "review") else method
    raise ValueError(
      f"{directory} cannot {purpose}: stage {stage!r} exported it, or another "
      f"config did ({checkpoint.reason(error)})."
    ) from error
  source = facts.get("converted_from")
  return Export(config, model, variables, tokenizer, stage, step, source)


def paper(directory: epath.PathLike) -> str:
  """Whose system an export is of; raises ValueError where that is not said."""
  try:
    return checkpoint.load_config(directory)["config"]["paper"]
  except (KeyError, TypeError) as error:
    path = epath.Path(directory) / "config.json"
    raise ValueError(f"{path} fits no model here: {error}") from None


def _writing(objective: str) -> str:
  """The method whose parameters an export of a stage has, if it can write at all."""
  return objectives.METHODS[objective] if objective in inputs.WRITES else "__call__"


def read_familiarity(directory: epath.PathLike) -> familiarity.Statistics | None:
  """By which `generate` knows the films that the model was trained on.

  None where nobody has measured them, as of a converted checkpoint.
  """
  path = epath.Path(directory) / "familiarity.npz"
  if not path.exists():
    return None
  try:
    return familiarity.Statistics.from_bytes(path.read_bytes())
  except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise ValueError(f"{path} is damaged: {error}") from error


def add_scores(directory: epath.Path, scores: str) -> None:
  """Rewrites the model card with the score table in it."""
  export = checkpoint.load_config(directory)
  config = ml_collections.ConfigDict(export["config"])
  files.write(directory / "MODEL_CARD.md", model_card(config, export, scores))


def measure(source: Sequence[Any], indices: np.ndarray) -> dict[str, bytes]:
  """The file that says what the films `source[indices]`, trained on, look like."""
  spread = np.linspace(0, len(indices) - 1, min(FILMS, len(indices))).astype(int)
  films = [loader.parse(source, int(i)) for i in indices[spread]]
  statistics = familiarity.measure(
    [film["image"] for film in films], [film["view"] for film in films]
  )
  return {"familiarity.npz": statistics.to_bytes()}


def model_card(
  config: ml_collections.ConfigDict, facts: Mapping[str, Any], scores: str = ""
) -> str:
  """The card of an export: what it is, what it saw, what it is for."""
  converted, gone = facts.get("converted_from"), config.data.without
  lines = [
    f"# {config.paper} ({config.variant})",
    "",
    f"**{cli.INTENDED_USE}**",
    "",
    f"- Stage `{facts['stage']}`, step {facts['step']}, seed {config.seed}; "
    f"{facts['num_params']:,} parameters, computed in {config.model.dtype}.",
    f"- Views: {', '.join(config.data.views)}.",
    *([f"- It never sees: {', '.join(gone)}."] if gone else []),
    "- `variables`: parameters and batch statistics; `config.json`: the recipe;",
    "  `tokenizer/`: loads with Hugging Face.",
  ]
  if converted:
    lines += [
      f"- Converted from `{converted}`, **not trained here**: on which films, its",
      "  authors know, and `generate` cannot compare a film with them.",
      "- `dropped.safetensors`: what of that checkpoint the model does not use.",
    ]
  else:
    lines += [
      f"- Trained on `{config.data.name}`, chosen on its "
      f"{config[facts['stage']].select_on} split.",
      "- `familiarity.npz`: mean thumbnails of those films, by which `generate` doubts",
      "  or refuses what is no chest film.",
    ]
    if records.is_composed(config.data.name):
      lines.append(
        "- The radiographs are composed from one CT: this model has seen one anatomy. "
        "What it says of a real film is a smoke test."
      )
  if scores:
    lines += ["", "## Scores on the test split", "", "```", scores, "```"]
  return "\n".join(lines) + "\n"
