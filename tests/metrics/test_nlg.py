"""The language measures are those of pycocoevalcap 1.2, to 1e-9."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from jaxrg.metrics import nlg

WORDS = ("the", "heart", "is", "no", "effusion", "left", "lung", "small", "new", ".")
reports = st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join)
pairs = st.lists(st.tuples(reports, reports), min_size=1, max_size=12).filter(
  lambda rows: any(reference for _, reference in rows)  # Else pycocoevalcap fails.
)


def ours(predictions, references):
  corpus = nlg.count(predictions, references)
  statistics = nlg.bleu_statistics(corpus)
  return (
    nlg.bleu(statistics.sum(0)),
    nlg.bleu(statistics),
    nlg.rouge_l(predictions, references),
    nlg.cider(corpus),
  )


def theirs(predictions, references):
  results = {i: [text] for i, text in enumerate(predictions)}
  truths = {i: [text] for i, text in enumerate(references)}
  bleu, bleu_each = Bleu(4).compute_score(truths, results, verbose=0)
  _, rouge = Rouge().compute_score(truths, results)
  _, cider = Cider().compute_score(truths, results)
  return np.array(bleu), np.array(bleu_each).T, rouge, cider


def assert_equal(predictions, references):
  for mine, other in zip(
    ours(predictions, references), theirs(predictions, references)
  ):
    np.testing.assert_allclose(mine, other, rtol=0, atol=1e-9)


def invented(seed, n, vocabulary=200, length=40):
  """n pairs whose words follow Zipf's law, and predictions like them."""
  rng = np.random.default_rng(seed)
  words = np.array([f"w{i}" for i in range(vocabulary)])
  weights = 1 / np.arange(1, vocabulary + 1)
  references, predictions = [], []
  for _ in range(n):
    size = rng.integers(1, length)
    reference = rng.choice(words, size, p=weights / weights.sum())
    prediction = np.where(rng.random(size) < 0.7, reference, rng.permutation(reference))
    references.append(" ".join(reference))
    predictions.append(" ".join(prediction[: rng.integers(1, size + 1)]))
  return predictions, references


@settings(max_examples=150, deadline=None, derandomize=True)
@given(pairs)
def test_any_reports(rows):
  assert_equal(*map(list, zip(*rows)))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.text("ab. \n\t", max_size=12)] * 2), min_size=1))
def test_any_white_space(rows):
  rows = [*rows, ("a", "b")]
  assert_equal(*map(list, zip(*rows)))


@pytest.mark.parametrize("seed", [0, 1])
def test_invented_corpus(seed):
  assert_equal(*invented(seed, 200))


def test_words_that_every_reference_has_weigh_nothing():
  same = ["no effusion ."] * 7
  assert_equal(same, same)
  np.testing.assert_array_equal(nlg.cider(nlg.count(same, same)), 0)


def test_sums_of_statistics_are_the_corpus():
  predictions, references = invented(2, 60)
  every = nlg.bleu_statistics(nlg.count(predictions, references))
  half = nlg.bleu_statistics(nlg.count(predictions[:30], references[:30]))
  np.testing.assert_array_equal(every[:30], half)
  expected = theirs(predictions[:30], references[:30])[0]
  np.testing.assert_allclose(nlg.bleu(every[:30].sum(0)), expected, atol=1e-9)


def test_bleu_and_rouge_by_hand():
  """Spec eir 12, 16: clipped counts, the brevity penalty, and beta 1.2."""
  bleu = lambda *texts: nlg.bleu(nlg.bleu_statistics(nlg.count(*texts)).sum(axis=0))
  longer = (["no effusion seen today"], ["no effusion seen"])
  np.testing.assert_allclose(bleu(*longer)[:2], [3 / 4, np.sqrt(3 / 4 * 2 / 3)])
  clipped = (["no no no no"], ["no effusion no"])
  np.testing.assert_allclose(bleu(*clipped)[0], 2 / 4)
  shorter = (["no effusion"], ["no effusion seen today"])
  np.testing.assert_allclose(bleu(*shorter)[0], np.exp(1 - 4 / 2))
  precision, recall = 3 / 4, 1
  expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
  np.testing.assert_allclose(nlg.rouge_l(*longer), [expected])


def test_longest_common_subsequence_by_hand():
  assert nlg.longest_common_subsequence("abcbdab", "bdcaba") == 4
  assert nlg.longest_common_subsequence("", "abc") == 0
  assert nlg.longest_common_subsequence("x" * 200, "x" * 130) == 130


def test_lists_must_pair():
  with pytest.raises(ValueError, match="got 2 and 1"):
    nlg.count(["a", "b"], ["a"])
