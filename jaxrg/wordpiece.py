"""BERT's word pieces, of a user's `vocab.txt`."""

import os
import pathlib

import tokenizers

NEEDED = ("[UNK]", "[CLS]", "[SEP]")


class WordPieces:
  """Texts as ids in lower case, with the tokens that begin and end them."""

  def __init__(self, path: str | os.PathLike):
    """Raises OSError or ValueError, naming the file, where it is no vocabulary."""
    words = pathlib.Path(path).read_text(encoding="utf-8").split("\n")
    words = words[:-1] if words[-1] == "" else words
    if missing := [word for word in NEEDED if word not in words]:
      raise ValueError(f"{path} is no vocabulary of BERT's: it has no {missing[0]}.")
    vocabulary = {word: i for i, word in enumerate(words)}
    self._size = len(words)
    self._pieces = tokenizers.BertWordPieceTokenizer(vocabulary, lowercase=True)

  def __len__(self) -> int:
    return self._size

  def encode(self, text: str, max_length: int) -> list[int]:
    """The ids; of a longer text the first, and the one that ends it."""
    ids = self._pieces.encode(text).ids
    return ids if len(ids) <= max_length else [*ids[: max_length - 1], ids[-1]]
