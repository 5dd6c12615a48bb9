"""Films of a split, and what a frozen image encoder makes of them."""

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec

from data_pipelines import datasets, files, loader
from data_pipelines.films import Films as OneByOne
from data_pipelines.records import PRESENT
from jaxrg import checkpoint, inference, models, sharding

# What an encoder has that was trained; a stage may export more.
VARIABLES = ("params", "batch_stats")


@dataclasses.dataclass(frozen=True)
class Films:
  """Some films of a split, n of them, and whose they are."""

  split: str
  source: Sequence[Any]
  indices: Sequence[int]  # In the source.
  patients: np.ndarray  # (n,)
  studies: np.ndarray  # (n,)
  present: np.ndarray  # (n 14) bool: which of LABELS are said to be there.

  def __len__(self) -> int:
    return len(self.indices)


def load(
  name: str, split: str, data_dir: str | None = None, most: int | None = None
) -> Films:
  """The films of a split of the data set `name`, or `most` of them, evenly spread.

  Raises ValueError where there are none, or one is damaged.
  """
  source = datasets.load(name, split, data_dir)
  if not len(source):
    raise ValueError(f"The split {split} of {name} has no films.")
  indices = loader.spread(len(source), most or len(source))
  of = {"patient_id": [], "study_id": [], "labels": []}
  for index in indices:
    record = loader.parse_text(source, index)
    for field, values in of.items():
      values.append(record[field])
  present = np.stack(of["labels"]) == PRESENT
  patients, studies = np.array(of["patient_id"]), np.array(of["study_id"])
  return Films(split, source, indices, patients, studies, present)


def of(export: epath.Path, films: Films) -> np.ndarray:
  """The pooled features (n c) that a stage's encoder has of films; computed once.

  `export` is a stage's in the folder of a run of the films' data set: they are kept
  in that folder.
  """
  path = export.parents[1] / "features" / f"{films.split}-{len(films)}.npy"
  if not path.exists():
    path.parent.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, compute(export, films))
    files.write(path, buffer.getvalue())
  return np.load(io.BytesIO(path.read_bytes()))


def compute(export: epath.Path, films: Films) -> np.ndarray:
  """The pooled features (n c) of films: its model's method `features` of an image."""
  config = ml_collections.ConfigDict(checkpoint.load_config(export)["config"])
  model, mesh = models.build(config.model), sharding.make_mesh((-1, 1, 1))
  stored = checkpoint.load_arrays(export)
  variables = {name: stored[name] for name in VARIABLES if name in stored}
  variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
  stage = config.stages[0]
  sharding.check_rows(config[stage].batch_size, mesh, f"{stage}.batch_size")
  alone = OneByOne(films.source, image_size=config.data.image_size, views=("unk",))
  batches = loader.eval_batches(
    alone, batch_size=config[stage].batch_size, indices=films.indices
  )
  pool = jax.jit(lambda *inputs: model.apply(*inputs, method="features"))
  with jax.set_mesh(mesh), nn.logical_axis_rules(sharding.AXIS_RULES):
    of_rows = lambda rows: (pool(variables, rows["image"]),)
    (pooled,) = inference.collect(of_rows, batches, mesh)
  return pooled.astype(np.float32)
