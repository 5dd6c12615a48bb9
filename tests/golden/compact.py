"""Makes the files of this folder from full dumps of the authors' code under PyTorch.

`python tests/golden/compact.py DUMPS`. The dumps hold, for a PriorRG of tiny widths
with random weights, the state dict, every sub-module's output, losses, gradients,
one AdamW step and beam outputs (spec priorrg 10). What is equal in two files is kept
once, and of large gradients every `goldens.STRIDE`-th entry.
"""

import json
import pathlib
import shutil
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))
import goldens  # noqa: E402

CASES = ("mixed6", "noprior3")
SUBSET = [2, 3, 5]  # The rows of mixed6 that noprior3 is made of.


def main(dumps: pathlib.Path) -> None:
  read = lambda name: dict(np.load(dumps / f"{name}.npz"))
  states = {stage: read(f"stage{stage}_state") for stage in (1, 2)}
  weights = {}
  for stage, state in states.items():
    for key, value in state.items():
      other = states[1].get(key)
      shared = other is not None and key in states[2] and _equal(other, states[2][key])
      if "cls.predictions" in key or "cls_projection_head" in key:
        continue  # Never used by the model.
      weights[f"{'shared' if shared else f'stage{stage}'}/{key}"] = value
  files = {"weights": weights}
  for case in CASES:
    for stage in (1, 2):
      dump = read(f"stage{stage}_eval_{case}")
      # Whole only by repetition: the stack is the layers' outputs.
      dump = {k: v for k, v in dump.items() if "image_hidden_stack" not in k}
      files[f"stage{stage}_{case}"] = _linked(dump, files)
  for stage in (1, 2):
    dump = read(f"stage{stage}_train_mixed6")
    kept = {"loss": dump["out/loss"], "rates": dump["meta/param_group_lr"]}
    for key, value in dump.items():
      kind = key.split("/")[0]
      if kind == "grad":
        kept[key] = goldens.thin(value)
      elif kind == "step1" and f"grad/{key[6:]}" in dump:
        kept[key] = goldens.thin(value)[: goldens.STEP_ENTRIES]
      elif kind == "bn" and not key.endswith("num_batches_tracked"):
        kept[key] = value
    files[f"stage{stage}_train"] = kept
  for name, arrays in files.items():
    np.savez_compressed(HERE / f"{name}.npz", **arrays)
  shutil.copyfile(dumps / "config.json", HERE / "config.json")
  (HERE / "tokenizer").mkdir(exist_ok=True)
  for path in (dumps / "tokenizer").iterdir():
    shutil.copyfile(path, HERE / "tokenizer" / path.name)


def _linked(dump: dict, files: dict) -> dict:
  """The dump, with `FILE/KEY` or `FILE/KEY[rows]` in place of what is there already."""
  kept, links = {}, {}
  for key, value in dump.items():
    link = None
    for name, arrays in files.items():
      for other, array in arrays.items():
        rows = array[SUBSET] if array.ndim and len(array) == 6 else None
        if _equal(array, value) and value.size > 64:
          link = (name, other, False)
        elif rows is not None and _equal(rows, value) and value.size > 64:
          link = (name, other, True)
    if link:
      links[key] = link
    else:
      kept[key] = value
  return kept | {"links": np.array(json.dumps(links))}


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
  return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
