"""Reports: they say all of the truth, and of the prior only where there is one."""

import dataclasses

import numpy as np
import pytest
import tokenizers

from data_pipelines import findings, records
from data_pipelines.records import Fact
from data_pipelines.thorax import patients, reports

COMPARISONS = (
  ("new", "increas", "decreas", "worse", "improv", "unchanged", "stable", "resolved")
  + ("no longer", "removed", "larger", "smaller", "before", "prior", "developed")
)  # fmt: skip


@pytest.fixture(scope="module")
def pairs():
  return [
    (study, reports.write(study))
    for patient in range(1334)
    for study in patients.studies_of(patient)
  ]


def test_same_study_same_words():
  study = patients.studies_of(3)[0]
  assert reports.write(study) == reports.write(study)
  texts = {reports.write(study, seed=seed).findings for seed in range(10)}
  assert len(texts) > 5


def test_the_text_determines_the_truth(pairs):
  """The ceiling of any score by the reader: .98 is asked for, all is reached."""
  for study, report in pairs:
    stated = {
      fact
      for fact in findings.read(report.findings)
      if fact.status != "absent" or fact.change
    }
    assert stated == set(study.facts), report.findings


def test_reader_ceiling(pairs):
  def f1(counts):
    true, said, both = np.sum(counts, axis=0)
    return 2 * both / (true + said)

  labels, changes = [], []
  for study, report in pairs:
    true = patients.labels_of(study.facts) == records.PRESENT
    said = findings.labels(report.findings) == records.PRESENT
    labels.append((true.sum(), said.sum(), (true & said).sum()))
    true, said = findings.changes(study.facts), findings.changes(report.findings)
    changes.append((len(true), len(said), len(true & said)))
  assert f1(labels) >= 0.98
  assert f1(changes) >= 0.98


def test_no_comparison_without_a_prior(pairs):
  for study, report in pairs:
    if study.number == 0:
      text = (report.findings + report.impression).lower()
      assert not [word for word in COMPARISONS if word in text], text


def test_at_most_a_fifth_are_duplicates(pairs):
  texts = [report.findings for _, report in pairs]
  assert len(set(texts)) >= 0.8 * len(texts)


def test_lengths(pairs):
  """97 % of the reports fit 80 tokens of a byte-level BPE of 512 entries."""
  texts = [report.findings for _, report in pairs]
  assert 25 <= np.median([len(text.split()) for text in texts]) <= 40
  byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
  bpe.pre_tokenizer = byte_level
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=512, initial_alphabet=byte_level.alphabet(), show_progress=False
  )
  bpe.train_from_iterator(texts, trainer)
  lengths = [len(encoding.ids) for encoding in bpe.encode_batch(texts)]
  assert np.mean(np.array(lengths) <= 80) >= 0.97


def test_impression_is_one_sentence_that_agrees(pairs):
  for study, report in pairs:
    assert report.impression.count(".") == 1
    stated = {f for f in findings.read(report.impression) if f.status != "absent"}
    assert stated <= set(study.facts), report.impression


def test_equal_effusions_are_one_sentence():
  facts = tuple(
    Fact("Pleural Effusion", side, severity="mild", change="unchanged")
    for side in ("left", "right")
  )
  study = patients.studies_of(0)[0]
  text = reports.write(dataclasses.replace(study, facts=facts)).findings
  assert text.count("effusion") == text.count("bilateral") == 1


def test_context_says_nothing_of_the_image(pairs):
  for study, _ in pairs:
    assert findings.changes(study.indication + " " + study.history) == frozenset()
