"""The nearest rows of a corpus: exact, in blocks, and the same on every machine.

In floating point a sum depends on the order in which it is taken, and that on the
shapes and the machine: films that are equally near would change places with the block
size or the mesh. So rows are compared in fixed point. A coordinate of a unit row is
`rough / ROUGH + fine / (ROUGH * FINE)`, two whole numbers; every sum of products of
such numbers is a whole number below 2**24, which float32 holds exactly in any order.
"""

import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from jaxrg import sharding

ROUGH, FINE = 2**11, 2**9
WIDEST = 240  # Of more columns `fine` might not sum exactly.
QUERIES = 256  # Compared at once, on each device.
GROUP = 64  # Neighbouring rows of the corpus that are ranked by their best first.
NEVER = -jnp.inf


def top_k(
  queries: np.ndarray,
  corpus: np.ndarray,
  *,
  k: int,
  query_patients: np.ndarray,
  corpus_patients: np.ndarray,
  block_size: int = 8192,
  mesh: Mesh | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """The nearest k rows of the corpus (m d) for each query (q d), by inner product.

  Rows have length one at most, `*_patients` are ids (q,) and (m,), and nothing of a
  query's own patient is near it. Returns indices (q k) int32, -1 where there are no
  more rows, and scores (q k) float32: best first, of equals the first in the corpus,
  within 3e-5 of the product in real numbers and mostly within 1e-6. Queries are spread
  over the mesh and the corpus is on every device; `block_size` rows of it are compared
  at once, which changes no result. Raises ValueError for rows that are too long, too
  wide or not finite (spec eir 4.4).
  """
  if k < 1 or block_size < 1:
    raise ValueError(f"k={k} and block_size={block_size} must be at least 1.")
  _check(queries, "queries", query_patients)
  _check(corpus, "corpus", corpus_patients)
  if len(queries) == 0 or len(corpus) == 0:
    return _nothing(len(queries), k)
  mesh = mesh or sharding.make_mesh((-1, 1, 1))
  of_queries, of_corpus = _numbered(query_patients, corpus_patients)
  block_size = min(block_size, -(-len(corpus) // GROUP) * GROUP)
  everywhere = lambda rows, filling: _place(
    _padded(rows, block_size, filling).reshape(-1, block_size, *rows.shape[1:]),
    NamedSharding(mesh, P()),
  )
  blocks = everywhere(np.asarray(corpus, np.float32), 0), everywhere(of_corpus, -1)
  spread, search = NamedSharding(mesh, P(mesh.axis_names)), _make_search(mesh, k)
  found = [
    search(*(_place(rows, spread) for rows in part), *blocks)
    for part in _parts(queries, of_queries, QUERIES * mesh.size)
  ]
  indices, scores = (sharding.gather(column)[: len(queries)] for column in zip(*found))
  return indices, scores


def _check(rows: np.ndarray, name: str, patients: np.ndarray) -> None:
  if patients.shape != (len(rows),):
    raise ValueError(
      f"The patients of the {len(rows)} {name} must be ({len(rows)},), not "
      f"{patients.shape}."
    )
  if rows.shape[1] > WIDEST:
    raise ValueError(
      f"The {name} have {rows.shape[1]} columns; at most {WIDEST} are compared exactly."
    )
  lengths = np.sqrt(np.einsum("md,md->m", rows, rows))
  if (wrong := ~(lengths < 1.001)).any():  # So that nan is wrong.
    raise ValueError(
      f"Row {wrong.argmax()} of the {name} has length {lengths[wrong.argmax()]}; "
      "rows must have length one."
    )


def _nothing(num_queries: int, k: int) -> tuple[np.ndarray, np.ndarray]:
  shape = num_queries, k
  return np.full(shape, -1, np.int32), np.full(shape, NEVER, np.float32)


def _numbered(*patients: np.ndarray) -> list[np.ndarray]:
  """Patients as int32, equal for equal ones of all the arrays."""
  _, numbers = np.unique(np.concatenate(patients), return_inverse=True)
  ends = np.cumsum([len(ids) for ids in patients])[:-1]
  return np.split(numbers.astype(np.int32), ends)


def _padded(rows: np.ndarray, multiple: int, filling: int) -> np.ndarray:
  missing = -len(rows) % multiple
  if not missing:
    return rows
  return np.concatenate(
    [rows, np.full((missing, *rows.shape[1:]), filling, rows.dtype)]
  )


def _parts(queries, patients, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  for start in range(0, len(queries), size):
    part = np.asarray(queries[start : start + size], np.float32)
    yield _padded(part, size, 0), _padded(patients[start : start + size], size, -1)


def _place(x: np.ndarray, where: NamedSharding) -> jax.Array:
  """An array that every process has whole, where it belongs on the mesh."""
  return jax.make_array_from_callback(x.shape, where, x.__getitem__)


@functools.cache
def _make_search(mesh: Mesh, k: int):
  """The jitted `_search`, queries over all devices of the mesh."""
  rows, whole = P(mesh.axis_names), P()
  # Left to itself, the compiler gathers what a `top_k` chooses from on every device.
  search = jax.shard_map(
    functools.partial(_search, k=k),
    mesh=mesh,
    in_specs=(rows, rows, whole, whole),
    out_specs=(rows, rows),
    check_vma=False,
  )
  return jax.jit(search)


def _search(
  queries: Float[Array, "q d"],
  patients: Int[Array, "q"],
  corpus: Float[Array, "blocks m d"],
  corpus_patients: Int[Array, "blocks m"],
  *,
  k: int,
) -> tuple[Int[Array, "q k"], Float[Array, "q k"]]:
  """The nearest of the corpus, of which a row without a patient is padding."""
  fixed = _fixed(queries)

  def merge(best, block):
    rows, of, start = block
    scores = _inner(fixed, _fixed(rows))
    excluded = (of == patients[:, None]) | (of < 0)
    columns, scores = _best(jnp.where(excluded, NEVER, scores), k)
    # Of equals the first is kept, and what was found before stands before.
    both = lambda old, new: jnp.concatenate([old, new], axis=1)
    scores, place = jax.lax.top_k(both(best[1], scores), k)
    indices = jnp.take_along_axis(both(best[0], start + columns), place, axis=1)
    return (indices, scores), None

  num_blocks, block_size, _ = corpus.shape
  starts = jnp.arange(num_blocks, dtype=jnp.int32) * block_size
  shape = len(queries), k
  none = jnp.full(shape, -1, jnp.int32), jnp.full(shape, NEVER, jnp.float32)
  (indices, scores), _ = jax.lax.scan(merge, none, (corpus, corpus_patients, starts))
  return jnp.where(scores == NEVER, -1, indices), scores


def _fixed(
  x: Float[Array, "n d"],
) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
  """Rough and fine part of each coordinate, whole numbers."""
  rough = jnp.round(x * ROUGH)
  return rough, jnp.round((x * ROUGH - rough) * FINE)


def _inner(queries, corpus) -> Float[Array, "q m"]:
  """Inner products of rows in fixed point, but for fine times fine: below 2e-5."""
  dot = functools.partial(jnp.einsum, "qd,md->qm", precision="highest")
  join = functools.partial(jnp.concatenate, axis=1)
  rough = dot(queries[0], corpus[0])
  fine = dot(join(queries), join(corpus[::-1]))
  scores = (rough + fine / FINE) / ROUGH**2
  return jnp.where(scores == 0, 0.0, scores)  # A zero with a sign is another rank.


def _best(
  scores: Float[Array, "q m"], k: int
) -> tuple[Int[Array, "q k"], Float[Array, "q k"]]:
  """Columns and values of the highest k of each row, of equals the first.

  They are in the k groups of columns with the highest bests, the first of equals: of
  any other group, k groups have something better than its best. To rank groups is
  cheaper than to rank columns.
  """
  size = math.gcd(scores.shape[1], GROUP)
  groups = scores.reshape(len(scores), -1, size)
  _, chosen = jax.lax.top_k(groups.max(axis=-1), min(k, groups.shape[1]))
  chosen = jnp.sort(chosen, axis=1)
  columns = chosen[..., None] * size + jnp.arange(size, dtype=jnp.int32)
  flat = lambda x: x.reshape(len(scores), -1)
  candidates = flat(jnp.take_along_axis(groups, chosen[..., None], axis=1))
  values, place = jax.lax.top_k(candidates, min(k, candidates.shape[1]))
  return jnp.take_along_axis(flat(columns), place, axis=1), values
