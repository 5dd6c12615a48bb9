"""A run: a folder that belongs to one config, and the stages in it."""

import json
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
from etils import epath

from data_pipelines import datasets, loader
from jaxrg import checkpoint, evaluation, exports, files, pretrained, stages, train
from jaxrg.tokenizers import Tokenizer

TEXTS = ("findings", "indication", "history")  # What a vocabulary is made of.


def run(
  config: ml_collections.ConfigDict, workdir: epath.PathLike, stage: str | None = None
) -> None:
  """Every stage in order, or `stage` alone, then the evaluation of the last one.

  What `workdir` holds already is not done again. Raises ValueError where it holds
  the run of another config.
  """
  if stage is not None and stage not in config.stages:
    raise ValueError(f"--stage={stage}: the config has {', '.join(config.stages)}.")
  stages.check(config)
  workdir = epath.Path(workdir).resolve()
  refuse_others(workdir, config)
  workdir.mkdir(parents=True, exist_ok=True)
  source = datasets.load(config.data.name, "train", config.data.data_dir)
  for name in config.stages:
    stages.check_count(config, name, len(source))
  if not (workdir / "config.json").exists():
    pretrained.check(config)
  # Only now: what was mistyped until here has made no folder its own.
  claim(workdir, config)
  tokenizer = make_tokenizer(config, workdir, source)
  given, before = _given_export(config, tokenizer), None
  for name in config.stages:
    if given and name == (stage or config.stages[0]):
      before = given
    last = name == config.stages[-1]
    export_to = workdir / "export" if last else workdir / name / "export"
    if stage in (None, name) and not export_to.exists():
      if before is not None and not before.exists():
        raise FileNotFoundError(
          f"Stage {name} starts from {before}, which is not there; run the stage "
          "before it first."
        )
      train.train(
        config, name, tokenizer, workdir=workdir, init_from=before, export_to=export_to
      )
    before = export_to
  if stage in (None, config.stages[-1]):
    _evaluate(workdir, config)
  elif jax.process_index() == 0:
    print(f"export: {workdir / stage / 'export'}")


def _given_export(
  config: ml_collections.ConfigDict, tokenizer: Tokenizer
) -> epath.Path | None:
  """The export of elsewhere that the first stage of the run starts from, if any.

  Raises ValueError where its words or views are others: they would be read as ours.
  """
  if not config.init_from:
    return None
  directory = epath.Path(config.init_from).resolve()
  theirs = checkpoint.load_config(directory)["config"]["data"]["views"]
  if Tokenizer.load(directory / "tokenizer").to_json() != tokenizer.to_json():
    raise ValueError(f"config.init_from={directory} has another tokenizer.")
  if tuple(theirs) != (ours := tuple(config.data.views)):
    raise ValueError(
      f"config.init_from={directory} has the views {', '.join(theirs)}, and "
      f"config.data.views {', '.join(ours)}."
    )
  return directory


def _evaluate(workdir: epath.Path, config: ml_collections.ConfigDict) -> None:
  out = workdir / "eval"
  if not (out / "metrics.json").exists():
    evaluation.evaluate(workdir / "export", "test", out)
  if jax.process_index() != 0:
    return
  text = evaluation.table(json.loads((out / "metrics.json").read_text()))
  facts = checkpoint.load_config(workdir / "export")
  exports.add_scores(workdir / "export", text)
  print(f"\n{text}\n")
  print(f"{config.paper}, {config.variant}: step {facts['step']} of the run")
  print(f"report: {out / 'report.html'}")
  print(f"scores: {out / 'metrics.json'}")
  print(f"export: {workdir / 'export'}")


def identity(config: ml_collections.ConfigDict) -> dict:
  """What makes a run this one; where the data lie is no part of it."""
  mine = json.loads(config.to_json())
  mine["data"].pop("data_dir")
  return mine


def refuse_others(workdir: epath.Path, config: ml_collections.ConfigDict) -> None:
  """Raises ValueError where `workdir` holds anything but a run of this config."""
  path = workdir / "config.json"
  if path.exists():
    try:
      theirs = json.loads(path.read_text())
    except ValueError:
      raise ValueError(f"{path} is damaged: it is not JSON.") from None
    if theirs != (mine := identity(config)):
      key, theirs, mine = _first_difference(theirs, mine)
      raise ValueError(
        f"{workdir} holds the run of another config: there {key}={theirs!r}, here "
        f"{mine!r}. Choose another --workdir, or remove that one."
      )
    return
  leftover = workdir / "config.json.unfinished"  # Of a run that was killed here.
  if workdir.exists() and any(found != leftover for found in workdir.iterdir()):
    raise ValueError(
      f"{workdir} holds something that is no run of jaxrg (it has no config.json); "
      "choose another --workdir."
    )


def claim(workdir: epath.Path, config: ml_collections.ConfigDict) -> None:
  """Makes `workdir` the folder of this config, if it is not."""
  path = workdir / "config.json"
  if jax.process_index() == 0 and not path.exists():
    files.write(path, json.dumps(identity(config), indent=2) + "\n")


def _first_difference(a: Any, b: Any, key: str = "config") -> tuple[str, Any, Any]:
  if isinstance(a, dict) and isinstance(b, dict):
    for name in sorted(a.keys() | b.keys()):
      if a.get(name) != b.get(name):
        return _first_difference(a.get(name), b.get(name), f"{key}.{name}")
  return key, a, b


def make_tokenizer(
  config: ml_collections.ConfigDict, workdir: epath.Path, source: Sequence[Any]
) -> Tokenizer:
  """The run's tokenizer: GPT-2's, or a vocabulary of the training texts."""
  if config.tokenizer.name == "gpt2":
    return Tokenizer.gpt2()
  folder = workdir / "tokenizer"
  if (folder / "tokenizer.json").exists():
    return Tokenizer.load(folder)
  seen = loader.parse_all(source, skip_damaged=config.data.skip_damaged)
  texts = [record[part] for record in seen for part in TEXTS]
  tokenizer = Tokenizer.train(texts, config.tokenizer.vocab_size)
  if jax.process_index() == 0:
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / "tokenizer.json", tokenizer.to_json())
  return tokenizer
