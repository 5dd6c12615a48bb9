"""Sections of free text, by headers as people write them; invented throughout."""

import time

import numpy as np
import pytest

import fake_reports
from data_pipelines import sections

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old woman with
 a cough // any pneumonia?

 TECHNIQUE:  Two views.

 COMPARISON:  ___.

 FINDINGS:

 The lungs are clear.  Old granulomatous
 disease is noted: calcified nodes.

 IMPRESSION:

 1. No pneumonia.
 2. Tube: in place.

 NOTIFICATION:  Told to Dr. ___ at 10:30.
"""


def test_a_report_is_its_sections_each_in_one_line():
  assert sections.read(REPORT) == {
    "findings": "The lungs are clear. Old granulomatous disease is noted: calcified "
    "nodes.",
    "impression": "1. No pneumonia. 2. Tube: in place.",
    "indication": "___ year old woman with a cough // any pneumonia?",
    "comparison": "___.",
    "technique": "Two views.",
  }


@pytest.mark.parametrize(
  ("header", "name"),
  [
    *((h, "findings") for h in ("FINDINGS:", "FINDING:", "Findings:", "FINDINGS :")),
    *((h, "findings") for h in ("FINDINGS", "FINDINGS \n", "FINDINGS  ", "FINDINGS;")),
    *((h, "findings") for h in ("FINDINGS (AP):", "FINDINGS AND IMPRESSION:")),
    *((h, "findings") for h in ("FINDINGS/IMPRESSION:", "TECHNIQUE AND FINDINGS:")),
    *((h, "findings") for h in ("PA AND LATERAL VIEWS OF THE CHEST:", "AP CHEST:")),
    *((h, "impression") for h in ("IMPRESSION:", "CONCLUSION:", "IMPRESSIONS:")),
    *((h, "impression") for h in ("IMPRESSON:", "Impression:", "IMPRESSION.")),
    *((h, "indication") for h in ("INDICATION:", "REASON FOR EXAM:")),
    *((h, "indication") for h in ("REASON  FOR THIS EXAMINATION:", "Indication:")),
    *((h, "indication") for h in ("INDICATION AND HISTORY:",)),
    *((h, "history") for h in ("HISTORY:", "CLINICAL INFORMATION:", "History:")),
    *((h, "comparison") for h in ("COMPARISON:", "COMPARISONS:", "COMPARISON EXAM:")),
    *((h, "technique") for h in ("TECHNIQUE:", "PROCEDURE:")),
  ],
)
def test_many_headers_name_one_section(header, name):
  assert sections.read(f"FINAL REPORT\n {header} No fracture.\n") == {
    name: "No fracture."
  }


def test_headers_stand_in_the_middle_of_a_line_too():
  text = "HISTORY: Cough. COMPARISON: None. FINDINGS: Clear lungs. IMPRESSION: Normal."
  assert sections.read(text) == {
    "history": "Cough.",
    "comparison": "None.",
    "findings": "Clear lungs.",
    "impression": "Normal.",
  }


@pytest.mark.parametrize(
  "prose",
  [
    "The findings: none of them new.",
    "Her history: unknown.",
    "These findings suggest failure. Impression of the balloon on the aorta.",
    "FINDINGS SUGGEST FAILURE.",
    "prehistory: x",
    "LUNGS: Clear. HEART: Normal. PLEURA: No effusion.",
    "COPD: known.",
    "At 10:30 the line was drawn back.",
    "Disease is noted: old.",
  ],
)
def test_prose_begins_no_section(prose):
  assert sections.read(f"FINDINGS: Before.\n{prose}") == {
    "findings": f"Before. {prose}"
  }


# Spec eir 3.1: what tells of the patient.
@pytest.mark.parametrize(
  "header",
  [
    *("INDICATION", "HISTORY", "CLINICAL HISTORY", "REASON FOR EXAM"),
    *("REASON FOR EXAMINATION", "CLINICAL INFORMATION", "CLINICAL INDICATION"),
    "PATIENT HISTORY",
  ],
)
def test_what_tells_of_the_patient_is_indication_or_history(header):
  (name,) = sections.read(f"{header}: Cough.\nEXAM: Chest.")
  assert name in ("indication", "history")


@pytest.mark.parametrize("header", ["HISTORY", "INDICATION", "COMPARISON", "TECHNIQUE"])
def test_what_was_seen_is_no_history_for_want_of_a_header(header):
  text = f"{header}:\n \n A cough.\n // edema?\n \n The lungs are clear.\n"
  assert sections.read(text) == {header.lower(): "A cough. // edema?"}


@pytest.mark.parametrize("header", ["RECOMMENDATION(S)", "NOTIFICATION", "Study date"])
def test_what_is_no_section_ends_one(header):
  assert sections.read(f"IMPRESSION: Clear.\n{header}: Call.") == {
    "impression": "Clear."
  }


@pytest.mark.parametrize(
  ("header", "name"),
  [
    *((h, "findings") for h in ("FINDINS", "FINDIGNS", "FINDGINGS")),
    *((h, "impression") for h in ("IMPESSION", "MPRESSION", "IMPRSSION")),
    *(("COMPARISION", "comparison"), ("INDICAITON", "indication")),
  ],
)
def test_headers_are_misspelt(header, name):
  assert sections.read(f"{header}: None.") == {name: "None."}
  fracture = "FINDINGS: Old.\nCOMPRESSION: of T8.\nCONDITION: Frail."
  assert sections.read(fracture) == {
    "findings": "Old. COMPRESSION: of T8. CONDITION: Frail."
  }


def test_blanks_are_no_findings():
  assert sections.read("FINDINGS: ___\nIMPRESSION: 1.\nCOMPARISON: ___") == {
    "comparison": "___"
  }


def test_a_section_that_is_there_twice_goes_on():
  text = "FINDINGS: One.\nCOMPARISON: None.\nFINDINGS: Two."
  assert sections.read(text)["findings"] == "One. Two."


@pytest.mark.parametrize(
  "before",
  [
    "ADDENDUM  The line was moved.\n IMPRESSION: Not ours.\n" + "_" * 40 + "\n",
    "WET READ: ___ ___ 9:12 PM\n  FINDINGS: Edema, as first seen.\n",
    "FINAL ADDENDUM\n Seen again.\n\n",
    "PROVISIONAL FINDINGS IMPRESSION (PFI): ___ 8:12 AM\n 1. Maybe edema.\n\n",
  ],
)
def test_what_others_said_before_is_kept_apart(before):
  assert sections.read(before + REPORT) == sections.read(REPORT)


@pytest.mark.parametrize(
  "after",
  [
    "ADDENDUM: Moved.",
    "WET READ: Edema at 9:12.",
    "PROVISIONAL FINDINGS IMPRESSION (PFI): Edema.",
  ],
)
def test_what_others_said_after_is_kept_apart(after):
  assert sections.read(f"{REPORT}\n {after}\n") == sections.read(REPORT)


def test_findings_under_the_views_name_give_way_to_a_header_of_their_own():
  text = "AP CHEST:\n Portable.\n FINDINGS: Clear."
  assert sections.read(text) == {"findings": "Clear."}
  assert sections.read("SINGLE AP VIEW OF THE CHEST: Clear.") == {"findings": "Clear."}


@pytest.mark.parametrize("text", ["", "\n \n", "FINAL REPORT\n The lungs are clear."])
def test_without_headers_there_are_no_sections(text):
  assert sections.read(text) == {}


@pytest.mark.parametrize("kind", fake_reports.KINDS)
def test_invented_reports_are_read_back(kind):
  rng = np.random.default_rng(3)
  for _ in range(200):
    text, said = fake_reports.report(rng, kind)
    found = sections.read(text)
    assert found.get("findings", "") == said
    assert "moved" not in " ".join(found.values())


@pytest.mark.parametrize(
  "unit",
  [
    *("A", "WORD ", "FINDINGS ", "FINDINGS:", "FINDINGS AND ", "\n", " ", "_", ":"),
    *(
      "ADDENDUM\n",
      "WET READ\n",
      "REASON FOR ",
      "PA AND ",
      "a\nb ",
      "\t\n",
      "Findings/",
    ),
    *("ABCDEFG:\n", "F:\n", "A/", "1:", "X1: ", "Impression:\n", "\r", "AP CHEST:"),
    *("__________\n", "FINDINGS (", "FINAL REPORT\n", "ADDENDUM\n__________\n"),
  ],
)
def test_time_grows_with_length_only(unit):
  spent = []
  for length in (2**18, 2**20):
    text = unit * (length // len(unit))
    start = time.process_time()
    sections.read(text)
    spent.append(time.process_time() - start)
  assert spent[1] < 10 * max(spent[0], 0.02)
