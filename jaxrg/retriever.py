"""Finds the training studies that a new film looks like (spec eir 4.4).

The encoder that found the neighbours of a run is not the one that it ends with, so
that encoder and what it made of the training studies are kept together.
"""

import dataclasses
import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath
from flax import traverse_util

from jaxrg import embedding, neighbours, retrieval


@dataclasses.dataclass(frozen=True)
class Retriever:
  """An image encoder, and the training studies as it sees them."""

  variables: Mapping[str, Any]  # As `embedding.make_embed` takes them.
  study_ids: np.ndarray  # m
  rows: np.ndarray  # m d, of length one.

  def similar(
    self, embed: Callable, image: np.ndarray, k: int
  ) -> list[tuple[str, float]]:
    """The k studies most like a film (height width 1), uint8, and how much, best first.

    `embed` is what `embedding.make_embed` makes, once for all films. Whose film
    it is nobody knows here: its own patient's studies are among them.
    """
    row = np.asarray(embed(self.variables, {"image": image[None]}))
    indices, scores = retrieval.top_k(
      row,
      self.rows,
      k=k,
      query_patients=np.array([-1]),
      corpus_patients=np.zeros(len(self.rows), int),
    )
    return [
      (str(self.study_ids[index]), float(score))
      for index, score in zip(indices[0], scores[0])
      if index >= 0
    ]

  def to_bytes(self) -> bytes:
    """An npz of all of it."""
    flat = traverse_util.flatten_dict(dict(self.variables), sep="/")
    buffer = io.BytesIO()
    np.savez(buffer, study_ids=self.study_ids, rows=self.rows, **flat)
    return buffer.getvalue()


def make(variables: Mapping[str, Any], corpus: embedding.Embedded) -> Retriever:
  """Of prepared variables those that embed, and of the training split the rows."""
  of_encoder = lambda tree: {k: tree[k] for k in neighbours.ENCODER if k in tree}
  kept = {
    kind: tree if kind == embedding.WHITENING else of_encoder(tree)
    for kind, tree in variables.items()
  }
  return Retriever(kept, corpus.study_ids, corpus.rows)


def read(path: epath.PathLike) -> Retriever:
  """What was written; raises OSError or ValueError, naming the file."""
  try:
    data = epath.Path(path).read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
      arrays = {name: stored[name] for name in stored.files}
    study_ids, rows = arrays.pop("study_ids"), arrays.pop("rows")
  except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise ValueError(f"{path} is damaged: {error}") from error
  return Retriever(traverse_util.unflatten_dict(arrays, sep="/"), study_ids, rows)
