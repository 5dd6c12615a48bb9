"""Squares of photographs: the same every time, of every photograph, and no film."""

import importlib.util

import numpy as np
import pytest

from data_pipelines import datasets, films, loader, photographs


def test_a_square_is_told_by_split_and_index():
  train, again = (datasets.load("photographs", "train") for _ in range(2))
  other = datasets.load("photographs", "validation")
  first, second = (loader.parse(split, 7) for split in (train, again))
  np.testing.assert_array_equal(first["image"], second["image"])
  assert first["image"].shape == (photographs.SIZE, photographs.SIZE, 1)
  assert not np.array_equal(first["image"], loader.parse(train, 8)["image"])
  assert not np.array_equal(first["image"], loader.parse(other, 7)["image"])


def test_every_photograph_is_cut_about_as_often():
  split = datasets.load("photographs", "train")
  names = [split[i]["patient_id"] for i in range(650)]
  counts = [names.count(name) for name in photographs.NAMES]
  assert min(counts) > 25
  assert max(counts) < 80


def test_they_are_read_as_films():
  split = datasets.load("photographs", "test")
  examples = films.Films(split, image_size=32, views=("PA", "unk"))
  assert len(examples) == photographs.COUNTS["test"]
  example = examples[3]
  assert example["image"].shape == (32, 32, 1)
  assert example["view"] == 1
  assert not examples.unknown_views
  with pytest.raises(IndexError):
    split[len(split)]


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  photographs._read_all.cache_clear()
  with pytest.raises(ValueError, match=r'pip install -e "\.\[natural\]"'):
    datasets.load("photographs", "train")
  photographs._read_all.cache_clear()
