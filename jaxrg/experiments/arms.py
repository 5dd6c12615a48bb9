"""Arms: configs that are trained, each seed one run, whichever experiments ask for."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from etils import epath

from jaxrg import inputs, pretrained, runs

# What the stages that arms share know nothing of, where arms differ in these alone.
LATER = (
  *("stages", "finetune.", "decode.", "model.fusion."),
  *("write.", "refine.", "graph.", "model.use_text", "model.use_graph"),
  *("model.aggregation.", "model.reading", "model.history_", "model.graph_dropout"),
)
# And what none but the last stage knows, and those before it therefore share.
LAST = ("stages", "decode.", "refine.", "model.reading")


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
  if arm.vision:
    other, place = _shared_run(arm.vision, base, seed, root)
    encoder = runs.export_of(other, other.stages[0], place)
    config.pretrained.update(vision=str(encoder), kind=pretrained.OWN)
    config.write.fresh = ("vision",)
  # Before anything is trained in vain.
  runs.refuse_others(folder, config)
  if not (folder / "eval" / "metrics.json").exists():
    if arm.vision:
      pretrain(arm.vision, base, seed, root)
    if shared := _shared_stages(arm, config):
      other, place = _shared_run(arm, base, seed, root)
      for stage in shared:
        _run_stage(arm, other, place, stage)
      folder.mkdir(parents=True, exist_ok=True)
      runs.claim(folder, config)
      _take(place, folder, shared)
    print(f"{arm.name}, seed {config.seed}: {folder}", flush=True)
    runs.run(config, folder)
  return folder


def pretrain(
  arm: Arm, base: ml_collections.ConfigDict, seed: int, root: epath.Path
) -> epath.Path:
  """The export of the arm's first stage, which all arms share that agree in it."""
  config, folder = _shared_run(arm, base, seed, root)
  _run_stage(arm, config, folder, config.stages[0])
  return runs.export_of(config, config.stages[0], folder)


def _shared_stages(arm: Arm, config: ml_collections.ConfigDict) -> list[str]:
  """Those before the first that learns to write, or that knows the arm's overrides."""
  before = config.stages[:-1]
  if all(key.startswith(LAST) for key in arm.overrides) and not arm.vision:
    return list(before)
  learns = lambda name: config[name].objective in inputs.WRITES
  return list(itertools.takewhile(lambda name: not learns(name), before))


def _shared_run(
  arm: Arm, base: ml_collections.ConfigDict, seed: int, root: epath.Path
) -> tuple[ml_collections.ConfigDict, epath.Path]:
  """The config of a run whose stages arms share, and its folder, which it names."""
  mine = {k: v for k, v in arm.overrides.items() if not k.startswith(LATER)}
  config = Arm(arm.name, mine).config(base, seed)
  identity = json.dumps(runs.identity(config), sort_keys=True)
  digest = hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()
  return config, root / f"{config.stages[0]}-{digest}"


def _run_stage(
  arm: Arm, config: ml_collections.ConfigDict, folder: epath.Path, stage: str
) -> None:
  if not runs.is_done(config, stage, folder):
    print(f"{arm.name}, seed {config.seed}: {folder}", flush=True)
    runs.run(config, folder, stage=stage)


def _take(source: epath.Path, folder: epath.Path, stages: Sequence[str]) -> None:
  """Copies what the `stages` of another run have learnt and found to a run's folder.

  A file or an export is there whole or not at all.
  """
  learnt = [f"{stage}/export" for stage in stages]
  for name in (*runs.FOUND, *learnt):
    if (source / name).exists() and not (folder / name).exists():
      draft = folder / f"{name}.unfinished"
      if draft.exists():
        draft.rmtree() if draft.is_dir() else draft.unlink()
      _copy(source / name, draft)
      draft.rename(folder / name)


def _copy(source: epath.Path, target: epath.Path) -> None:
  target.parent.mkdir(parents=True, exist_ok=True)
  if not source.is_dir():
    source.copy(target)
    return
  target.mkdir()
  for path in source.iterdir():
    _copy(path, target / path.name)
