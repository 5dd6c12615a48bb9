"""A model and a split: written and embedded, as they are and edited."""

import numpy as np
import pytest

import micro
from data_pipelines import interventions
from jaxrg.metrics import predictions
from jaxrg.writer import Writer


@pytest.fixture(scope="module")
def writers(finished, compiled):
  """Of the finished run: its reports' writer, and its first stage's."""

  with micro.miniature(compiled):
    yield (
      Writer(finished / "export", "test"),
      Writer(finished / "pretrain/export", "test", method="contrast"),
    )


def test_as_it_is_a_writer_writes_what_the_run_wrote(writers, finished):
  written = predictions.read(finished / "eval/predictions.jsonl")
  assert writers[0].write() == written


def test_every_word_of_every_report_looked_at_something(writers):
  first, _ = writers
  ids = first.decode()
  rows, looks = first.rows(ids), first.looks(ids)
  assert len(rows) == len(looks) == len(first.places)
  for row, of_words in zip(rows, looks):
    count = len(row["prediction"].split())
    assert len(of_words.notes) == count
    films = {"image", "prior_image"} if row["has_prior"] else {"image"}
    assert of_words.films.keys() == (films if count else set())
    assert all(len(maps) == count for maps in of_words.films.values())


def test_edits_change_what_the_model_sees_and_nothing_else(writers, finished):
  blank = interventions.blank_image(writers[0].meta, 128)
  written = predictions.read(finished / "eval/predictions.jsonl")
  edited = writers[0].write(blank.edit)
  report = lambda row: row.pop("prediction")
  assert [*map(report, written)] != [*map(report, edited)]
  assert written == edited


def test_edits_come_in_turn(writers):
  blank = interventions.blank_image(writers[0].meta, 128)
  grey = interventions.blank_image(writers[0].meta, 30)
  assert writers[0].write(blank.edit, grey.edit) == writers[0].write(grey.edit)


def test_embeddings_are_of_the_split_in_order(writers):
  _, first = writers
  images, reports = first.embed()
  assert images.shape == reports.shape == (len(first.meta), 8)
  np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, rtol=1e-5)
  texts = [record["findings"] for record in first.meta]
  for i, text in enumerate(texts):  # The same words, the same embedding.
    np.testing.assert_allclose(reports[i], reports[texts.index(text)], rtol=1e-5)
  bare, same = first.embed(interventions.without(("context",)))
  assert np.abs(bare - images).max() > 1e-3
  np.testing.assert_array_equal(same, reports)


def test_a_last_stage_that_is_asked_for_another_method(finished, miniature):
  with pytest.raises(ValueError, match="cannot generate: stage 'pretrain' exported"):
    Writer(finished / "pretrain/export", "test")
  with pytest.raises(ValueError, match="has no split 'holdout'"):
    Writer(finished / "export", "holdout")
