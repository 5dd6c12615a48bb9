"""Arms: configs that are trained, each seed one run, whichever experiments ask for."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import ml_collections
from etils import epath

from jaxrg import pretrained, runs

# What the first stage knows nothing of: arms that differ in these alone share it.
LATER = (
  *("stages", "finetune.", "decode.", "model.fusion."),
  *("interpret.", "write.", "refine.", "graph.", "model.use_text", "model.use_graph"),
  *("model.aggregation.", "model.reading", "model.history_", "model.graph_dropout"),
)


@dataclasses.dataclass(frozen=True)
class Arm:
  """The overrides of a base config, by dotted key.

  Where `vision` is another arm, what learns to write begins with the image encoder of
  that one's first stage.
  """

  name: str
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  vision: "Arm | None" = None

  def config(
    self, base: ml_collections.ConfigDict, seed: int
  ) -> ml_collections.ConfigDict:
    """The arm's own config; seeds count from the base's.

    Raises KeyError for a key that the base does not have.
    """
    config = base.copy_and_resolve_references().lock()
    config.update_from_flattened_dict(dict(self.overrides))
    config.seed = base.seed + seed
    return config


def train(
  arm: Arm, base: ml_collections.ConfigDict, seed: int, root: epath.Path
) -> epath.Path:
  """The folder of the arm's finished run; what it holds already is not done again.

  Raises ValueError where it holds the run of another base.
  """
  config = arm.config(base, seed)
  folder = root / f"{arm.name}-{config.seed}"
  if later := config.stages[1:]:
    _, _, export = _first_stage(arm, base, seed, root)
    config.init_from = str(export)
    config.stages = later
  if arm.vision:
    _, _, encoder = _first_stage(arm.vision, base, seed, root)
    config.pretrained.update(vision=str(encoder), kind=pretrained.OWN)
    config.write.fresh = ("vision",)
  # Before a first stage is trained in vain.
  runs.refuse_others(folder, config)
  if not (folder / "eval" / "metrics.json").exists():
    for first in filter(None, (later and arm, arm.vision)):
      pretrain(first, base, seed, root)
    print(f"{arm.name}, seed {config.seed}: {folder}", flush=True)
    runs.run(config, folder)
  return folder


def pretrain(
  arm: Arm, base: ml_collections.ConfigDict, seed: int, root: epath.Path
) -> epath.Path:
  """The export of the arm's first stage, which all arms share that agree in it."""
  config, folder, export = _first_stage(arm, base, seed, root)
  if not export.exists():
    print(f"{arm.name}, seed {config.seed}: {folder}", flush=True)
    runs.run(config, folder, stage=config.stages[0])
  return export


def _first_stage(
  arm: Arm, base: ml_collections.ConfigDict, seed: int, root: epath.Path
) -> tuple[ml_collections.ConfigDict, epath.Path, epath.Path]:
  """The config of a first stage, its run's folder, named by it, and its export."""
  mine = {k: v for k, v in arm.overrides.items() if not k.startswith(LATER)}
  config = Arm(arm.name, mine).config(base, seed)
  identity = json.dumps(runs.identity(config), sort_keys=True)
  digest = hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()
  first = config.stages[0]
  folder = root / f"{first}-{digest}"
  return config, folder, folder / first / "export"
