"""The nearest rows of a corpus, against a plain sort."""

import re

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrg import retrieval, sharding

CUBE, SPREAD = sharding.make_mesh((2, 2, 2)), sharding.make_mesh((8, 1, 1))


@pytest.fixture(scope="module", autouse=True)
def small_groups():
  """So that a block of a few rows has several."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(retrieval, "GROUP", 8)
    yield


def unit(rows):
  return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def patients(numbers):
  return np.array([f"p{number}" for number in numbers])


def plain(queries, corpus, of_queries, of_corpus, k):
  """A stable sort of the products in whole numbers, as fixed point defines them."""

  def fixed(x):
    rough = np.round(x.astype(np.float64) * 2**11)
    return rough, np.round((x.astype(np.float64) * 2**11 - rough) * 2**9)

  (rough, fine), (rough_m, fine_m) = fixed(queries), fixed(corpus)
  sums = rough @ rough_m.T + (rough @ fine_m.T + fine @ rough_m.T) / 2**9
  scores = sums.astype(np.float32) / np.float32(2**22)
  same = of_queries[:, None] == of_corpus[None]
  scores = np.where(same, -np.inf, scores)
  indices = np.argsort(-scores, axis=1, kind="stable")
  scores = np.take_along_axis(scores, indices, axis=1)
  indices = np.where(np.isneginf(scores), -1, indices)
  short = ((0, 0), (0, max(0, k - len(corpus))))
  pad = lambda x, filling: np.pad(x, short, constant_values=filling)[:, :k]
  return pad(indices, -1), pad(scores, -np.inf)


def assert_same(found, expected):
  for x, y in zip(found, expected, strict=True):
    np.testing.assert_array_equal(x, y)


@st.composite
def searches(draw):
  """Few rows of few directions, so that many are equally near; some directions odd."""
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  directions = np.concatenate([np.eye(4), -np.eye(4), rng.normal(size=(3, 4))])
  directions = unit(directions)
  directions[rng.random(directions.shape) < 0.1] *= -1  # Zeros with a sign, too.
  sizes = {"q": draw(st.integers(1, 12)), "m": draw(st.integers(1, 40))}
  rows = [directions[rng.integers(11, size=size)] for size in sizes.values()]
  of = [patients(rng.integers(6, size=size)) for size in sizes.values()]
  return *rows, *of, draw(st.sampled_from([1, 3, 50]))


@settings(max_examples=25)
@given(searches(), st.sampled_from([16, 64]))
def test_a_plain_sort(search, block_size):
  """Also where k is more than there are, all are of one patient, or most are tied."""
  queries, corpus, of_queries, of_corpus, k = search
  # Few shapes, so that few programs: the rest of the corpus are the first one's.
  few = np.concatenate([corpus, np.repeat(corpus[:1], 64 - len(corpus), axis=0)])
  of = np.concatenate([of_corpus, np.full(64 - len(corpus), "p7")])
  found = retrieval.top_k(
    queries,
    few,
    k=k,
    query_patients=of_queries,
    corpus_patients=of,
    block_size=block_size,
    mesh=SPREAD,
  )
  assert_same(found, plain(queries, few, of_queries, of, k))


@pytest.fixture(scope="module")
def films():
  """600 rows in clumps, 5 of a patient; every tenth is a copy of an earlier one."""
  rng = np.random.default_rng(0)
  rows = unit(
    rng.normal(size=(600, 32)) + 2 * rng.normal(size=(8, 32))[np.arange(600) % 8]
  )
  rows[10::10] = rows[rng.integers(10, size=59)]
  return rows, patients(np.arange(600) // 5)


def neighbours(films, block_size=128, mesh=SPREAD, k=10):
  rows, of = films
  options = {"query_patients": of, "corpus_patients": of, "block_size": block_size}
  return retrieval.top_k(rows, rows, k=k, mesh=mesh, **options)


def test_no_film_is_near_itself_or_its_patient(films):
  """Spec eir 12, 13: no self, no same patient."""
  rows, of = films
  indices, scores = neighbours(films)
  assert (indices >= 0).all()
  assert (of[indices] != of[:, None]).all()
  assert_same((indices, scores), plain(rows, rows, of, of, 10))
  # Without patients in common each is its own nearest.
  other = np.arange(1000, 1600)
  indices, scores = retrieval.top_k(
    rows[1:10], rows, k=1, query_patients=patients(other[1:10]), corpus_patients=of
  )
  np.testing.assert_array_equal(indices[:, 0], np.arange(1, 10))
  np.testing.assert_allclose(scores, 1, atol=1e-5)


def test_ties_are_broken_by_the_order_of_the_corpus():
  """Spec eir 12, 13: deterministic ties."""
  corpus = np.eye(4, dtype=np.float32)[np.arange(200) % 2]
  query, mine = np.eye(4, dtype=np.float32)[[1, 3]], patients([500, 501])
  of = patients(np.arange(200))
  indices, scores = retrieval.top_k(
    query, corpus, k=120, query_patients=mine, corpus_patients=of, block_size=32
  )
  odd, even = np.arange(1, 200, 2), np.arange(0, 40, 2)
  np.testing.assert_array_equal(indices[0], np.concatenate([odd, even]))
  np.testing.assert_array_equal(indices[1], np.arange(120))
  np.testing.assert_array_equal(scores[0], [1] * 100 + [0] * 20)


@pytest.mark.parametrize("block_size", [7, 128, 1000])
@pytest.mark.parametrize("mesh", [SPREAD, CUBE], ids=["8x1x1", "2x2x2"])
def test_blocks_and_the_mesh_change_nothing(films, block_size, mesh, monkeypatch):
  """Spec eir 12, 13: deterministic, bit for bit, whatever is compared at once."""
  expected = neighbours(films)
  monkeypatch.setattr(retrieval, "QUERIES", block_size // 4 + 1)
  assert_same(neighbours(films, block_size, mesh), expected)


def test_float64_finds_the_same(films):
  """Fixed point is as good as float32: what differs is nearer than that."""
  rows, of = films
  indices, scores = neighbours(films)
  products = rows.astype(np.float64) @ rows.T.astype(np.float64)
  np.testing.assert_allclose(
    scores, np.take_along_axis(products, indices, axis=1), atol=5e-6
  )
  products[of[:, None] == of[None]] = -np.inf
  best = -np.sort(-products, axis=1)[:, :10]
  np.testing.assert_allclose(scores, best, atol=5e-6)


def test_one_program_without_collectives(films):
  rows, of = films
  search = retrieval._make_search(CUBE, 10)
  place = lambda x, *axes: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=NamedSharding(CUBE, P(*axes))
  )
  of_rows = np.zeros(600, np.int32)
  queries = place(rows, CUBE.axis_names), place(of_rows, CUBE.axis_names)
  corpus = place(rows.reshape(6, 100, 32)), place(of_rows.reshape(6, 100))
  text = search.lower(*queries, *corpus).compile().as_text()
  assert not re.search("all-|collective-|reduce-scatter", text)

  before = search._cache_size()
  for count in (3, 40, 600):
    retrieval.top_k(
      rows[:count],
      rows,
      k=10,
      query_patients=of[:count],
      corpus_patients=of,
      block_size=100,
      mesh=CUBE,
    )
  assert search._cache_size() == before + 1


def test_nothing_to_find():
  rows, of = np.eye(3, dtype=np.float32), patients([0, 0, 0])
  options = {"k": 2, "query_patients": of, "mesh": SPREAD}
  for corpus in (rows, rows[:0]):
    indices, scores = retrieval.top_k(
      rows, corpus, corpus_patients=of[: len(corpus)], **options
    )
    np.testing.assert_array_equal(indices, np.full((3, 2), -1))
    np.testing.assert_array_equal(scores, np.full((3, 2), -np.inf))
    assert (indices.dtype, scores.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"k": 0}, "k=0"),
    ({"block_size": 0}, "block_size=0"),
    ({"queries": np.full((2, 3), np.nan, np.float32)}, "Row 0 of the queries .* nan"),
    ({"corpus": np.diag(np.float32([1, 1, 2]))}, "Row 2 of the corpus has length 2.0"),
    ({"corpus_patients": patients([0, 1])}, r"must be \(3,\), not \(2,\)"),
    ({"queries": np.zeros((2, 512), np.float32)}, "512 columns; at most 240"),
  ],
)
def test_what_cannot_be_compared(change, message):
  arguments = {
    "queries": np.eye(3, dtype=np.float32)[:2],
    "corpus": np.eye(3, dtype=np.float32),
    "query_patients": patients([5, 6]),
    "corpus_patients": patients([0, 1, 2]),
    "k": 1,
  }
  with pytest.raises(ValueError, match=message):
    retrieval.top_k(**arguments | change)
