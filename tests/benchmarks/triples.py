"""What the rules make of the Open-I reports: how many triples, and how they attach.

python tests/benchmarks/triples.py

Reads the 3,927 reports with text of torchxrayvision 1.5.7 (pip install --no-deps
torchxrayvision). Time is of the process, sentences seen before included as in any
corpus.
"""

import collections
import pathlib
import sys
import time
from collections.abc import Sequence

import numpy as np

from data_pipelines import graphs, triples

sys.path.append(str(pathlib.Path(__file__).parents[1]))
import openi


def graph_of(found: Sequence[triples.Triple]):
  """The graph of one report's triples, all of them."""
  budget = {"max_nodes": 128, "max_edges": 2048, "max_triples": len(found)}
  return graphs.build([found], **budget)


def describe(name: str, counts: Sequence[int]) -> None:
  mean, median, p99 = np.mean(counts), np.median(counts), np.percentile(counts, 99)
  print(f"{name:>24} {mean:6.2f} {median:6.0f} {p99:6.0f} {max(counts):6}")


def attachment(present: Sequence[Sequence[triples.Triple]]) -> None:
  made = [graph_of(found) for found in present]
  total = sum(map(len, present))
  attached, ignored = (
    sum(getattr(graph, fate) for graph in made) for fate in ("attached", "ignored")
  )
  some = np.mean([graph.attached > 0 for graph in made])
  added = collections.Counter(
    name for graph in made for name, new in zip(graph.names, graph.added) if new
  )
  print(f"\n{attached / total:.1%} of the present or uncertain triples attach,")
  print(f"{attached / (total - ignored):.1%} of those without a stop entity;")
  print(f"{some:.1%} of the reports have one; {len(added)} distinct new nodes,")
  print(f"{sum(added.values()) / len(made):.2f} a report")


def main():
  path = openi.archive()
  if path is None:
    sys.exit("needs: pip install --no-deps torchxrayvision")
  reports = openi.reports(path)
  began = time.process_time()
  found, _ = triples.of_reports(reports)
  elapsed = time.process_time() - began
  present = [
    [t for t in several if "absent" not in (t.source_status, t.target_status)]
    for several in found.values()
  ]
  print(f"{len(reports)} reports with text, {1e3 * elapsed / len(reports):.2f} ms each")
  print(f"\n{'triples a report':>24}   mean median    p99    max")
  describe("all", list(map(len, found.values())))
  describe("present or uncertain", list(map(len, present)))
  for field in ("relation", "source_status"):
    counts = collections.Counter(
      getattr(t, field) for several in found.values() for t in several
    )
    print(f"\n{field}:", ", ".join(f"{k} {n}" for k, n in counts.most_common()))
  attachment(present)


if __name__ == "__main__":
  main()
