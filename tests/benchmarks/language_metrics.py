"""Seconds for the language scores of 4,000 invented reports by every protocol, here and
in pycocoevalcap 1.2, in one run, and whether they are the same:

  python tests/benchmarks/language_metrics.py

pycocoevalcap has no protocols: it is given the texts that a protocol makes, but for
`coco`, whose tokenizer is its own. METEOR, the same Java on both sides, is timed apart.
The digits are those of protocol `priorrg`.
"""

import contextlib
import functools
import os
import time
from collections.abc import Callable

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from jaxrg.metrics import coco, nlg
from jaxrg.metrics.protocols import PROTOCOLS, Protocol

N, WORDS = 4000, 55  # As many reports, as long, as in MIMIC-CXR's test split.
SENTENCE = 9  # Words.
NAMES = (*(f"bleu_{n}" for n in range(1, 5)), "rouge_l", "cider", "meteor")


def invent() -> tuple[list[str], list[str]]:
  """Predictions that share seven words of ten with their references."""
  rng = np.random.default_rng(0)
  words = np.array([f"word{chr(97 + i % 26)}{i // 26}" for i in range(1500)])
  weights = 1 / np.arange(1, len(words) + 1)
  references, predictions = [], []
  for size in rng.integers(10, 2 * WORDS - 10, N):
    reference = rng.choice(words, size, p=weights / weights.sum())
    kept = rng.random(size) < 0.7
    references.append(sentences(reference))
    predictions.append(sentences(np.where(kept, reference, rng.permutation(reference))))
  return predictions, references


def sentences(words: np.ndarray) -> str:
  """Words as a report writes them."""
  parts = (words[i : i + SENTENCE] for i in range(0, len(words), SENTENCE))
  return " ".join(" ".join(part).capitalize() + "." for part in parts)


def ours(protocol: Protocol, texts: tuple[list[str], list[str]]) -> list[float]:
  predictions = protocol.apply(texts[0])
  references = protocol.apply_to_references(texts[1])
  corpus = nlg.count(predictions, references)
  bleu = nlg.bleu(nlg.bleu_statistics(corpus).sum(0))
  return [*bleu, nlg.rouge_l(predictions, references).mean(), nlg.cider(corpus).mean()]


def theirs(protocol: Protocol, texts: tuple[list[str], list[str]]) -> list[float]:
  results, truths = ({i: [text] for i, text in enumerate(side)} for side in texts)
  if protocol.by_java:
    caption = lambda side: {i: [{"caption": text[0]}] for i, text in side.items()}
    tokenise = PTBTokenizer().tokenize
    results, truths = tokenise(caption(results)), tokenise(caption(truths))
  bleu, _ = Bleu(4).compute_score(truths, results, verbose=0)
  rouge, _ = Rouge().compute_score(truths, results)
  cider, _ = Cider().compute_score(truths, results)
  return [*bleu, rouge, cider]


def meteor(texts: tuple[list[str], list[str]]) -> list[float]:
  return [coco.meteor(*texts)[0]]


def their_meteor(texts: tuple[list[str], list[str]]) -> list[float]:
  results, truths = ({i: [text] for i, text in enumerate(side)} for side in texts)
  return [Meteor().compute_score(truths, results)[0]]


def compare(name: str, mine: Callable, other: Callable) -> tuple[list, list]:
  """Prints the seconds of both and the largest difference; the scores of both."""
  seconds, scores = [], []
  for measure in (mine, other):
    start = time.perf_counter()
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
      scores.append([float(x) for x in measure()])
    seconds.append(time.perf_counter() - start)
  difference = np.abs(np.subtract(*scores)).max()
  print(
    f"{name:16}{seconds[0]:7.2f} s{seconds[1]:13.2f} s"
    f"{seconds[1] / seconds[0]:7.1f}{difference:12.1e}"
  )
  return tuple(scores)


def main():
  texts, missing, told = invent(), coco.missing(), {}
  print(f"{N} reports{f'; without Java: {missing}' if missing else ''}")
  print(
    f"{'protocol':16}{'jaxrg':>9}{'pycocoevalcap':>15}{'ratio':>7}{'difference':>12}"
  )
  PROTOCOLS["priorrg"].apply_to_references(texts[1][:1])  # Loads its tokenizer.
  made = {
    name: (protocol.apply(texts[0]), protocol.apply_to_references(texts[1]))
    for name, protocol in PROTOCOLS.items()
    if not protocol.by_java
  }
  for name, protocol in PROTOCOLS.items():
    if protocol.by_java and missing:
      continue
    mine = functools.partial(ours, protocol, texts)
    other = functools.partial(theirs, protocol, made.get(name, texts))
    told[name] = compare(name, mine, other)
  digits = [*zip(NAMES, *told["priorrg"])]
  if not missing:
    sides = (functools.partial(f, made["priorrg"]) for f in (meteor, their_meteor))
    digits += zip(NAMES[-1:], *compare("priorrg METEOR", *sides))
  for name, mine, other in digits:
    print(f"  {name:8} {mine!r:22} {other!r}")


if __name__ == "__main__":
  main()
