"""EIR's vocabulary: whole words, and pieces for the rest (spec eir 3.2).

One unigram model serves history, report and the names of graph nodes. A piece that
begins a word carries the space before it, so that decoding restores spaces and
punctuation as they were; in the published one the space is a token of its own, and a
sentence costs twice as many. It is a Hugging Face tokenizer.
"""

import collections
import math
import re
import string
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
# What a cleaned history has beside "<unk>", which is the unknown piece itself.
PLACEHOLDERS = ("<time>", "<num>")
SPACE = "\u2581"
# Any two words score below one: a word of the vocabulary is never cut.
WORD_SCORE = -1e-3


class UnigramTokenizer:
  """A unigram model with the four ids of SPECIAL, in the interface of `Tokenizer`."""

  def __init__(self, tokenizer: tokenizers.Tokenizer):
    self._tokenizer = tokenizer
    ids = [tokenizer.token_to_id(token) for token in SPECIAL]
    if ids != list(range(len(SPECIAL))):
      raise ValueError(f"a unigram tokenizer begins with {', '.join(SPECIAL)}")
    self.unk, self.bos, self.eos, self.pad = ids

  def __len__(self) -> int:
    return self._tokenizer.get_vocab_size()

  @classmethod
  def train(
    cls, texts: Iterable[str], vocab_size: int = 1000, words: int = 900
  ) -> "UnigramTokenizer":
    """A vocabulary of at most `vocab_size` entries.

    SPECIAL, punctuation, PLACEHOLDERS and the letters of the texts come first; then the
    most frequent words, at most `words`; pieces of all other words fill it up. Letters
    that are not ASCII are unknown. The same texts give the same vocabulary.

    Raises ValueError where not even the letters fit.
    """
    counts = collections.Counter(_chunks(texts))
    counts = {chunk: n for chunk, n in counts.items() if _plain(chunk)}
    letters = {letter for chunk in counts for letter in chunk} | {SPACE}
    letters = sorted(letters - set(string.punctuation))
    fixed = [*SPECIAL, *string.punctuation, *PLACEHOLDERS, *letters]
    if (room := vocab_size - len(fixed)) < 0:
      raise ValueError(
        f"config.tokenizer.vocab_size={vocab_size} has no room for the {len(fixed)} "
        "special tokens, marks and letters; raise it."
      )
    others = counts.keys() - {*fixed, SPACE + SPECIAL[0]}
    ranked = sorted(others, key=lambda chunk: (-counts[chunk], chunk))
    whole, rest = ranked[: min(words, room)], ranked[min(words, room) :]
    repeated = [chunk for chunk in rest for _ in range(counts[chunk])]
    scores = dict.fromkeys(fixed + whole, WORD_SCORE)
    pieces = _pieces(repeated, letters, room - len(whole))
    # A merge may spell a whole word, whose score it must not take.
    scores |= {piece: s for piece, s in pieces.items() if piece not in whole}
    return cls(_backend(models.Unigram(list(scores.items()), 0, False)))

  def to_json(self) -> str:
    """The whole tokenizer as the text of a tokenizer.json."""
    return self._tokenizer.to_str(pretty=True)

  def encode(self, text: str, max_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids between `bos` and `eos`, padded on the right, and which of them are real.

    A text that is cut ends all the same; an empty one is (bos, eos).
    """
    ids = [self.bos, *self.encode_name(text)[: max_length - 2], self.eos]
    padded = np.full(max_length, self.pad, np.int32)
    padded[: len(ids)] = ids
    return padded, np.arange(max_length) < len(ids)

  def encode_name(self, name: str) -> list[int]:
    """The ids of a text alone, as the name of a graph's node."""
    return self._tokenizer.encode(name, add_special_tokens=False).ids

  def decode(self, ids: Iterable[int]) -> str:
    """The text of ids up to the first `eos`, without special tokens.

    A model's table may have rows to spare; of these ids nothing is read.
    No mark that closes has a space before it, none that opens one after it.
    """
    pieces = []
    for i in map(int, ids):
      if i == self.eos:
        break
      if i >= len(SPECIAL):
        pieces.append(self._tokenizer.id_to_token(i) or "")
    text = " ".join("".join(pieces).replace(SPACE, " ").split())
    return re.sub(r" (?=[.,;:?!)\]])|(?<=[(\[]) ", "", text)


def _backend(model: models.Model) -> tokenizers.Tokenizer:
  """A tokenizer of words, marks and placeholders, each by itself."""
  backend = tokenizers.Tokenizer(model)
  spaces = normalizers.Replace(Regex(rf"[\s{SPACE}]+"), " ")
  backend.normalizer = normalizers.Sequence(
    [normalizers.NFKC(), spaces, normalizers.Strip()]
  )
  alone = Regex(rf"{SPACE}?<(?:unk|time|num)>|[^\w\s{SPACE}]|_")
  backend.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Metaspace(), pre_tokenizers.Split(alone, "isolated")]
  )
  backend.decoder = decoders.Metaspace()
  return backend


def _chunks(texts: Iterable[str]) -> Iterator[str]:
  backend = _backend(models.Unigram())
  for text in texts:
    normal = backend.normalizer.normalize_str(text)
    yield from (chunk for chunk, _ in backend.pre_tokenizer.pre_tokenize_str(normal))


def _plain(chunk: str) -> bool:
  return chunk.replace(SPACE, "").isascii()


def _pieces(words: Sequence[str], letters: list[str], number: int) -> dict[str, float]:
  """The letters and at most `number` pieces of the words, with their log-likelihoods.

  They are merges of a byte-pair encoding: the library's own trainer of unigram models
  gives another vocabulary every time.
  """
  bpe = tokenizers.Tokenizer(models.BPE())
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=len(letters) + number,
    initial_alphabet=letters,
    limit_alphabet=len(letters),
    show_progress=False,
  )
  bpe.train_from_iterator(words, trainer)
  pieces = sorted(bpe.get_vocab(), key=bpe.token_to_id)
  counts = collections.Counter(t for w in words for t in bpe.encode(w).tokens)
  total = counts.total() + len(pieces)
  return {piece: math.log((counts[piece] + 1) / total) for piece in pieces}
