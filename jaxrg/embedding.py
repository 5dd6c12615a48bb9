"""Studies as an image encoder sees them: one row of length one each (spec eir 4.4)."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from data_pipelines import datasets, loader
from jaxrg import inference, inputs, losses, sharding
from jaxrg.exports import Export


@dataclasses.dataclass(frozen=True)
class Embedded:
  """The studies of a split, sorted by their ids."""

  study_ids: np.ndarray  # s
  patient_ids: np.ndarray  # s
  rows: np.ndarray  # s d, float32, of length one.


def make_embed(
  model: nn.Module,
) -> Callable[[Any, Mapping[str, jax.Array]], jax.Array]:
  """The jitted `(variables, batch) -> rows` (b d), of length one, of films."""

  def embed(variables, batch):
    return losses.unit(model.apply(variables, batch["image"], method="embed"))

  return jax.jit(embed)


def embed_films(
  embed: Callable,
  variables: Any,
  batches: Iterable[Mapping[str, np.ndarray]],
  mesh: Mesh,
) -> np.ndarray:
  """Rows (n d) of all films in their order; every process gets all of them.

  Batches have `image` (b h w 1) uint8 and `valid` (b).
  """
  wanted = ("image", "valid")
  films = ({name: batch[name] for name in wanted} for batch in batches)
  (rows,) = inference.collect(lambda batch: (embed(variables, batch),), films, mesh)
  return rows


def study_means(
  embeddings: np.ndarray, study_ids: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
  """Sorted ids of the studies (s), and the mean direction of each one's films (s d).

  `study_ids` name the study of each film (n d). Raises ValueError, naming the study,
  where a film's embedding is not finite.
  """
  names, study = np.unique(np.asarray(study_ids, str), return_inverse=True)
  if (wrong := ~np.isfinite(embeddings).all(axis=1)).any():
    raise ValueError(
      f"A film of study {names[study[wrong.argmax()]]} has an embedding that is not "
      "finite; the encoder diverged, or its weights are damaged: take another export."
    )
  sums = np.zeros((len(names), embeddings.shape[1]))
  np.add.at(sums, study, embeddings)
  lengths = np.linalg.norm(sums, axis=1, keepdims=True)
  return names, (sums / np.maximum(lengths, 1e-12)).astype(np.float32)


def of_studies(
  embeddings: np.ndarray, study_ids: Sequence[str], patient_ids: Sequence[str]
) -> Embedded:
  """Studies from the embeddings (n d) of their films; each film's study and patient.

  Raises ValueError, naming it, for a study of two patients.
  """
  names, rows = study_means(embeddings, study_ids)
  pairs = np.unique(np.stack([study_ids, patient_ids], axis=1).astype(str), axis=0)
  if len(pairs) != len(names):
    studies, counts = np.unique(pairs[:, 0], return_counts=True)
    twice = studies[counts.argmax()]
    patients = ", ".join(pairs[pairs[:, 0] == twice, 1])
    raise ValueError(f"Study {twice} is of several patients: {patients}.")
  return Embedded(names, pairs[:, 1], rows)


def embed_split(
  export: Export,
  split: str,
  mesh: Mesh,
  *,
  batch_size: int,
  data_name: str | None = None,
  data_dir: str | None = None,
) -> Embedded:
  """The studies of a split of a data set; without its name, of the export's.

  Films that cannot be read are left out where the export's config says so. Raises
  ValueError where there is no such split, or its batches do not fit the mesh.
  """
  data = export.config.data
  sharding.check_rows(batch_size, mesh, "retrieve.batch_size")
  source = datasets.load(data_name or data.name, split, data_dir or data.data_dir)
  films = inputs.eir.read_films(export.config, source)
  indices = films.readable()[0] if data.skip_damaged else range(len(films))
  owners = [
    (record["study_id"], record["patient_id"])
    for record in (loader.parse(source, index) for index in indices)
  ]
  batches = loader.eval_batches(
    films,
    batch_size=batch_size,
    indices=indices,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  with jax.set_mesh(mesh), nn.logical_axis_rules(sharding.AXIS_RULES):
    rows = embed_films(make_embed(export.model), export.variables, batches, mesh)
  return of_studies(rows, *zip(*owners))
