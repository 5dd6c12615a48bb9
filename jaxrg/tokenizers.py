"""Text <-> ids, and the strings that PriorRG builds of a record.

One byte-level BPE serves the text encoder and the decoder (spec priorrg 1.4, 1.5).
It is a Hugging Face fast tokenizer; the folder that holds its JSON loads in theirs.
EIR's is `unigram.UnigramTokenizer`; `Tokenizer.load` tells the two apart.
"""

import os
import re
from collections.abc import Iterable
from importlib import resources

import numpy as np
import tokenizers
from etils import epath

# transformers says on import that it has found no PyTorch; it needs none here.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
from transformers import PreTrainedTokenizerFast

from jaxrg.unigram import UnigramTokenizer

END = "<|endoftext|>"  # Begins and ends a report.
PAD, SEP, CLS = "[PAD]", "[SEP]", "[CLS]"
MARKERS = ("[INDICATION]", "[HISTORY]", "[Similar Cases]", "[FINDINGS]")

# What Hugging Face's clean-up does, in its order.
CLEAN_UP = (
  (" .", "."),
  (" ?", "?"),
  (" !", "!"),
  (" ,", ","),
  (" ' ", "'"),
  (" n't", "n't"),
  (" 'm", "'m"),
  (" 's", "'s"),
  (" 've", "'ve"),
  (" 're", "'re"),
)


def alignment_report(findings: str) -> str:
  """What the text encoder reads of a report in stage 1."""
  return f"{CLS} {MARKERS[3]} {findings.strip()}"


def reference(findings: str) -> str:
  """What the decoder learns to write."""
  return f"{END} {findings.strip()} {END}"


def context(indication: str, history: str) -> str:
  """The clinical context; a missing part leaves its marker alone."""
  left = f"{MARKERS[0]} {indication}".strip()
  return f"{left} {SEP} {MARKERS[1]} {history}"


class Tokenizer:
  """A byte-level BPE with PriorRG's special tokens."""

  def __init__(self, tokenizer: PreTrainedTokenizerFast):
    self._tokenizer = tokenizer
    ids = tokenizer.convert_tokens_to_ids
    self.bos = self.eos = ids(END)
    self.pad, self.sep, self.cls = ids(PAD), ids(SEP), ids(CLS)

  def __len__(self) -> int:
    return len(self._tokenizer)

  @classmethod
  def from_bpe(cls, bpe: tokenizers.Tokenizer) -> "Tokenizer":
    """Adds PriorRG's tokens, in its order, to a byte-level BPE."""
    special = lambda text: tokenizers.AddedToken(text, special=True, normalized=False)
    bpe.add_special_tokens([special(text) for text in (END, PAD, SEP, CLS)])
    bpe.add_tokens(list(MARKERS))
    return cls(
      PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END,
        eos_token=END,
        unk_token=END,
        pad_token=PAD,
        sep_token=SEP,
        cls_token=CLS,
        clean_up_tokenization_spaces=False,
      )
    )

  @classmethod
  def gpt2(cls) -> "Tokenizer":
    """GPT-2's, which the published models have: 50,264 entries."""
    return cls.from_gpt2_files(resources.files("jaxrg").joinpath("gpt2"))

  @classmethod
  def from_gpt2_files(cls, directory: epath.PathLike) -> "Tokenizer":
    """From `vocab.json` and `merges.txt`, as GPT-2 ships them."""
    directory = epath.Path(directory)
    files = [directory / name for name in ("vocab.json", "merges.txt")]
    missing = [str(path) for path in files if not path.exists()]
    if missing:
      raise FileNotFoundError(f"A GPT-2 tokenizer needs {' and '.join(missing)}.")
    try:
      model = tokenizers.models.BPE.from_file(*map(str, files))
    except Exception as error:  # The library raises nothing more special.
      raise ValueError(f"{directory} holds no GPT-2 tokenizer: {error}") from error
    return cls.from_bpe(_byte_level(model))

  @classmethod
  def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
    """A vocabulary of its own, of at most `vocab_size` entries and the special ones.

    It starts from printable ASCII: a whole alphabet of bytes would leave half as
    many entries for words, and `decode` drops what is not ASCII anyway.
    """
    bpe = _byte_level(tokenizers.models.BPE())
    trainer = tokenizers.trainers.BpeTrainer(
      vocab_size=vocab_size,
      special_tokens=[END],
      initial_alphabet=[chr(code) for code in range(0x21, 0x7F)],
      show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return cls.from_bpe(bpe)

  @classmethod
  def load(cls, directory: epath.PathLike) -> "Tokenizer | UnigramTokenizer":
    """The tokenizer of a run or an export, whichever kind it is."""
    path = epath.Path(directory) / "tokenizer.json"
    if not path.exists():
      raise FileNotFoundError(
        f"No tokenizer in {directory}: tokenizer.json is missing."
      )
    try:
      return cls.from_json(path.read_text())
    except Exception as error:  # The library raises nothing more special.
      raise ValueError(f"{path} is damaged: {error}") from error

  @classmethod
  def from_json(cls, text: str) -> "Tokenizer | UnigramTokenizer":
    """What `to_json` gave, of this class or of `UnigramTokenizer`."""
    tokenizer = tokenizers.Tokenizer.from_str(text)
    if isinstance(tokenizer.model, tokenizers.models.Unigram):
      return UnigramTokenizer(tokenizer)
    return cls.from_bpe(tokenizer)

  def to_json(self) -> str:
    """The whole tokenizer as the text of a tokenizer.json."""
    return self._tokenizer.backend_tokenizer.to_str(pretty=True)

  def encode(self, text: str, max_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids cut and padded on the right, and which of them are real."""
    ids = self._tokenizer.encode(text, add_special_tokens=False)[:max_length]
    padded = np.full(max_length, self.pad, np.int32)
    padded[: len(ids)] = ids
    return padded, np.arange(max_length) < len(ids)

  def decode(self, ids: Iterable[int]) -> str:
    """The text of ids, cleaned as the published evaluation does (spec 4.4)."""
    text = self._tokenizer.decode(
      [int(i) for i in ids],
      skip_special_tokens=True,
      clean_up_tokenization_spaces=False,
    )
    for old, new in CLEAN_UP:
      text = text.replace(old, new)
    return re.sub(r"[^\x20-\x7e]", "", text.strip())


def _byte_level(model: tokenizers.models.BPE) -> tokenizers.Tokenizer:
  bpe = tokenizers.Tokenizer(model)
  bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  bpe.decoder = tokenizers.decoders.ByteLevel()
  return bpe
