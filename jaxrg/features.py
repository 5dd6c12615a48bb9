"""What the frozen image encoder of a stage makes of its films, computed once.

The published pipeline never changes a film and never trains the encoder, whose last
hidden states are all that stage 1 reads of a film (spec priorrg 2.3): so that they can
be read from disk instead, in bfloat16.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from etils import epath
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from data_pipelines import building, datasets, feature_store, loader
from data_pipelines.feature_store import FeatureStore
from data_pipelines.films import Films
from jaxrg import checkpoint, models, optim, sharding

SHARD_BYTES = 2**28  # At most a minute's work to lose on an accelerator.


def stage(config: ml_collections.ConfigDict) -> str:
  """The stage of a config that can read features; raises ValueError if none can."""
  for name in config.stages:
    if config[name].objective == "contrastive":
      break
  else:
    raise ValueError(
      f"No stage of {config.paper} reads features: PriorRG's first does, whose image "
      "encoder is frozen."
    )
  if any(config[name].augment.values()):
    raise ValueError(
      f"config.{name}.augment changes films in training, so that they cannot be "
      "encoded before; set it to zeros, or train from films."
    )
  return name


def check_frozen(config: ml_collections.ConfigDict, name: str, variables: Any) -> None:
  """Raises ValueError where a stage changes anything of the image encoder."""
  trained, _ = optim.split(variables["params"], config[name].optim.frozen)
  if "vision" in trained:
    raise ValueError(
      f"Stage {name} trains the image encoder: features need it frozen, by "
      f"--config.{name}.optim.frozen=\"('vision/',)\"."
    )
  if "vision" in variables.get("batch_stats", {}):
    raise ValueError(
      f"The image encoder has batch statistics, which stage {name} changes: features "
      "need config.model.vision.stem.name=patch."
    )


def facts(config: ml_collections.ConfigDict, params: Any) -> dict[str, Any]:
  """What features depend on; `params` are the model's, placed anyhow."""
  keys = ("pixel_mean", "pixel_std", "dtype", "vision")
  model = json.dumps({key: config.model.to_dict()[key] for key in keys}, sort_keys=True)
  mesh = sharding.make_mesh((-1, 1, 1))
  whole = jax.device_put(params["vision"], NamedSharding(mesh, P()))
  digest = hashlib.sha256(model.encode())
  digest.update(checkpoint.digest(traverse_util.flatten_dict(whole, sep="/")).encode())
  return {
    "data": config.data.name,
    "image_size": config.data.image_size,
    "encoder": digest.hexdigest(),
  }


def check(config: ml_collections.ConfigDict, variables: Any) -> None:
  """Raises ValueError where `config.data.features` are not what the stage would see."""
  folder = config.data.features
  check_frozen(config, stage(config), variables)
  found, wanted = FeatureStore(folder).facts, facts(config, variables["params"])
  if differ := [key for key in wanted if found[key] != wanted[key]]:
    told = ", ".join(f"{key} {found[key]} for {wanted[key]}" for key in differ)
    raise ValueError(
      f"config.data.features={folder} are of another {' and '.join(differ)} ({told}); "
      "compute them with this config by `python -m jaxrg.precompute`."
    )


def compute(
  config: ml_collections.ConfigDict,
  variables: Any,
  out: os.PathLike,
  *,
  batch_size: int,
  mesh: Mesh,
) -> str:
  """Writes the features of all films that the stage trains or is validated on.

  What is written already, of the same encoder, stays. Returns what was done, in a line.
  Raises OSError where the disk is too small.
  """
  name = stage(config)
  check_frozen(config, name, variables)
  sharding.check_rows(batch_size, mesh, "batch_size")
  told = facts(config, variables["params"])
  splits = dict.fromkeys(("train", config[name].select_on))
  films = _Films(config, splits)
  model = models.build(config.model)
  encode = jax.jit(functools.partial(model.apply, method="last_hidden"))
  pixels = jax.ShapeDtypeStruct(films[0]["image"][None].shape, np.uint8)
  shape = jax.eval_shape(encode, variables, pixels).shape[1:]
  size = int(np.prod(shape)) * feature_store.DTYPE.itemsize
  print(_need(len(films), shape, size, epath.Path(out)), flush=True)
  variables = jax.device_put(variables, NamedSharding(mesh, P()))
  count = max(1, min(SHARD_BYTES // size, 4096) // batch_size) * batch_size
  starts = range(0, len(films), count)

  def shards() -> Iterator[list[str]]:
    for number, start in enumerate(starts):
      indices = range(start, min(start + count, len(films)))
      digest = _digest(told, [films.id(index) for index in indices])
      ids = feature_store.written(out, number, digest)
      if ids is None:
        batches = loader.eval_batches(films, batch_size=batch_size, indices=indices)
        made = dict(_encoded(encode, variables, batches, films, mesh))
        feature_store.write_shard(out, number, made, digest)
        ids = list(made)
      yield ids

  epath.Path(out).mkdir(parents=True, exist_ok=True)
  with (
    building.alone(out),
    jax.set_mesh(mesh),
    nn.logical_axis_rules(config.axis_rules),
  ):
    done = list(building.progress(shards(), len(films), "features", "film", len))
    feature_store.write_index(out, done, shape, told)
  return (
    f"{len(films)} films of {', '.join(splits)}; encoder sha256 {told['encoder']}\n"
    f"to train from them: --config.data.features={os.fspath(out)}"
  )


class _Films:
  """The films of some splits, in one row, those that are a prior only among them."""

  def __init__(self, config: ml_collections.ConfigDict, splits: Sequence[str]):
    data, self._places, self._ids = config.data, [], []
    for split in splits:
      source = datasets.load(data.name, split, data.data_dir)
      films = Films(source, image_size=data.image_size, views=data.views)
      for index in range(len(getattr(source, "texts", source))):
        self._places.append((films, index))
        self._ids.append(loader.parse_text(source, index)["id"])

  def id(self, index: int) -> str:
    """The id of the record."""
    return self._ids[index]

  def __len__(self) -> int:
    return len(self._places)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    films, place = self._places[index]
    return {"image": films[place]["image"], "index": np.int32(index)}


def _encoded(encode, variables, batches, films: _Films, mesh: Mesh):
  """Id and features (s c) of each film, in order."""
  for batch in batches:
    image = sharding.to_global({"image": batch["image"]}, mesh)["image"]
    features = np.asarray(encode(variables, image).astype(feature_store.DTYPE))
    for index, array, valid in zip(
      batch["index"], features, batch["valid"], strict=True
    ):
      if valid:
        yield films.id(int(index)), array


def _digest(told: dict[str, Any], ids: Sequence[str]) -> str:
  text = json.dumps([told, list(ids)], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def _need(count: int, shape: Sequence[int], size: int, out: epath.Path) -> str:
  """What the features take; raises OSError where there is no room for that."""
  free, there = building.free_bytes(out), 0
  if out.exists():
    there = sum(path.stat().length for path in out.glob("*.array_record"))
  told = (
    f"{count:,} films x {' x '.join(map(str, shape))} x 2 bytes: "
    f"{count * size / 1e9:.3g} GB in {out}, where {free / 1e9:.3g} GB are free"
  )
  if count * size - there > free:
    raise OSError(f"{told}; give another --out.")
  return told
