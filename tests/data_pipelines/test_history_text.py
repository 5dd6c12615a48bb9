"""Which text is a study's history, how it is cleaned, and when it tells too much."""

import pytest

from data_pipelines import history

# Every sentence is invented.
REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old woman with
 a cough since 10:30, 2.5 weeks  after __ leave  // any pneumonia

 TECHNIQUE AND HISTORY:  Two views.

 COMPARISON:  None.

 FINDINGS:  The lungs are clear. Heart size is normal.

 REASON  FOR EXAM: Fever; see History: none.
 IMPRESSION:  No pneumonia.
"""


def test_sections_are_in_the_order_of_the_file():
  found = history.sections(REPORT)
  assert [header for header, _ in found] == [
    *("EXAMINATION", "INDICATION", "TECHNIQUE AND HISTORY", "COMPARISON", "FINDINGS"),
    *("REASON FOR EXAM", "IMPRESSION"),
  ]
  assert found[0][1] == "CHEST (PA AND LAT)"
  assert found[5][1] == "Fever; see History: none."
  assert history.sections("No header here: none.") == []


@pytest.mark.parametrize(
  ("text", "headers"),
  [
    ("CLINICAL HISTORY:", ["CLINICAL HISTORY"]),
    ("OLD CLINICAL HISTORY: x", ["OLD CLINICAL HISTORY"]),
    ("PORTABLE AP\nHISTORY: x", ["HISTORY"]),
    ("His HISTORY: x", ["HISTORY"]),
    ("preHISTORY: x", []),
    ("HISTORYx: PAST History: x", []),
    ("AP 2 HISTORY: x", ["HISTORY"]),
    ("HISTORY of falls: x", []),
    ("at 10:30 the film", []),
    ("HISTORY: a HISTORY: b", ["HISTORY", "HISTORY"]),
  ],
)
def test_a_header_is_a_maximal_run_of_upper_case_words(text, headers):
  assert [header for header, _ in history.sections(text)] == headers


def test_the_history_of_a_report():
  """Of no section but the listed ones; none of findings or impression."""
  assert history.of_report(REPORT) == (
    "<unk> year old woman with a cough since <time>, <num> weeks after <unk> leave "
    "// any pneumonia fever; see history: none."
  )
  assert history.of_report("FINDINGS: Clear.") == ""


@pytest.mark.parametrize("header", sorted(history.HEADERS))
def test_every_listed_header_counts(header):
  assert history.of_report(f"{header}: Cough.\nTECHNIQUE: PA.") == "cough."


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


def test_a_history_of_open_i():
  parts = {"INDICATION": "Chest  pain", "COMPARISON": "None.", "FINDINGS": "Clear."}
  assert history.of_open_i(parts) == "chest pain"
  assert history.of_open_i(parts, comparison=True) == "chest pain none."
  assert history.of_open_i({"FINDINGS": "Clear."}, comparison=True) == ""


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
