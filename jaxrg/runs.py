"""A run: a folder that belongs to one config, and the stages in it."""

import json
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
from etils import epath

from data_pipelines import datasets, files, history, loader
from jaxrg import (
  checkpoint,
  checks,
  evaluation,
  exports,
  indexing,
  inputs,
  neighbours,
  pretrained,
  train,
)
from jaxrg.tokenizers import Tokenizer
from jaxrg.unigram import UnigramTokenizer

# What a run keeps in its folder beside its stages.
FOUND = ("tokenizer", *inputs.eir.FILES)
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
  checks.check(config)
  workdir = epath.Path(workdir).resolve()
  refuse_others(workdir, config)
  workdir.mkdir(parents=True, exist_ok=True)
  source = datasets.load(config.data.name, "train", config.data.data_dir)
  for name in inputs.trained(config):
    checks.check_count(config, name, len(inputs.load_split(config, name, "train")))
  if not (workdir / "config.json").exists():
    pretrained.check(config)
  # Only now: what was mistyped until here has made no folder its own.
  claim(workdir, config)
  tokenizer = make_tokenizer(config, workdir, source)
  inputs.prepare(config, workdir, source)
  given, before = _given_export(config, tokenizer, workdir), []
  for name in config.stages:
    if given and name == (stage or config.stages[0]):
      before = [given]
    if stage in (None, name):
      _run_stage(config, name, tokenizer, workdir, before)
    if name in inputs.trained(config):
      before.append(export_of(config, name, workdir))
  last = config.stages[-1]
  if stage in (None, last) and config[last].objective in inputs.WRITES:
    _evaluate(workdir, config)
  elif jax.process_index() == 0:
    print(f"export: {export_of(config, stage or last, workdir)}")


def export_of(
  config: ml_collections.ConfigDict, name: str, workdir: epath.Path
) -> epath.Path:
  """Where the stage `name` puts its export; that of the last one is the run's."""
  last = name == config.stages[-1]
  return workdir / "export" if last else workdir / name / "export"


def is_done(config: ml_collections.ConfigDict, name: str, workdir: epath.Path) -> bool:
  """Whether `workdir` holds the result of the stage `name`."""
  if config[name].objective == "retrieval":
    return (workdir / inputs.eir.NEIGHBOURS).exists()
  return export_of(config, name, workdir).exists()


def _run_stage(
  config: ml_collections.ConfigDict,
  name: str,
  tokenizer: Tokenizer | UnigramTokenizer,
  workdir: epath.Path,
  before: Sequence[epath.Path],
) -> None:
  """Runs a stage that `workdir` does not hold the result of.

  It starts from the exports of all stages `before` it.
  """
  if config[name].objective == "retrieval":
    _retrieve(config, name, workdir, before)
    return
  export_to = export_of(config, name, workdir)
  if export_to.exists():
    return
  _require(name, before)
  if config[name].objective in inputs.REPORTS:
    _check_neighbours(config, workdir, _encoder(before))
  train.train(
    config, name, tokenizer, workdir=workdir, init_from=before, export_to=export_to
  )


def _check_neighbours(
  config: ml_collections.ConfigDict, workdir: epath.Path, encoder: epath.Path | None
) -> None:
  """Raises where another encoder has found the neighbours than the one gone on from."""
  if inputs.eir.reads_neighbours(config) and encoder is not None:
    path = workdir / inputs.eir.NEIGHBOURS
    neighbours.read(path, encoder=indexing.checksum(encoder))


def _require(name: str, before: Sequence[epath.Path]) -> None:
  for export in before:
    if not export.exists():
      raise FileNotFoundError(
        f"Stage {name} starts from {export}, which is not there; run the stage "
        "before it first."
      )


def _encoder(before: Sequence[epath.Path]) -> epath.Path | None:
  """The last export with an image encoder that films can be compared by."""
  compares = lambda export: "head" in checkpoint.variable_shapes(export)["params"]
  return next(filter(compares, reversed(before)), None)


def _reads_text(export: epath.Path) -> bool:
  """Whether an export has words of its own; an image encoder serves any."""
  params = checkpoint.variable_shapes(export)["params"]
  return bool(
    params.keys() & {"text", "tokens", "decoder", "generator", "interpreter", "words"}
  )


def _given_export(
  config: ml_collections.ConfigDict,
  tokenizer: Tokenizer | UnigramTokenizer,
  workdir: epath.Path,
) -> epath.Path | None:
  """The export of elsewhere that the first stage of the run starts from, if any.

  Raises ValueError where its words, topics, views or pixels are others: they would be
  read as ours.
  """
  if not config.init_from:
    return None
  directory = epath.Path(config.init_from).resolve()
  found = checkpoint.load_config(directory)["config"]
  differ = lambda what: ValueError(f"config.init_from={directory} {what}")
  if found["paper"] != config.paper:
    raise differ(f"is of {found['paper']}, and the config of {config.paper}.")
  for key in {"norm", "pixel_mean", "pixel_std"} & set(config.model):
    if (was := found["model"].get(key)) != (now := config.model[key]):
      raise differ(f"has config.model.{key}={was!r}, and here it is {now!r}.")
  if _reads_text(directory):
    if Tokenizer.load(directory / "tokenizer").to_json() != tokenizer.to_json():
      raise differ("has another tokenizer.")
    was, now = (folder / inputs.eir.TOPICS for folder in (directory, workdir))
    if was.exists() and was.read_text() != now.read_text():
      raise differ("has other topics.")
  theirs, ours = tuple(found["data"]["views"]), tuple(config.data.views)
  if theirs != ours:
    raise differ(
      f"has the views {', '.join(theirs)}, and config.data.views {', '.join(ours)}."
    )
  return directory


def _retrieve(
  config: ml_collections.ConfigDict,
  name: str,
  workdir: epath.Path,
  before: Sequence[epath.Path],
) -> None:
  """Finds who is alike, by the image encoder of an export."""
  _require(name, before)
  if (encoder := _encoder(before)) is None:
    raise ValueError(
      f"Stage {name} needs an image encoder: put the pretrain stage before it in "
      "config.stages, or name an export as config.init_from."
    )
  path = workdir / inputs.eir.NEIGHBOURS
  if path.exists():
    neighbours.read(path, encoder=indexing.checksum(encoder))
    return
  recipe = config[name]
  told = indexing.build(
    encoder,
    path,
    k=recipe.count,
    batch_size=recipe.batch_size,
    data_name=config.data.name,
    data_dir=config.data.data_dir,
    retriever_out=workdir / inputs.eir.RETRIEVER,
  )
  graphs = inputs.eir.describe_graphs(config, workdir)
  if jax.process_index() == 0:
    print(told)
    print(graphs)


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
  """What makes a run this one: not where data lie, nor what is watched."""
  mine = json.loads(config.to_json())
  mine["data"].pop("data_dir")
  for key in ("profile", "watchdog"):
    mine.pop(key, None)
  if "features" in mine["data"]:
    mine["data"]["features"] = mine["data"]["features"] is not None
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
) -> Tokenizer | UnigramTokenizer:
  """The run's tokenizer: GPT-2's, or a vocabulary of the training texts."""
  if config.tokenizer.name == "gpt2":
    return Tokenizer.gpt2()
  folder = workdir / "tokenizer"
  if (folder / "tokenizer.json").exists():
    return Tokenizer.load(folder)
  seen = loader.parse_texts(source, skip_damaged=config.data.skip_damaged)
  texts = [record[part] for record in seen for part in TEXTS]
  size = config.tokenizer.vocab_size
  if config.tokenizer.name == "trained":
    tokenizer = Tokenizer.train(texts, size)
  else:
    texts = map(history.clean, texts)
    tokenizer = UnigramTokenizer.train(texts, size, config.tokenizer.words)
  if jax.process_index() == 0:
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / "tokenizer.json", tokenizer.to_json())
  return tokenizer
