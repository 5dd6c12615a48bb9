"""The audit counts a download made by hand; what it says is text and a page."""

import json
import pathlib
import re
import shutil
import subprocess

import pytest

from data_pipelines import records
from data_pipelines.raw import audit, audit_page, audit_tables, priors, rules
from data_pipelines.raw.studies import Download, Film, Oddity, Study

TEXT = "The lungs are <script>alert(1)</script> clear."
OURS = rules.preset("mimic_cxr", "ours")


def study(patient, number, split, time="", views=("PA",), text=TEXT, **more):
  films = tuple(Film(f"f{number}-{i}", f"{number}/{i}", v) for i, v in enumerate(views))
  sections = {"findings": text, "indication": "Cough."} if text else {}
  return Study(patient, number, films, time, split, sections, bool(text), **more)


PRESENT = (records.PRESENT,) + (records.UNMENTIONED,) * 13
STUDIES = (
  study("1", "10", "train", "2150-01-01T10:00:00", labels=PRESENT),
  study("1", "11", "train", "2150-01-03T10:00:00", ("AP", "LATERAL")),
  study("1", "12", "train", "2150-03-03T10:00:00", text="No change at all."),
  study("2", "20", "train", "2150-01-01T10:00:00", text=""),
  study("2", "21", "train", "2150-01-01T22:00:00", ("unk",)),
  study("3", "30", "test", "2150-01-01T10:00:00"),
  study("3", "29", "test", "2150-01-02T10:00:00", text="All is well here."),
  study("4", "40", "", text="Of no split."),
  study("5", "50", "validation", text="As above."),
)
DOWNLOAD = Download(
  "mimic_cxr", "/images", STUDIES, (Oddity("report missing", "20"),) * 2
)
BAD = {"f12-0": "is an empty file"}


def make(download=DOWNLOAD, rule=OURS, quarantine=BAD, **options):
  bad = quarantine or {}
  choice = rules.choose(download, rule, bad)
  links = priors.link(
    download.studies, order=rule.prior_order, views=rule.views, unreadable=bad
  )
  return audit.audit(
    download, choice, links, rules=rule, quarantine=quarantine, **options
  )


def test_what_is_left_and_why():
  told = make()
  steps = {step["name"]: step for step in told["funnel"]}
  assert steps["in the download"]["studies"] == {
    "train": 5,
    "test": 2,
    "no split": 1,
    "validation": 1,
  }
  assert steps["in the download"]["films"]["train"] == 6
  last = told["funnel"][-1]
  assert last["studies"] == {"train": 2, "test": 2}
  assert last["films"] == {"train": 3, "test": 2}
  assert told["dropped"] == {
    "no report": 1,
    "findings too short": 1,
    "no usable view": 1,
    "no split": 1,
    "no readable film": 1,
  }
  assert told["quarantine"] == {"is an empty file": 1}
  assert told["oddities"] == {"report missing": 2}
  assert told["totals"]["train"]["found"] == {
    "patients": 2,
    "studies": 5,
    "reports": 4,
    "films": 6,
  }
  assert told["totals"]["test"]["recalled"]["studies"] == 3269


def test_views_sections_words_labels_and_duplicates():
  told = make()
  assert told["views"]["train"] == {"PA": 1, "AP": 1, "LATERAL": 1}
  assert told["sections"]["the download"]["findings"] == 8
  assert told["sections"]["train"]["indication"] == 2
  assert told["words"]["test"]["target"]["percentiles"]["0"] == 4
  assert told["words"]["test"]["target"]["sum"] == len(TEXT.split()) + 4
  assert told["labels"]["train"]["labelled"] == 1
  first = told["labels"]["train"]["counts"][records.LABELS[0]]
  assert first == {"present": 1, "absent": 0, "uncertain": 0}
  assert told["duplicates"] == {
    "train": {"train": 2, "test": 2},
    "test": {"train": 1, "test": 0},
  }


def test_priors_are_counted_by_their_age():
  told = make()["priors"]["train"]
  assert (told["studies_with_prior"], told["films_with_prior"]) == (1, 2)
  assert told["same_view"] == 0
  assert told["gap_days"]["bins"]["1 to 7 days"] == 1
  assert sum(told["gap_days"]["bins"].values()) == 1
  assert told["gap_days"]["median"] == 2


def test_both_orders_are_compared():
  told = make()["prior_order"]
  # By number, study 30 comes after 29, which is a day later.
  assert told["study_id"] == {"earlier": 3, "not_earlier": 1, "unknown": 0}
  assert told["time"]["not_earlier"] == told["used"]["not_earlier"] == 0
  by_id = make(rule=rules.changed(OURS, {"prior_order": "study_id"}))
  assert by_id["prior_order"]["used"]["not_earlier"] == 1
  assert by_id["priors"]["test"]["gap_days"]["bins"]["not earlier"] == 1
  assert by_id["problems"] == []


def test_problems_are_told_before_all_else():
  kept = rules.choose(DOWNLOAD, OURS)
  other = study("1", "13", "test", "2151-01-01T10:00:00")
  choice = rules.Choice([*kept.kept, other], kept.dropped, kept.steps)
  wrong = {"f11-0": priors.Prior(other, other.films[0], -362.0)}
  told = audit.audit(DOWNLOAD, choice, wrong, rules=OURS)
  assert told["patients_across_splits"] == 1
  assert told["problems"] == [
    "1 patients are in several splits",
    "1 studies have a prior that is not earlier",
  ]
  assert "PROBLEM: 1 patients" in audit_tables.summary(told)
  assert "PROBLEM: 1 studies have a prior" in audit_page.page(told)


@pytest.mark.parametrize(
  "studies", [(), STUDIES[3:4], tuple(s for s in STUDIES if not s.split)]
)
def test_a_download_of_which_nothing_is_left_is_a_problem(studies):
  told = make(Download("mimic_abn", "/images", studies), quarantine=None)
  assert told["problems"] == ["no study is left"]
  assert "no study is left" in audit_tables.summary(told)
  assert "no study is left" in audit_page.page(told)


def test_it_is_json_and_the_same_each_time():
  told = make()
  assert json.dumps(make()) == json.dumps(told)


def test_text_is_in_it_only_when_asked_for():
  told, whole = make(), make(include_text=True)
  texts = ("clear", "All is well", "Cough", "No change at all")
  for form in (json.dumps(told), audit_page.page(told), audit_tables.summary(told)):
    assert not [text for text in texts if text in form]
  assert "Cough" in json.dumps(whole)
  page = audit_page.page(whole)
  assert "&lt;script&gt;alert(1)" in page
  assert "<script" not in page


def test_the_summary_fits_a_terminal():
  lines = audit_tables.summary(make()).splitlines()
  assert max(map(len, lines)) <= audit_tables.WIDTH
  table = lines[lines.index("Whether priors are earlier") :]
  row = next(line for line in table if line.startswith("  by study_id"))
  assert re.findall(r"[\d.]+%?", row) == ["3", "75.0%", "1", "25.0%", "0", "0.0%"]


def test_the_page_asks_nobody_for_anything():
  page = audit_page.page(make(), {"f11-0": b"\x89PNG one", "f10-0": b"\x89PNG two"})
  assert "default-src 'none'" in page
  assert not re.search(r"""(src|href)=["'](?!data:)""", page)
  assert page.count("data:image/png;base64,") == 4  # f10-0 is a prior of both films.


CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_it_on_a_phone_too(tmp_path):
  path = tmp_path / "audit.html"
  measure = "<script>document.title = document.documentElement.scrollWidth</script>"
  page = audit_page.page(make(include_text=True)).replace("default-src 'none'; ", "")
  path.write_text(page.replace("</body>", f"{measure}</body>"))
  flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic")
  flags += ("--no-first-run", "--disable-background-networking", "--disable-sync")
  flags += ("--disable-component-update", f"--user-data-dir={tmp_path / 'user'}")
  flags += ("--window-size=500,900", "--dump-dom")
  command = [CHROMIUM, *flags, path.as_uri()]
  shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
  width = re.search(r"<title>(\d+)</title>", shown)
  assert width, shown[:500]
  assert int(width[1]) <= 500
  assert pathlib.Path(path).stat().st_size < 10**6
