"""A checkpoint of the authors' as an export, and an export as a file for PyTorch."""

import json
import os
import pathlib
import re
from collections.abc import Mapping

import jax
import ml_collections
import numpy as np
from etils import epath

from jaxrg import checkpoint, checks, convert, exports, weight_files, weights
from jaxrg.convert import authors, backbones
from jaxrg.tokenizers import Tokenizer

SIDECAR = "dropped.safetensors"
# How a backbone is written, whose name it then has, and what of that we do not have.
PARTS = {
  "vision": (convert.to_dinov2, "Dinov2Model", "embeddings.mask_token"),
  "text": (convert.to_bert, "BertModel", "pooler.*"),
  "decoder": (convert.to_gpt2, "GPT2Model", None),
}


def is_export(source: str | os.PathLike) -> bool:
  """Whether a source is an export of ours, and no checkpoint of PyTorch's."""
  return (epath.Path(source) / "variables").exists()


def to_export(
  source: str | os.PathLike,
  out: str | os.PathLike,
  config: ml_collections.ConfigDict,
  *,
  views: str | os.PathLike | None = None,
  num_heads: Mapping[str, int] | None = None,
  tokenizer: str | os.PathLike | None = None,
) -> str:
  """Makes an export of a checkpoint of either stage, and returns what was done.

  The export has the recipe `config`, with the checkpoint's own model in it. `views` is
  the authors' JSON of view names and rows, `num_heads` as `convert.priorrg` takes them,
  `tokenizer` a folder with a tokenizer.json. Raises OSError or ValueError, in one line.
  """
  if config.paper != "priorrg":
    raise ValueError(
      f"--config is of {config.paper}; only PriorRG's checkpoints become exports. EIR "
      "begins with an encoder that config.pretrained names."
    )
  out = epath.Path(out).resolve()
  _refuse_others(out)
  found = weights.read(source)
  try:
    model, variables = convert.priorrg(found.state, **(num_heads or {}))
  except ValueError as error:
    raise ValueError(f"{found.source}: {error}") from error
  dropped = convert.dropped(found.state)
  stage = "finetune" if "decoder" in variables["params"] else "pretrain"
  config = _recipe(config, model, variables, views)
  words, whose = _tokenizer(model["text"]["vocab_size"], tokenizer)
  config.tokenizer.name = "trained" if tokenizer else "gpt2"
  exports.write(
    out,
    variables,
    config,
    stage,
    words,
    step=0,
    extra={SIDECAR: weight_files.to_bytes(dropped)},
    converted_from=pathlib.Path(found.source).name,
  )
  num_used = _num_params(variables["params"])
  num_params = num_used + _num_params(dropped)
  guess = "" if views else ": a guess, which only --views can mend"
  return "\n".join(
    [
      f"read:      {found.source}, {len(found.state)} tensors",
      f"stage:     {stage}; {num_params:,} parameters, of which the model uses "
      f"{num_used:,}",
      f"recipe:    {config.paper} {config.variant} on {config.data.name}; "
      f"{config.data.image_size} px, contexts of {config.text.context_length} and "
      f"reports of {config.text.report_length} tokens",
      f"tokenizer: {whose}, {len(words):,} entries",
      f"views:     {', '.join(config.data.views)}{guess}",
      f"dropped:   {_summary(dropped)}; kept in {SIDECAR}",
      f"export:    {out}",
    ]
  )


def from_export(
  source: str | os.PathLike, out: str | os.PathLike, part: str | None = None
) -> str:
  """Writes an export, or a part of it, as PyTorch has it; returns what was done.

  The whole has the authors' names, a part (vision, text, decoder) Hugging Face's.
  Raises OSError or ValueError, in one line.
  """
  source = epath.Path(source)
  facts, variables = checkpoint.load_config(source), checkpoint.load_arrays(source)
  if (paper := exports.paper(source)) != "priorrg":
    raise ValueError(f"{source} is of {paper}: only exports of priorrg are written.")
  if part is not None and part not in variables["params"]:
    raise ValueError(f"{source} has no {part}: stage {facts['stage']!r} exported it.")
  if part is None:
    _refuse_variants(source, facts["config"]["model"])
  sidecar = pathlib.Path(source) / SIDECAR
  try:
    if part is not None:
      to_theirs, name, absent = PARTS[part]
      state = to_theirs(variables["params"][part])
      names = f"Hugging Face's {name}" + (f", without {absent}" if absent else "")
    elif sidecar.exists():
      state = convert.to_priorrg(variables, weight_files.read(sidecar))
      names = "the authors', all that the checkpoint had"
    else:
      state = convert.to_priorrg(variables)
      absent = ", ".join(map(_readable, authors.UNUSED))
      names = f"the authors', without {absent}: load it with strict=False"
  except ValueError as error:
    raise ValueError(f"{source}: {error}") from error
  weight_files.write(out, state)
  return "\n".join(
    [
      f"read:      {source}, stage {facts['stage']}, step {facts['step']}",
      f"names:     {names}",
      f"written:   {out}, {len(state)} tensors",
    ]
  )


def _refuse_others(out: epath.Path) -> None:
  """Raises ValueError where `out` is anything but what a conversion has made."""
  if not out.exists():
    return
  try:
    converted = "converted_from" in checkpoint.load_config(out)
  except (OSError, ValueError):
    converted = False
  if not converted:
    raise ValueError(
      f"{out} exists, and is no converted export: choose another --out, or remove it."
    )


def _refuse_variants(source: epath.Path, model: Mapping) -> None:
  """Raises ValueError where published weights are never read in this way."""
  published = json.loads(json.dumps(authors.JOINING))  # An export has lists.
  for key, theirs in published.items():
    if (ours := model.get(key)) != theirs:
      raise ValueError(
        f"{source} has config.model.{key}={ours}, but published weights are read with "
        f"{theirs}: only its parts can be written, one --part at a time."
      )


def _recipe(
  config: ml_collections.ConfigDict,
  model: dict,
  variables: Mapping,
  views: str | os.PathLike | None,
) -> ml_collections.ConfigDict:
  """The recipe with this model, its image size and its views in it."""
  config = ml_collections.ConfigDict(config.to_dict())
  config.model = model
  config.data.image_size = backbones.image_size(variables["params"]["vision"])
  if views is not None:
    config.data.views = _read_views(views, model["num_views"])
  elif len(config.data.views) != model["num_views"]:
    raise ValueError(
      f"The checkpoint has {model['num_views']} views, and config.data.views "
      f"{len(config.data.views)}: give the authors' table of them as --views=JSON."
    )
  checks.check_model(config)
  return config


def _read_views(path: str | os.PathLike, count: int) -> tuple[str, ...]:
  """The names of a JSON object of names and rows, in the order of the rows."""
  try:
    rows = json.loads(pathlib.Path(path).read_bytes())
  except ValueError:
    raise ValueError(f"{path} is damaged: it is not JSON.") from None
  if not isinstance(rows, dict) or not all(type(row) is int for row in rows.values()):
    raise ValueError(f'{path} is no table of views, such as {{"PA": 0, "AP": 1}}.')
  if sorted(rows.values()) != list(range(count)):
    raise ValueError(
      f"{path} has the rows {', '.join(map(str, sorted(rows.values())))}, but the "
      f"checkpoint's are 0 to {count - 1}, each once."
    )
  if "unk" not in rows:
    raise ValueError(f"{path} has no unk, the row of views that are not known.")
  return tuple(sorted(rows, key=rows.get))


def _tokenizer(
  vocab_size: int, folder: str | os.PathLike | None
) -> tuple[Tokenizer, str]:
  """The tokenizer of so many entries, and whose it is."""
  tokenizer = Tokenizer.gpt2() if folder is None else Tokenizer.load(folder)
  if len(tokenizer) != vocab_size:
    whose = "GPT-2's tokenizer" if folder is None else f"The tokenizer in {folder}"
    raise ValueError(
      f"{whose} has {len(tokenizer):,} entries, the checkpoint {vocab_size:,}: give "
      "the folder of its own tokenizer.json as --tokenizer."
    )
  return tokenizer, "GPT-2's" if folder is None else os.fspath(folder)


def _num_params(tree) -> int:
  """Parameters, not the counters beside them."""
  return sum(x.size for x in jax.tree.leaves(tree) if x.dtype.kind == "f")


def _summary(dropped: Mapping[str, np.ndarray]) -> str:
  """The dropped tensors by what they have in common."""
  patterns = (*authors.DROPPED, r".*")  # And twins that are none.
  counts = dict.fromkeys(patterns, 0)
  for key in dropped:
    counts[next(p for p in patterns if re.fullmatch(p, key))] += 1
  return ", ".join(f"{_readable(p)} ({n})" for p, n in counts.items() if n) or "nothing"


def _readable(pattern: str) -> str:
  """A pattern of names as a shell would have it."""
  return pattern.replace(".*", "*").replace("\\", "")
