import pytest

from jaxrg.metrics.protocols import PROTOCOLS, cut_to_gpt2


@pytest.mark.parametrize(
  ("protocol", "text", "expected"),
  [
    ("raw", "No effusion.  Clear.", "No effusion.  Clear."),
    ("raw", "", ""),
    ("priorrg", "No effusion.  Clear.", "No effusion . Clear ."),
    ("priorrg", "3.5 cm", "3 .5 cm"),
    ("priorrg", "", " . . ."),
    ("priorrg", "  ", " . . ."),
    ("lower", "No effusion.  Clear.", "no effusion . clear ."),
    ("lower", "", " . . ."),
    ("r2gen", "No effusion.  Clear.", "no effusion . clear ."),
    (
      "r2gen",
      "Heart: 3.5 cm (large)..\nLeft-sided.",
      "heart 35 cm large . left-sided .",
    ),
    ("r2gen", '1. Clear. 2. No PTX. 3. "OK"', "clear . no ptx . ok ."),
    ("r2gen", "", " ."),
  ],
)
def test_texts(protocol, text, expected):
  assert PROTOCOLS[protocol].apply([text]) == [expected]


def test_names_are_keys():
  assert all(name == protocol.name for name, protocol in PROTOCOLS.items())


LONG = "The lungs are clear. " * 40  # Five tokens of GPT-2's a sentence.


def test_references_are_cut_as_published():
  """To 99 tokens after the one that begins them, then cleaned as a prediction is."""
  (words,) = PROTOCOLS["priorrg"].apply_to_references([LONG])
  assert words == "The lungs are clear . " * 19 + "The lungs are clear"
  (kept,) = PROTOCOLS["priorrg_full"].apply_to_references([LONG])
  assert kept.count(".") == 40
  assert PROTOCOLS["priorrg"].apply([LONG]) == PROTOCOLS["priorrg_full"].apply([LONG])
  assert cut_to_gpt2("Clear . It is n't \u00e9 .") == "Clear. It isn't ."


def test_what_is_cut_is_not_cut_again():
  """So that the published file, whose references are cut, is scored as it is."""
  once = cut_to_gpt2(LONG)
  assert cut_to_gpt2(once) == once


def test_r2gen_counts_words():
  (words,) = PROTOCOLS["r2gen"].apply_to_references([LONG])
  assert len(words.split()) == 99
  assert len(PROTOCOLS["r2gen"].apply([LONG])[0].split()) == 200


def test_the_documented_table_is_the_code_s(request):
  text = (request.config.rootpath / "docs/scores.md").read_text()
  for protocol in PROTOCOLS.values():
    cells = (f"`{protocol.name}`", protocol.tokens, protocol.references)
    assert f"| {' | '.join(cells)} |" in text
