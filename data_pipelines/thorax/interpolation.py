"""Reading and making smooth images: splines, bilinear sampling, soft edges."""

import functools

import numpy as np
from scipy import sparse


@functools.cache
def spline(size: int, nodes: int) -> sparse.csr_matrix:
  """Cubic B-spline weights `size nodes`: every row sums to one.

  Sparse, not for speed alone: threaded products of dense matrices start threads for
  nothing here, and may round otherwise from one machine to the next.
  """
  t = np.linspace(0, nodes - 3, size)[:, None] - np.arange(nodes)[None] + 1
  t = np.abs(t)
  inner, outer = 2 / 3 - t**2 + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6
  return sparse.csr_matrix(np.where(t < 1, inner, outer).astype(np.float32))


def enlarge(grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """A smooth surface of that shape with the grid's values as spline coefficients."""
  rows, cols = (spline(n, k) for n, k in zip(shape, grid.shape))
  return (cols @ (rows @ grid).T).T


def read_at(image: np.ndarray, row: np.ndarray, col: np.ndarray) -> np.ndarray:
  """Bilinear reading at any points, edges repeated."""
  row = np.clip(row, 0, image.shape[0] - 1.001)
  col = np.clip(col, 0, image.shape[1] - 1.001)
  top, left = row.astype(np.int32), col.astype(np.int32)
  down, right = row - top, col - left
  flat, first = image.ravel(), top * image.shape[1] + left
  upper = flat[first] * (1 - right) + flat[first + 1] * right
  first = first + image.shape[1]
  lower = flat[first] * (1 - right) + flat[first + 1] * right
  return upper * (1 - down) + lower * down


def sigmoid(x: np.ndarray) -> np.ndarray:
  return 0.5 + 0.5 * np.tanh(0.5 * x)


def plateau(x: np.ndarray) -> np.ndarray:
  """exp(-x**4): near one within -0.5..0.5, near zero beyond 1.5."""
  return np.exp(-np.square(np.square(x)))


def bilinear(row: np.ndarray, col: np.ndarray, shape: tuple[int, int]):
  """The sparse matrix that reads layers at (row, col), edges repeated."""
  row = np.clip(row.ravel(), 0, shape[0] - 1.001)
  col = np.clip(col.ravel(), 0, shape[1] - 1.001)
  top, left = row.astype(np.int32), col.astype(np.int32)
  down, right = row - top, col - left
  first = top * shape[1] + left
  index = np.stack([first, first + 1, first + shape[1], first + shape[1] + 1], 1)
  up, near = 1 - down, 1 - right
  weight = np.stack([up * near, up * right, down * near, down * right], 1)
  start = np.arange(0, index.size + 1, 4, dtype=np.int32)
  parts = (weight.ravel().astype(np.float32), index.ravel(), start)
  return sparse.csr_matrix(parts, shape=(row.size, shape[0] * shape[1]))
