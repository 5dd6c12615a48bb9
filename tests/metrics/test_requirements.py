"""Scores that must be reached, by the names that a user gives them."""

import pytest

from jaxrg.metrics import requirements

METRICS = {
  "n": 4,
  "language": {
    "raw": {"bleu_4": {"value": 0.1, "low": 0.0, "high": 0.2}},
    "priorrg": {"bleu_4": {"value": 0.2, "low": 0.1, "high": 0.3}},
  },
  "labels": {"micro": {"f1": {"value": 0.5}}, "macro": {"f1": {"value": 0.4}}},
  "changes": None,
}


@pytest.mark.parametrize(
  ("asked", "path", "met"),
  [
    ("bleu_4=.2", "language.priorrg.bleu_4", True),
    ("bleu_4=.21", "language.priorrg.bleu_4", False),
    ("raw.bleu_4=.1", "language.raw.bleu_4", True),
    ("labels.micro.f1=0.6", "labels.micro.f1", False),
    ("n=4", "n", True),
    ("n<=4", "n", True),
    ("labels.micro.f1<=.4", "labels.micro.f1", False),
  ],
)
def test_names_mean_one_score(asked, path, met):
  (found,) = requirements.read([asked], METRICS)
  assert (found.path, found.met) == (path, met)
  assert ("NOT REACHED" in str(found)) != met


@pytest.mark.parametrize(
  ("asked", "message"),
  [
    ("bleu_4", "NAME=NUMBER or NAME<=NUMBER is needed"),
    ("bleu_4=high", "NAME=NUMBER or NAME<=NUMBER is needed"),
    ("bleu_4=nan", "NAME=NUMBER or NAME<=NUMBER is needed"),
    ("bleu_4<=inf", "NAME=NUMBER or NAME<=NUMBER is needed"),
    ("=.1", "NAME=NUMBER or NAME<=NUMBER is needed"),
    ("bleu_5=.1", "bleu_5 is none of metrics.json"),
    ("f1=.1", r"f1 means 2 scores: labels\.micro\.f1, labels\.macro\.f1"),
    ("low=.1", "low is none"),
  ],
)
def test_names_that_mean_none_or_several(asked, message):
  with pytest.raises(ValueError, match=message):
    requirements.read([asked], METRICS)
