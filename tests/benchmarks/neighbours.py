"""Exact nearest rows of a large corpus: beside NumPy, in time and memory.

python tests/benchmarks/neighbours.py [--corpus=300000] [--queries=4096] [--k=10]

Each way runs in a process of its own, on unit rows drawn alike. NumPy takes the
products of 256 queries with the whole corpus and partitions them; it answers the first
512. `agree` is the share of these of which both found the same rows in the same order.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WAYS = ("jaxrg", "numpy")
CHUNK, SAMPLE = 256, 512  # Queries that NumPy takes at once, and that it answers.


def draw(options):
  """Queries, corpus, and the patient of each: four studies a patient."""
  rng = np.random.default_rng(0)
  corpus = rng.normal(size=(options.corpus, options.width)).astype(np.float32)
  corpus /= np.linalg.norm(corpus, axis=1, keepdims=True)
  patients = np.arange(options.corpus) // 4
  chosen = np.linspace(0, options.corpus - 1, options.queries).astype(int)
  return corpus[chosen], corpus, patients[chosen], patients


def clock():
  """Seconds that passed, and those that all threads computed."""
  return np.array([time.perf_counter(), time.process_time()])


def jaxrg(queries, corpus, of_queries, of_corpus, k):
  from jaxrg import retrieval

  options = {"query_patients": of_queries, "corpus_patients": of_corpus}
  search = lambda rows, of: retrieval.top_k(
    rows, corpus, k=k, **options | {"query_patients": of}
  )
  search(queries[:1], of_queries[:1])  # Compiles.
  began = clock()
  indices, _ = search(queries, of_queries)
  return indices, clock() - began


def numpy(queries, corpus, of_queries, of_corpus, k):
  began = clock()
  found = []
  for start in range(0, min(SAMPLE, len(queries)), CHUNK):
    rows = slice(start, start + CHUNK)
    scores = queries[rows] @ corpus.T
    scores[of_queries[rows, :1] == of_corpus[:, 0]] = -np.inf
    best = np.sort(np.argpartition(-scores, k, axis=1)[:, :k], axis=1)
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    found.append(np.take_along_axis(best, order, axis=1))
  return np.concatenate(found), clock() - began


def child(options) -> None:
  data = draw(options)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  indices, seconds = {"jaxrg": jaxrg, "numpy": numpy}[options.way](*data, options.k)
  np.save(options.out, indices)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  memory = {"peak": peak * 1024, "data": before * 1024}
  print(json.dumps({"seconds": list(seconds / len(indices)), **memory}))


def main(options) -> None:
  found, figures = {}, {}
  with tempfile.TemporaryDirectory() as folder:
    for way in WAYS:
      out = Path(folder) / f"{way}.npy"
      command = [sys.executable, *sys.argv, f"--way={way}", f"--out={out}"]
      run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
      figures[way] = json.loads(run.stdout.splitlines()[-1])
      found[way] = np.load(out)
  size = f"{options.queries} queries, corpus {options.corpus} x {options.width}"
  print(f"k={options.k}, {size}")
  for way, of in figures.items():
    passed, computed = of["seconds"]
    peak, data = (of[name] / 2**30 for name in ("peak", "data"))
    print(
      f"{way:>6} {1 / passed:6.0f} queries/s, {1e3 * computed:.2f} ms of CPU each, "
      f"peak {peak:.2f} GiB, {data:.2f} before the search"
    )
  ratio = figures["numpy"]["seconds"][0] / figures["jaxrg"]["seconds"][0]
  answered = len(found["numpy"])
  agree = (found["jaxrg"][:answered] == found["numpy"]).all(axis=1).mean()
  print(f"{ratio:.1f} times as fast; agree {agree:.4f}")


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  for flag, default in (("corpus", 300_000), ("queries", 4096), ("width", 128)):
    parser.add_argument(f"--{flag}", type=int, default=default)
  parser.add_argument("--k", type=int, default=10)
  parser.add_argument("--way", choices=WAYS)
  parser.add_argument("--out")
  options = parser.parse_args()
  (child if options.way else main)(options)
