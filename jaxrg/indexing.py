"""Who is alike: the neighbours of every study, by the image encoder of an export."""

import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from data_pipelines import files
from jaxrg import (
  checkpoint,
  embedding,
  exports,
  neighbours,
  retrieval,
  retriever,
  sharding,
)
from jaxrg.embedding import Embedded

SPLITS = (neighbours.CORPUS, "validation", "test")


def build(
  directory: epath.PathLike,
  out: epath.PathLike,
  *,
  k: int,
  batch_size: int,
  splits: Sequence[str] = SPLITS,
  data_name: str | None = None,
  data_dir: str | None = None,
  retriever_out: epath.PathLike | None = None,
) -> str:
  """Writes the `k` neighbours of every study of a data set, the export's, to `out`.

  And to `retriever_out` what finds those of a new film. Returns what was done, in a
  few lines. Raises FileNotFoundError or ValueError where the export has no image
  encoder (spec eir 4.4).
  """
  mesh = sharding.make_mesh((-1, 1, 1))
  if exports.paper(directory) != "eir":
    raise ValueError(f"{directory} is no export of EIR's, and embeds no images.")
  variables = checkpoint.load_arrays(directory)
  encoder = neighbours.checksum(variables)
  export = exports.read(directory, mesh, method="embed")
  data_name = data_name or export.config.data.name
  began = time.perf_counter()
  options = {"batch_size": batch_size, "data_name": data_name, "data_dir": data_dir}
  added = embedding.prepare(export, neighbours.CORPUS, mesh, **options)
  embedded = {
    split: embedding.embed_split(
      export,
      added,
      split,
      mesh,
      **options,
    )
    for split in splits
  }
  middle = time.perf_counter()
  found = make(embedded, k=k, encoder=encoder, data_name=data_name, mesh=mesh)
  end = time.perf_counter()
  corpus = embedded[neighbours.CORPUS]
  if jax.process_index() == 0:
    if retriever_out is not None:
      made = retriever.make(variables | added, corpus)
      files.write(retriever_out, made.to_bytes())
    found.write(out)
  sharding.wait("neighbours written")
  return _told(found, middle - began, end - middle)


def make(
  splits: Mapping[str, Embedded],
  *,
  k: int,
  encoder: str,
  data_name: str,
  block_size: int = 8192,
  mesh: Mesh | None = None,
) -> neighbours.Neighbours:
  """The neighbours of every study, of which those of `train` are the corpus.

  `block_size` and `mesh` are as in `retrieval.top_k`. Raises ValueError without a
  training split, for studies out of order and for one that is there twice.
  """
  if neighbours.CORPUS not in splits:
    raise ValueError(
      f"Neighbours come from the split {neighbours.CORPUS}, but there is only "
      f"{', '.join(splits) or 'none'}."
    )
  _check_studies(splits)
  corpus = splits[neighbours.CORPUS]
  found = {}
  for name, split in splits.items():
    indices, scores = retrieval.top_k(
      split.rows,
      corpus.rows,
      k=k,
      query_patients=split.patient_ids,
      corpus_patients=corpus.patient_ids,
      block_size=block_size,
      mesh=mesh,
    )
    own = corpus.patient_ids[indices] == split.patient_ids[:, None]
    assert not (own & (indices >= 0)).any(), "a neighbour of the same patient"
    found[name] = neighbours.Found(split.study_ids, indices, scores)
  return neighbours.Neighbours(data_name, encoder, corpus.study_ids, found)


def _check_studies(splits: Mapping[str, Embedded]) -> None:
  seen = {}
  for name, split in splits.items():
    if (split.study_ids[:-1] > split.study_ids[1:]).any():
      raise ValueError(
        f"The studies of {name} must be sorted by their ids: of equally near ones the "
        "first by id is nearer."
      )
    for study_id in split.study_ids:
      if study_id in seen:
        raise ValueError(
          f"Study {study_id} is in {seen[study_id]} and again in {name}; each study is "
          "in one split, once."
        )
      seen[study_id] = name


def checksum(directory: epath.PathLike) -> str:
  """`neighbours.checksum` of an export's image encoder."""
  return neighbours.checksum(checkpoint.load_arrays(directory))


def _told(found: neighbours.Neighbours, embedding_s: float, searching_s: float) -> str:
  parts = found.splits.values()
  count = sum(len(part.study_ids) for part in parts)
  fewer = sum(int((part.indices[:, -1] < 0).sum()) for part in parts)
  nearest = np.concatenate([part.scores[:, 0] for part in parts])
  lines = [
    f"{count} studies, embedded in {embedding_s:.0f} s; searched among the "
    f"{len(found.corpus)} of {neighbours.CORPUS} at {count / searching_s:.0f} a second",
    f"the nearest of another patient: cosine {np.median(nearest):.3f} (median)",
  ]
  if fewer:
    lines.append(f"{fewer} studies have fewer than {found.k} neighbours")
  return "\n".join(lines)
