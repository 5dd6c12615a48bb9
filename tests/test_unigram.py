"""EIR's vocabulary: its ids, its words, and that text survives it."""

import json

import numpy as np
import pytest

from jaxrg.tokenizers import Tokenizer
from jaxrg.unigram import UnigramTokenizer

COMMON = (
  "the heart is large.",
  "<unk> year old with pain, since <time>.",
  "no effusion (or <num> cm).",
)
RARE = ("cardiomediastinal", "cardiothoracic", "cardiophrenic", "thoracotomy") * 3
TEXTS = COMMON * 10 + RARE
WORDS = 15  # As many as COMMON has.


@pytest.fixture(scope="module")
def trained():
  return UnigramTokenizer.train(TEXTS, 86, WORDS)


def pieces(tokenizer):
  """Every entry in the order of the ids."""
  return [piece for piece, _ in json.loads(tokenizer.to_json())["model"]["vocab"]]


def tokens(tokenizer, text):
  entries = pieces(tokenizer)
  return [entries[i] for i in tokenizer.encode_name(text)]


def test_the_special_ids(trained):
  assert (trained.unk, trained.bos, trained.eos, trained.pad) == (0, 1, 2, 3)
  assert pieces(trained)[:4] == ["<unk>", "<s>", "</s>", "<pad>"]


def test_the_vocabulary_is_bounded_and_each_entry_is_there_once(trained):
  assert len(trained) == len(pieces(trained)) == len(set(pieces(trained))) == 86
  assert len(UnigramTokenizer.train(TEXTS, 70)) == 70
  assert len(UnigramTokenizer.train(TEXTS, 1000)) < 200  # There is no more to learn.
  with pytest.raises(ValueError, match=r"config\.tokenizer\.vocab_size=50 has no room"):
    UnigramTokenizer.train(TEXTS, 50)


def test_frequent_words_are_whole_and_rare_ones_in_pieces(trained):
  assert tokens(trained, "the heart is large") == ["▁the", "▁heart", "▁is", "▁large"]
  parts = tokens(trained, "cardiothoracic")
  assert "".join(parts) == "▁cardiothoracic"
  assert 1 < len(parts) < len("cardiothoracic") / 2  # It has learned some.


def test_the_most_frequent_words_come_first():
  words = UnigramTokenizer.train(["b b b a a c", "no"], 46, 2)
  assert {"▁a", "▁b"} < set(pieces(words))
  assert tokens(words, "b a c") == ["▁b", "▁a", "▁", "c"]


def test_a_word_is_whole_even_where_two_words_spell_it():
  tokenizer = UnigramTokenizer.train(["in into x-to"] * 5, 80)
  assert {"▁in", "to"} <= set(pieces(tokenizer))
  assert tokens(tokenizer, "into") == ["▁into"]


def test_marks_and_placeholders_stand_alone(trained):
  text = "pain,heart <unk> (or <num> cm) since <time>."
  found = tokens(trained, text)
  assert found[:2] == ["▁pain", ","]
  assert [t for t in found if "<" in t] == ["<unk>", "▁<num>", "▁<time>"]
  assert found[-1] == "."
  assert tokens(trained, "t<num>")[-1] == "<num>"


def test_no_text_is_a_special_token(trained):
  ids = trained.encode_name("<s> heart </s> <pad>")
  assert not {trained.bos, trained.eos, trained.pad} & set(ids)


def test_what_was_blanked_out_is_unknown(trained):
  [space, unknown] = trained.encode_name("<unk>")
  assert (pieces(trained)[space], unknown) == ("▁", trained.unk)
  assert trained.unk in trained.encode_name("é")


def test_an_encoded_text_begins_and_ends(trained):
  ids, real = trained.encode("the heart", 6)
  the, heart = trained.encode_name("the heart")
  assert ids.tolist() == [1, the, heart, 2, 3, 3]
  assert real.tolist() == [True] * 4 + [False] * 2
  assert ids.dtype == np.int32


def test_a_text_that_is_cut_ends_all_the_same(trained):
  ids, real = trained.encode("the heart is large", 4)
  assert ids.tolist() == [1, *trained.encode_name("the heart"), 2]
  assert real.all()


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_history_is_its_ends(trained, text):
  ids, real = trained.encode(text, 3)
  assert ids[real].tolist() == [trained.bos, trained.eos]


@pytest.mark.parametrize(
  "text",
  [
    "the heart is large.",
    "no effusion (or <num> cm).",
    "an unseen pre-op cardiotomy, 3.5 cm; is it?",
  ],
)
def test_text_survives(trained, text):
  tokenizer = UnigramTokenizer.train([*TEXTS, "qwzxvjkpmb3ug5y-;?"], 140, WORDS)
  assert tokenizer.decode(tokenizer.encode(text, 80)[0]) == text


def test_decoding_stops_at_the_end_and_joins_marks(trained):
  ids = trained.encode_name("heart , large ( no effusion ) . is")
  assert trained.decode(ids) == "heart, large (no effusion). is"
  assert trained.decode([1, *trained.encode_name("no"), 2, *ids]) == "no"
  assert trained.decode([3, 0, 1]) == ""


def test_training_is_deterministic(trained):
  for _ in range(3):
    assert UnigramTokenizer.train(TEXTS, 86, WORDS).to_json() == trained.to_json()


def test_each_kind_is_told_by_its_file(trained, tmp_path):
  for kind in (trained, Tokenizer.train(TEXTS, 200)):
    (tmp_path / "tokenizer.json").write_text(kind.to_json())
    loaded = Tokenizer.load(tmp_path)
    assert type(loaded) is type(kind)
    assert loaded.to_json() == kind.to_json()
    for text in TEXTS[:3]:
      np.testing.assert_array_equal(loaded.encode(text, 9), kind.encode(text, 9))


def test_a_unigram_model_of_others_is_refused(trained, tmp_path):
  text = trained.to_json().replace('"<pad>"', '"<pat>"')
  (tmp_path / "tokenizer.json").write_text(text)
  with pytest.raises(ValueError, match=r"tokenizer\.json is damaged: a unigram"):
    Tokenizer.load(tmp_path)
