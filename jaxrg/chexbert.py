"""Labels of reports by CheXbert's own weights, which a user has.

No weights are shipped or fetched: the published link is dead, and their licence is the
user's to read. `chexbert.pth` (or safetensors) and the `vocab.txt` of bert-base-uncased
are files of the user's; their sha256 is told, for "CheXbert" has been several files.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.records import ABSENT, LABELS, PRESENT, UNCERTAIN, UNMENTIONED
from jaxrg import convert, weights
from jaxrg.models.bert import Bert
from jaxrg.models.chexbert import CONDITIONS, STATES, CheXbert
from jaxrg.wordpiece import WordPieces

# CheXbert's own order of labels is that of `records.LABELS`.
CODES = np.array([UNMENTIONED, PRESENT, ABSENT, UNCERTAIN], np.int8)
MAX_LENGTH = 512  # Word pieces; of a longer report the first, and the end.
BUCKET = 64  # Lengths are padded to multiples of it: few programs are compiled.


class Labeler:
  """CheXbert, ready to read; made once, used for any number of reports."""

  def __init__(
    self,
    path: str | os.PathLike,
    vocabulary: str | os.PathLike,
    *,
    batch_size: int = 32,
    dtype: jnp.dtype = jnp.float32,
  ):
    """Raises OSError or ValueError, naming the file, where one is not what it should.

    Weights are checked to be CheXbert's, and to have as many words as the vocabulary.
    """
    found = weights.read(path)
    self.model, self._params = from_state(found.state, found.source, dtype)
    self._pieces = WordPieces(vocabulary)
    if (count := len(self._pieces)) != (words := self.model.bert.vocab_size):
      raise ValueError(
        f"{vocabulary} has {count:,} words, and CheXbert's weights are of {words:,}: "
        "it is another model's vocabulary."
      )
    self._batch_size = batch_size
    self._apply = jax.jit(lambda params, *batch: _states(self.model, params, *batch))
    self.sha256 = {os.fspath(p): _sha256(p) for p in (found.source, vocabulary)}

  def labels(self, texts: Sequence[str]) -> np.ndarray:
    """The labels (n 14) int8 of reports, as `records.LABELS` and their states."""
    ids = [self._pieces.encode(" ".join(t.split()), MAX_LENGTH) for t in texts]
    states = np.zeros((len(texts), len(LABELS)), np.int8)
    for rows, tokens, mask in _batches(ids, self._batch_size):
      found = self._apply(self._params, tokens, mask)
      states[rows] = np.asarray(found)[: len(rows)]
    return CODES[states]


def from_state(
  state: Mapping[str, np.ndarray], source: str, dtype: jnp.dtype = jnp.float32
) -> tuple[CheXbert, dict]:
  """The model and params of a state dict of CheXbert's, `module.` before it or not.

  Raises ValueError, naming `source`, where it is another model's.
  """
  state = {key.removeprefix("module."): value for key, value in state.items()}
  heads = []
  for i in range(CONDITIONS + 1):
    names = [f"linear_heads.{i}.{part}" for part in ("weight", "bias")]
    if missing := [name for name in names if name not in state]:
      raise ValueError(
        f"{source} is no CheXbert: it has no {missing[0]}, but {len(state)} others, "
        f"such as {min(state, default='none')}."
      )
    heads.append(tuple(map(state.pop, names)))
  sizes = [len(bias) for _, bias in heads]
  if sizes != [STATES] * CONDITIONS + [2]:
    raise ValueError(f"{source} is no CheXbert: its heads tell {sizes} states apart.")
  words, width = state["bert.embeddings.word_embeddings.weight"].shape
  num_heads = width // 64  # As in every published BERT.
  try:
    bert = convert.bert(state, num_heads=num_heads)
  except (KeyError, ValueError) as error:
    raise ValueError(f"{source}: {error}") from error
  model = CheXbert(
    Bert(
      vocab_size=words,
      num_layers=sum(name.startswith("layer_") for name in bert),
      num_heads=num_heads,
      width=width,
      mlp_dim=bert["layer_0"]["mlp"]["wi"]["bias"].shape[0],
      max_length=bert["positions"].shape[0],
      dtype=dtype,
    )
  )
  conditions, (kernel, bias) = heads[:-1], heads[-1]
  stack = lambda i, axis: np.stack([head[i].T for head in conditions], axis=axis)
  params = {
    "bert": bert,
    "conditions": {"kernel": stack(0, 1), "bias": stack(1, 0)},
    "no_finding": {"kernel": kernel.T, "bias": bias},
  }
  return model, jax.tree.map(jnp.asarray, params)


def _states(model: CheXbert, params, tokens, mask) -> jax.Array:
  conditions, no_finding = model.apply({"params": params}, tokens, mask)
  found = [jnp.argmax(conditions, axis=-1), jnp.argmax(no_finding, axis=-1)[:, None]]
  return jnp.concatenate(found, axis=1).astype(jnp.int8)


def _batches(
  ids: Sequence[Sequence[int]], batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Which reports, their tokens and masks; reports of like length come together."""
  lengths = np.array([len(row) for row in ids], int)
  order = np.argsort(lengths, kind="stable")
  for start in range(0, len(order), batch_size):
    rows = order[start : start + batch_size]
    longest = -(-lengths[rows].max() // BUCKET) * BUCKET
    tokens = np.zeros((batch_size, longest), np.int32)
    mask = np.zeros((batch_size, longest), bool)
    mask[:, 0] = True  # Rows that are no reports read one token, and nobody them.
    for place, row in enumerate(rows):
      tokens[place, : lengths[row]] = ids[row]
      mask[place, : lengths[row]] = True
    yield rows, tokens, mask


def _sha256(path: str | os.PathLike) -> str:
  digest = hashlib.sha256()
  with open(path, "rb") as file:
    while block := file.read(1 << 20):
      digest.update(block)
  return digest.hexdigest()
