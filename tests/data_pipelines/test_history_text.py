"""Which text is a study's history, how it is cleaned, and when it tells too much."""

import pytest

from data_pipelines import history


@pytest.mark.parametrize(
  ("text", "clean"),
  [
    ("  A\t b\n\nC ", "a b c"),
    ("___-year _ ____", "<unk>-year _ <unk>"),
    ("at 07:15 on 3/4", "at <time> on <num>/<num>"),
    ("1.5 cm, t12 2.", "<num> cm, t<num> <num>."),
    ("", ""),
  ],
)
def test_cleaning(text, clean):
  assert history.clean(text) == clean


def record(indication="", past=""):
  return {"indication": indication, "history": past}


@pytest.mark.parametrize(
  ("indication", "past", "expected"),
  [
    ("Fever.", "Smoker, 30 years.", "fever. smoker, <num> years."),
    ("", "Smoker.", "smoker."),
    ("Fever.", " ", "fever."),
    ("", "", ""),
  ],
)
def test_the_history_of_a_record(indication, past, expected):
  assert history.history_of(record(indication=indication, past=past)) == expected


TEN = "one two three four five six seven eight nine ten"


@pytest.mark.parametrize(
  ("told", "leaks"),
  [
    (TEN, True),
    ("two three four five six seven eight", True),
    ("x TWO, three. four five; six seven eight y", True),
    ("two three four five six seven", False),  # 60 % is not more than 60 %.
    ("one two three four five x six seven eight nine ten", False),  # Not in one piece.
    ("two four six eight ten one three five seven nine", False),
    ("fatwo three four five six seven eightfold", False),
    ("", False),
  ],
)
def test_a_leak_is_one_piece_of_more_than_the_share(told, leaks):
  if leaks:
    with pytest.raises(ValueError, match=r"history of study s7 .* 60% of its findings"):
      history.check_leak(told, TEN, "s7")
  else:
    history.check_leak(told, TEN, "s7")


@pytest.mark.parametrize("length", range(1, 12))
def test_the_shortest_leak_of_every_length(length):
  """Spec eir 3.1: more than 60 % of the target, by exact arithmetic."""
  words = [f"w{'abcdefghijkl'[i]}" for i in range(length)]
  told = [n for n in range(length + 1) if not passes(" ".join(words[:n]), words)]
  assert told == [n for n in range(1, length + 1) if 10 * n > 6 * length]


def passes(told, words):
  try:
    history.check_leak(told, " ".join(words), "s")
  except ValueError:
    return False
  return True


def test_cleaning_hides_no_leak():
  findings = "A 12 mm nodule seen at 10:30 in the left lung."
  history_text = history.history_of(record(indication=f"Follow-up.  {findings}"))
  with pytest.raises(ValueError, match="study s2"):
    history.check_leak(history_text, findings, "s2")


@pytest.mark.parametrize("findings", ["", " . "])
def test_an_empty_report_cannot_leak(findings):
  history.check_leak("", findings, "s1")
  history.check_leak("the heart is normal", findings, "s1")
