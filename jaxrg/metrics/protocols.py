"""What happens to a text before its words are counted, by name.

"BLEU" of one file changes twofold with lower-casing and full stops, so a score
here is never without its protocol.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How predictions and references become strings of words."""

  name: str
  tokens: str  # In words, printed beside every score.
  normalise: Callable[[str], str]
  empty: str = ""  # Stands for an empty prediction.

  def apply(self, texts: Sequence[str]) -> list[str]:
    """The texts as they are compared."""
    return [self.normalise(text if text.strip() else self.empty) for text in texts]


def _full_stops_apart(text: str) -> str:
  return re.sub(" +", " ", text.replace(".", " ."))


PROTOCOLS = {
  protocol.name: protocol
  for protocol in (
    Protocol("raw", "as is, split at white space", str),
    Protocol(
      "priorrg",
      'case kept, "." set apart, runs of blanks collapsed',
      _full_stops_apart,
      empty="...",
    ),
    Protocol(
      "lower",
      'lower case, "." set apart, runs of blanks collapsed',
      lambda text: _full_stops_apart(text.lower()),
      empty="...",
    ),
  )
}


@dataclasses.dataclass(frozen=True)
class Truncation:
  """How references are cut before scoring, as published numbers often are."""

  cut: Callable[[str], str]
  name: str  # For example "cut to 100 tokens of the decoder's tokenizer".
