"""Seconds for BLEU-1..4, ROUGE-L and CIDEr-D of 4,000 invented reports, here and in
pycocoevalcap 1.2 (no Java), in one run:

  python tests/benchmarks/language_metrics.py
"""

import time

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from jaxrg.metrics import nlg

N, WORDS = 4000, 55  # As many reports, as long, as in MIMIC-CXR's test split.


def invent() -> tuple[list[str], list[str]]:
  """Predictions that share seven words of ten with their references."""
  rng = np.random.default_rng(0)
  words = np.array([f"word{i}" for i in range(1500)])
  weights = 1 / np.arange(1, len(words) + 1)
  references, predictions = [], []
  for size in rng.integers(10, 2 * WORDS - 10, N):
    reference = rng.choice(words, size, p=weights / weights.sum())
    kept = rng.random(size) < 0.7
    references.append(" ".join(reference))
    predictions.append(" ".join(np.where(kept, reference, rng.permutation(reference))))
  return predictions, references


def ours(predictions, references) -> list[float]:
  corpus = nlg.count(predictions, references)
  bleu = nlg.bleu(nlg.bleu_statistics(corpus).sum(0))
  return [*bleu, nlg.rouge_l(predictions, references).mean(), nlg.cider(corpus).mean()]


def theirs(predictions, references) -> list[float]:
  results = {i: [text] for i, text in enumerate(predictions)}
  truths = {i: [text] for i, text in enumerate(references)}
  bleu, _ = Bleu(4).compute_score(truths, results, verbose=0)
  rouge, _ = Rouge().compute_score(truths, results)
  cider, _ = Cider().compute_score(truths, results)
  return [*bleu, rouge, cider]


def main():
  texts = invent()
  seconds, scores = [], []
  for measure in (ours, theirs):
    start = time.perf_counter()
    scores.append(measure(*texts))
    seconds.append(time.perf_counter() - start)
  print(f"{N} reports: jaxrg {seconds[0]:.2f} s, pycocoevalcap {seconds[1]:.2f} s")
  print(f"ratio {seconds[1] / seconds[0]:.1f}")
  print(f"largest difference {np.abs(np.subtract(*scores)).max():.1e}")


if __name__ == "__main__":
  main()
