"""The config that a benchmark is asked for, as `python -m jaxrg.main` reads it."""

import importlib.util
from pathlib import Path

import ml_collections


def load(asked: str) -> ml_collections.ConfigDict:
  """The config of `FILE[:VARIANT]`."""
  path, _, variant = asked.partition(":")
  spec = importlib.util.spec_from_file_location("recipe", Path(path))
  recipe = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(recipe)
  return recipe.get_config(*filter(None, [variant]))
