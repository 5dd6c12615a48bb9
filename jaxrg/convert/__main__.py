r"""Converts published PyTorch checkpoints of PriorRG to exports, and back.

In: a checkpoint of either stage (safetensors, .npz, .ckpt, a folder, or owner/name at
the Hugging Face hub) becomes an export, which evaluate and generate read:

  python -m jaxrg.convert --source=priorrg.ckpt --out=priorrg_export \
      [--config=configs/priorrg.py:mimic_cxr,published] [--config.decode.num_beams=3] \
      [--views=views.json] [--heads=image=12,text=12,temporal=8,perceiver=8,gpt=12] \
      [--tokenizer=FOLDER]

Back: an export becomes a weight file with the authors' names, or with --part one of its
backbones with Hugging Face's:

  python -m jaxrg.convert --source=RUN/export --out=priorrg.safetensors
  python -m jaxrg.convert --source=RUN/export --out=bert.safetensors --part=text

Nothing in a checkpoint is run. What is written is whole or not there.
"""

import pathlib

from absl import app, flags
from ml_collections import config_flags

from data_pipelines import cli
from jaxrg import conversion
from jaxrg.convert import authors

FILES = (".safetensors", ".npz")
VARIANT = "mimic_cxr,published"
# Beside the package, wherever the command is given.
RECIPE = pathlib.Path(__file__).parents[2] / "configs/priorrg.py"
HEADS = [name.removesuffix("_heads") for name in authors.HEADS]

_SOURCE = flags.DEFINE_string(
  "source", None, "A checkpoint: file, folder or hub name; or an export."
)
_OUT = flags.DEFINE_string(
  "out", None, "In: the folder of the export. Back: a .safetensors or .npz file."
)
_CONFIG = config_flags.DEFINE_config_file(
  "config",
  f"{RECIPE}:{VARIANT}" if RECIPE.exists() else None,
  "In: the recipe that the export is to have, but for its model; by default "
  f"configs/priorrg.py:{VARIANT}.",
  lock_config=True,
)
_VIEWS = flags.DEFINE_string(
  "views",
  None,
  "In: the authors' JSON of view names and their rows; by default the recipe's "
  "data.views, which is a guess.",
)
_HEADS = flags.DEFINE_list(
  "heads",
  None,
  "In: numbers of heads, which no checkpoint tells, as NAME=COUNT; by default the "
  f"paper's. Names: {', '.join(HEADS)}.",
)
_TOKENIZER = flags.DEFINE_string(
  "tokenizer",
  None,
  "In: a folder with a tokenizer.json; by default GPT-2's, if the vocabulary is.",
)
_PART = flags.DEFINE_enum(
  "part", None, list(conversion.PARTS), "Back: this backbone alone."
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  source, out = _SOURCE.value, _OUT.value
  if conversion.is_export(source):
    for flag in (_CONFIG, _VIEWS, _HEADS, _TOKENIZER):
      if flag.present:
        raise app.UsageError(
          f"--{flag.name} is for checkpoints; {source} is an export."
        )
    print(conversion.from_export(source, out, _PART.value))
    return
  if out.endswith(FILES) or _PART.present:
    raise app.UsageError(
      f"{source} is no export, which --part and a weight file as --out are for."
    )
  if _CONFIG.value is None:
    raise app.UsageError(f"--config=configs/priorrg.py:{VARIANT} is needed.")
  options = dict(views=_VIEWS.value, tokenizer=_TOKENIZER.value)
  options["num_heads"] = dict(map(_head_count, _HEADS.value or ()))
  print(conversion.to_export(source, out, _CONFIG.value, **options))


def _head_count(pair: str) -> tuple[str, int]:
  name, _, count = pair.partition("=")
  if name not in HEADS or not count.isdecimal() or int(count) < 1:
    raise app.UsageError(
      f"--heads: {pair!r} is no NAME=COUNT; names: {', '.join(HEADS)}."
    )
  return f"{name}_heads", int(count)


if __name__ == "__main__":
  flags.mark_flags_as_required(["source", "out"])
  cli.run(main)
