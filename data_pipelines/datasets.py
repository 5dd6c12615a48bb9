"""Data sets by name; each splits into records as `records.FIELDS` says."""

from collections.abc import Sequence
from typing import Any

from data_pipelines import photographs, prepared
from data_pipelines.thorax import builder as thorax

NAMES = ("thorax", "photographs", *prepared.NAMES)


def load(name: str, split: str, data_dir: str | None = None) -> Sequence[Any]:
  """A split of `name`: "thorax/tiny" is built on first use, "iu_xray/ours_256" is not.

  Raises ValueError for an unknown name, and says which there are.
  """
  dataset, _, variant = name.partition("/")
  match dataset:
    case "thorax":
      return thorax.load(variant or "default", split, data_dir)
    case "photographs":
      return photographs.Crops(split)
    case name if name in prepared.NAMES:
      return prepared.load(name, variant, split, data_dir)
    case _:
      raise ValueError(f"Unknown data set {name!r}; known: {', '.join(NAMES)}.")
