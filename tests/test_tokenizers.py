import hashlib
import json
from importlib import resources

import numpy as np
import pytest

import goldens
from jaxrg import tokenizers
from jaxrg.tokenizers import Tokenizer

TEXTS = (
  "[CLS] [FINDINGS] The heart is normal.",
  "[INDICATION] [SEP] [HISTORY] ",
  "<|endoftext|> The heart is normal. <|endoftext|>",
)


@pytest.fixture(scope="module")
def toy():
  """The vocabulary of the goldens: 360 byte-level entries and the seven added."""
  return Tokenizer.from_gpt2_files(goldens.FOLDER / "tokenizer")


def test_ids_of_the_special_tokens(toy):
  special = json.loads((goldens.FOLDER / "config.json").read_text())["special"]
  assert len(toy) == 367
  assert (toy.bos, toy.eos) == (special["<|endoftext|>"],) * 2
  assert (toy.pad, toy.sep, toy.cls) == tuple(
    special[name] for name in ("[PAD]", "[SEP]", "[CLS]")
  )
  for token, number in special.items():
    assert toy.encode(token, 3)[0].tolist() == [number, toy.pad, toy.pad]


@pytest.mark.parametrize("case", ["mixed6", "noprior3"])
def test_the_authors_ids(toy, case):
  arrays = goldens.load(f"stage1_{case}")
  for name in ("context", "reference", "report"):
    for text, ids, mask in zip(
      *(arrays[f"in/{name}_{k}"] for k in ("text", "ids", "mask"))
    ):
      ours, real = toy.encode(str(text), len(ids))
      np.testing.assert_array_equal(ours, ids)
      np.testing.assert_array_equal(real, mask > 0)


@pytest.mark.parametrize("case", ["mixed6", "noprior3"])
def test_the_authors_texts(toy, case):
  arrays = goldens.load(f"stage2_{case}")
  pairs = (
    ("out/beam_ids_authors", "out/generated_text"),
    ("in/reference_ids", "out/reference_text"),
  )
  for ids, texts in pairs:
    assert [toy.decode(x) for x in arrays[ids]] == arrays[texts].tolist()


def test_the_strings_of_a_record():
  assert tokenizers.alignment_report(" The heart.\n") == "[CLS] [FINDINGS] The heart."
  assert (
    tokenizers.reference(" The heart.\n") == "<|endoftext|> The heart. <|endoftext|>"
  )
  assert tokenizers.context("", "") == "[INDICATION] [SEP] [HISTORY] "
  assert tokenizers.context("cough", "") == "[INDICATION] cough [SEP] [HISTORY] "
  assert tokenizers.context("", "smoker ") == "[INDICATION] [SEP] [HISTORY] smoker "
  assert tokenizers.context(" ", "a") == "[INDICATION] [SEP] [HISTORY] a"


def test_lone_spaces_survive_beside_added_tokens(toy):
  [space] = toy.encode(" ", 1)[0]
  ids, real = toy.encode(tokenizers.context("", ""), 8)
  names = [
    toy.encode(f"[{name}]", 1)[0][0] for name in ("INDICATION", "SEP", "HISTORY")
  ]
  expected = [names[0], space, names[1], space, names[2], space, toy.pad, toy.pad]
  assert ids.tolist() == expected
  assert real.tolist() == [True] * 6 + [False] * 2
  ids, real = toy.encode(tokenizers.reference("The heart is normal."), 60)
  assert ids[real][-2:].tolist() == [space, toy.eos]


def test_a_long_text_is_cut_on_the_right(toy):
  ids, real = toy.encode("<|endoftext|> heart heart heart", 3)
  assert real.all()
  assert len(ids) == 3
  assert ids[0] == toy.bos


@pytest.mark.parametrize(
  ("raw", "clean"),
  [
    ("No effusion . Is it ? Yes !", "No effusion. Is it? Yes!"),
    ("heart , lungs", "heart, lungs"),
    (
      "it does n't and we 've seen the patient 's film",
      "it doesn't and we've seen the patient's film",
    ),
    ("  heart  ", "heart"),
    ("40 \u00b0C \u2013 large\nhilum", "40 C  largehilum"),
  ],
)
def test_clean_up(toy, raw, clean):
  ids, real = toy.encode(raw, 80)
  assert toy.decode(ids[real]) == clean


def test_special_tokens_are_not_text_but_markers_are(toy):
  ids, _ = toy.encode("<|endoftext|> heart [SEP] [FINDINGS] lung <|endoftext|>", 40)
  assert toy.decode(ids) == "heart  [FINDINGS] lung"


CORPUS = ["the heart is normal", "small left effusion", "the heart is enlarged"] * 20


@pytest.fixture(scope="module")
def trained():
  return Tokenizer.train(CORPUS, 300)


def test_training_is_deterministic_and_bounded(trained):
  assert Tokenizer.train(CORPUS, 300).to_json() == trained.to_json()
  assert len(trained) <= 300 + 7
  assert len(trained.encode("the heart is normal", 40)[0].nonzero()[0]) > 0
  words = trained.encode("the heart is normal", 40)[1].sum()
  assert words < len("the heart is normal") / 2  # It has merged something.


def test_any_text_survives_a_vocabulary_that_has_not_seen_it(trained):
  text = "Zöllinger {2} ~ QUX"
  ids, real = trained.encode(text, 80)
  assert trained.decode(ids[real]) == "Zllinger {2} ~ QUX"  # ASCII alone is printed.


def test_it_survives_its_file(trained, tmp_path):
  with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
    Tokenizer.load(tmp_path)
  (tmp_path / "tokenizer.json").write_text(trained.to_json())
  loaded = Tokenizer.load(tmp_path)
  assert loaded.to_json() == trained.to_json()
  assert (len(loaded), loaded.pad, loaded.eos) == (
    len(trained),
    trained.pad,
    trained.eos,
  )
  for text in TEXTS:
    np.testing.assert_array_equal(
      loaded.encode(text, 50)[0], trained.encode(text, 50)[0]
    )


def test_missing_files_are_named(tmp_path):
  (tmp_path / "vocab.json").write_text("{}")
  with pytest.raises(FileNotFoundError, match=r"merges\.txt"):
    Tokenizer.from_gpt2_files(tmp_path)


@pytest.fixture(scope="module")
def gpt2():
  return Tokenizer.gpt2()


@pytest.mark.parametrize(
  ("name", "digest"),
  [("vocab.json", "196139668b"), ("merges.txt", "1ce1664773")],
)
def test_gpt2s_files_are_openais(name, digest):
  data = resources.files("jaxrg").joinpath("gpt2", name).read_bytes()
  assert hashlib.sha256(data).hexdigest().startswith(digest)


GPT2_IDS = (
  [50259, 220, 50263, 383, 2612, 318, 3487, 13],
  [50260, 220, 50258, 220, 50261, 220],
  [50256, 383, 2612, 318, 3487, 13, 220, 50256],
)


def ids_of(tokenizer, text):
  ids, real = tokenizer.encode(text, 20)
  return ids[real].tolist()


def test_gpt2s_ids_are_the_published_ones(gpt2, tmp_path):
  """And they are the same after `tokenizer.json`."""
  (tmp_path / "tokenizer.json").write_text(gpt2.to_json())
  for tokenizer in (gpt2, Tokenizer.load(tmp_path)):
    assert len(tokenizer) == 50264
    assert [ids_of(tokenizer, text) for text in TEXTS] == list(GPT2_IDS)
    added = (tokenizers.END, tokenizers.PAD, tokenizers.SEP, tokenizers.CLS)
    added = [ids_of(tokenizer, name) for name in (*added, *tokenizers.MARKERS)]
    assert added == [[i] for i in range(50256, 50264)]
    ends = (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.sep, tokenizer.cls)
    assert ends == (50256, 50256, 50257, 50258, 50259)
