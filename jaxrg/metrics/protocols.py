"""What happens to a text before its words are counted, by name.

"BLEU" of one file changes twofold with lower-casing and full stops, and again with
references that are cut, so a score here is never without its protocol.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence

from jaxrg.metrics import coco

GPT2_LENGTH = 100  # Tokens of a reference in the published evaluation, both ends among
R2GEN_LENGTH = 100  # them; words in R2Gen's, for MIMIC-CXR.


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How predictions and references become strings of words."""

  name: str
  tokens: str  # In words, printed beside every score.
  normalise: Callable[[str], str]
  empty: str = ""  # Stands for an empty prediction.
  references: str = "in full"  # What becomes of them, in words,
  cut: Callable[[str], str] = str  # before
  cut_words: int | None = None  # and after they are normalised.
  by_java: bool = False  # Whether all texts are then tokenised by Stanford's.
  with_meteor: bool = False  # Others' texts would give METEOR the same words.

  def apply(self, texts: Sequence[str]) -> list[str]:
    """Predictions as they are compared."""
    full = [text if text.strip() else self.empty for text in texts]
    words = [self.normalise(text) for text in full]
    return coco.tokenise(words) if self.by_java else words

  def apply_to_references(self, texts: Sequence[str]) -> list[str]:
    """References as they are compared."""
    words = self.apply([self.cut(text) for text in texts])
    if self.cut_words is None:
      return words
    return [" ".join(text.split()[: self.cut_words]) for text in words]


def _full_stops_apart(text: str) -> str:
  return re.sub(" +", " ", text.replace(".", " ."))


@functools.cache
def _gpt2():
  # Only now, for it takes seconds that not every protocol needs.
  from jaxrg import tokenizers

  return tokenizers.Tokenizer.gpt2(), tokenizers.END


def cut_to_gpt2(text: str) -> str:
  """The first tokens of a reference, as the published evaluation of PriorRG cuts it."""
  tokenizer, end = _gpt2()
  ids, _ = tokenizer.encode(f"{end}{text}{end}", GPT2_LENGTH)
  return tokenizer.decode(ids)


_ENUMERATED = [*(f". {n}. " for n in range(2, 6)), *(f" {n}. " for n in range(2, 6))]
# A hyphen stays: in R2Gen's own list of these it stands for a range.
_R2GEN_REMOVED = re.compile(r"""[.,?;*!%^&_+():<=>@\[\]{}"'/\\]""")


def clean_r2gen(text: str) -> str:
  """A report in lower case and without punctuation, as R2Gen cleans MIMIC-CXR's."""
  for repeated, once in (("_+", "_"), (" +", " "), (r"\.+", ".")):
    text = re.sub(repeated, once, text.replace("\n", " "))
  text = text.replace("1. ", "")
  for enumerated in _ENUMERATED:
    text = text.replace(enumerated, ". ")
  sentences = text.strip().lower().split(". ")
  return " . ".join(_R2GEN_REMOVED.sub("", s.strip()) for s in sentences) + " ."


PROTOCOLS = {
  protocol.name: protocol
  for protocol in (
    Protocol("raw", "as is, split at white space", str),
    Protocol(
      "priorrg",
      'case kept, "." set apart, runs of blanks collapsed',
      _full_stops_apart,
      empty="...",
      references=f"cut to {GPT2_LENGTH} tokens of GPT-2's, as published",
      cut=cut_to_gpt2,
      with_meteor=True,
    ),
    Protocol(
      "priorrg_full",
      'case kept, "." set apart, runs of blanks collapsed',
      _full_stops_apart,
      empty="...",
    ),
    Protocol(
      "r2gen",
      'lower case, punctuation removed but for " ." after a sentence',
      clean_r2gen,
      references=f"cut to {R2GEN_LENGTH} words, one of them the beginning",
      cut_words=R2GEN_LENGTH - 1,
      with_meteor=True,
    ),
    Protocol(
      "lower",
      'lower case, "." set apart, runs of blanks collapsed',
      lambda text: _full_stops_apart(text.lower()),
      empty="...",
    ),
    Protocol(
      "coco",
      "Stanford's tokenizer, lower case, punctuation removed",
      str,
      by_java=True,
      with_meteor=True,
    ),
  )
}


@dataclasses.dataclass(frozen=True)
class Truncation:
  """How references are cut before scoring, as published numbers often are."""

  cut: Callable[[str], str]
  name: str  # For example "cut to 100 tokens of the decoder's tokenizer".
