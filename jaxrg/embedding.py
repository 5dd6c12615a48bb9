"""Studies as an image encoder sees them: one row of length one each (spec eir 4.4)."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from data_pipelines import datasets, loader
from data_pipelines.films import Films
from jaxrg import inference, inputs, losses, sharding
from jaxrg.exports import Export

WHITENING = "whitening"  # The collection, beside the model's, of what features need.
SAMPLE = 2**15  # Films at most that whitening is fitted to.
FLAT = 1e-6  # Directions with less of the first one's variance are noise.
DIVERGED = "the encoder diverged, or its weights are damaged: take another export."


@dataclasses.dataclass(frozen=True)
class Embedded:
  """The studies of a split, sorted by their ids."""

  study_ids: np.ndarray  # s
  patient_ids: np.ndarray  # s
  rows: np.ndarray  # s d, float32, of length one.


def make_embed(
  model: nn.Module, vectors: str
) -> Callable[[Any, Mapping[str, jax.Array]], jax.Array]:
  """The jitted `(variables, batch) -> rows` (b d), of length one, of films.

  By `vectors` they are the `head`'s output, or pooled `features` that are whitened, for
  which the variables also hold what `whitening` gives.
  """

  def embed(variables, batch):
    if vectors == "head":
      return losses.unit(model.apply(variables, batch["image"], method="embed"))
    known = {name: tree for name, tree in variables.items() if name != WHITENING}
    features = model.apply(known, batch["image"], method="features")
    fitted = variables[WHITENING]
    return losses.unit((features - fitted["mean"]) @ fitted["axes"])

  return jax.jit(embed)


def whitening(features: np.ndarray, width: int) -> dict[str, np.ndarray]:
  """The `mean` (c) and `axes` (c d) that make rows (n c) uncorrelated, of variance one.

  Of few steps of contrast an encoder's features lie along a line or two, which every
  cosine between them then measures; whitened, all that they tell counts alike. The d
  axes, `width` at most, are those of most variance. Raises ValueError where features
  are not finite or all the same.
  """
  if not np.isfinite(features).all():
    raise ValueError(f"Features of films are not finite; {DIVERGED}")
  mean = features.mean(axis=0, dtype=np.float64)
  centred = features - mean
  variances, axes = np.linalg.eigh(centred.T @ centred / len(features))
  variances, axes = variances[::-1], axes[:, ::-1]
  kept = min(width, int((variances > FLAT * max(variances[0], 1e-12)).sum()))
  if not kept:
    raise ValueError(f"The encoder sees all films alike; {DIVERGED}")
  axes = axes[:, :kept] / np.sqrt(variances[:kept])
  return {"mean": mean.astype(np.float32), "axes": axes.astype(np.float32)}


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
      f"finite; {DIVERGED}"
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


def prepare(
  export: Export,
  corpus: str,
  mesh: Mesh,
  *,
  batch_size: int,
  data_name: str | None = None,
  data_dir: str | None = None,
) -> dict[str, Any]:
  """What `make_embed` needs beside the export's variables, for its own `vectors`.

  Whitening is fitted to films of the split `corpus`, evenly spaced. Raises as
  `embed_split` does, and as `whitening`.
  """
  recipe = export.config.retrieve
  if recipe.vectors == "head":
    return {}
  _, films, indices = _films(export, corpus, data_name, data_dir)
  indices = indices[:: -(-len(indices) // SAMPLE)]
  features = jax.jit(
    lambda variables, batch: export.model.apply(
      variables, batch["image"], method="features"
    )
  )
  found = _of_films(features, export.variables, films, indices, mesh, batch_size)
  return {WHITENING: whitening(found, recipe.width)}


def embed_split(
  export: Export,
  added: Mapping[str, Any],
  split: str,
  mesh: Mesh,
  *,
  batch_size: int,
  data_name: str | None = None,
  data_dir: str | None = None,
) -> Embedded:
  """The studies of a split of a data set; without its name, of the export's.

  `added` is what `prepare` found. Films that cannot be read are left out where the
  export's config says so. Raises ValueError where there is no such split, or its
  batches do not fit the mesh.
  """
  source, films, indices = _films(export, split, data_name, data_dir)
  owners = [
    (record["study_id"], record["patient_id"])
    for record in (loader.parse_text(source, index) for index in indices)
  ]
  embed = make_embed(export.model, export.config.retrieve.vectors)
  variables = {**export.variables, **added}
  rows = _of_films(embed, variables, films, indices, mesh, batch_size)
  return of_studies(rows, *zip(*owners))


def _films(
  export: Export, split: str, data_name: str | None, data_dir: str | None
) -> tuple[Sequence[Any], Films, Sequence[int]]:
  """A split, its films, and the indices of those that are read."""
  data = export.config.data
  source = datasets.load(data_name or data.name, split, data_dir or data.data_dir)
  films = inputs.eir.read_films(export.config, source)
  indices = films.readable()[0] if data.skip_damaged else range(len(films))
  return source, films, indices


def _of_films(
  embed: Callable,
  variables: Any,
  films: Films,
  indices: Sequence[int],
  mesh: Mesh,
  batch_size: int,
) -> np.ndarray:
  """`embed_films` of the films at some indices."""
  sharding.check_rows(batch_size, mesh, "retrieve.batch_size")
  batches = loader.eval_batches(
    films,
    batch_size=batch_size,
    indices=indices,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  with jax.set_mesh(mesh), nn.logical_axis_rules(sharding.AXIS_RULES):
    return embed_films(embed, variables, batches, mesh)
