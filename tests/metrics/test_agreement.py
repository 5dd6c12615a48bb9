import pytest
from stubs import Reader, labels

from jaxrg.metrics import agreement

LARGER = ("Pleural Effusion", "left", "larger")
NEW = ("Pleural Effusion", "right", "new")


def judge(claimed, true, claimed_changes=(), true_changes=()):
  return agreement.judge(
    labels(**claimed), labels(**true), set(claimed_changes), set(true_changes)
  )


def plain(sentences):
  return ["".join(words for words, _ in sentence.runs) for sentence in sentences]


def marked(sentences):
  return [[words for words, differs in s.runs if differs] for s in sentences]


def test_verdicts():
  verdicts = judge({"effusion": 1, "edema": -1}, {"effusion": 0, "edema": 1}, [NEW])
  assert verdicts.labels == {"Edema": "right", "Pleural Effusion": "wrong"}
  assert verdicts.changes == {NEW: "wrong"}
  assert not verdicts.all_right
  missed = judge({}, {"edema": 1}, [LARGER], [LARGER, (*NEW[:2], "unchanged")])
  assert missed == ({"Edema": "missed"}, {LARGER: "right"})
  assert judge({}, {}).all_right


def test_differing_words():
  verdicts = judge({}, {})
  generated, reference = agreement.compare(
    "The heart is big. Clear lungs.",
    "the heart is normal. Clear lungs.",
    verdicts,
    Reader(),
  )
  assert plain(generated) == ["The heart is big.", "Clear lungs."]
  assert marked(generated) == [["big."], []]
  assert marked(reference) == [["normal."], []]


@pytest.mark.parametrize(
  ("prediction", "reference"), [("", "edema."), ("edema.", ""), ("  a  b ", "b")]
)
def test_nothing_is_lost(prediction, reference):
  found = agreement.compare(prediction, reference, judge({}, {}), Reader())
  for text, sentences in zip((prediction, reference), found):
    assert " ".join(plain(sentences)) == " ".join(text.split())


def test_sentences_are_marked_by_their_claims():
  verdicts = judge({"effusion": 1}, {"edema": 1})
  generated, reference = agreement.compare(
    "effusion. no edema. clear.", "edema. no effusion. clear.", verdicts, Reader()
  )
  assert [sentence.mark for sentence in generated] == ["wrong", "wrong", ""]
  assert [sentence.mark for sentence in reference] == ["missed", "missed", ""]
  assert "Pleural Effusion stated" in generated[0].note
  assert "Edema denied" in generated[1].note


def test_a_finding_that_agrees_may_have_a_change_that_does_not():
  both = {"effusion": 1}
  verdicts = judge(both, both, [("Pleural Effusion", "left", "new")], [LARGER])
  generated, reference = agreement.compare(
    "effusion left new.", "effusion left larger. effusion.", verdicts, Reader()
  )
  assert [s.mark for s in generated] == ["wrong"]
  assert [s.mark for s in reference] == ["missed", "right"]
  assert "Pleural Effusion left larger" in reference[0].note


def test_what_is_gone_in_both_agrees():
  gone = ("Pleural Effusion", "left", "resolved")
  verdicts = judge({}, {}, [gone], [gone])
  generated, _ = agreement.compare(
    "effusion left resolved.", "clear.", verdicts, Reader()
  )
  assert generated[0].mark == "right"
