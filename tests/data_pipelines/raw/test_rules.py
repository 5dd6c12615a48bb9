import dataclasses

import pytest

from data_pipelines.raw import rules
from data_pipelines.raw.studies import Download, Film, Study

OURS = rules.PRESETS["mimic_cxr"]["ours"]
TOLD = "The lungs are clear and the heart is of normal size."


def study(name, views=("PA",), patient=None, told=TOLD, split="train", **more):
  films = tuple(Film(f"{name}-{i}", f"{name}/{i}.jpg", v) for i, v in enumerate(views))
  sections = more.pop("sections", {"findings": told} if told else {})
  return Study(
    patient or f"p{name}", name, films, split=split, sections=sections, **more
  )


def choose(*studies, by=OURS, unreadable=(), **changes):
  by = dataclasses.replace(by, **changes)
  return rules.choose(Download("mimic_cxr", "images", studies), by, unreadable)


@pytest.mark.parametrize(
  ("given", "reason"),
  [
    (study("1", has_report=False, told=""), "no report"),
    (study("1", sections={"impression": TOLD}), "no findings"),
    (study("1", told=" \n"), "no findings"),
    (study("1", told="As above."), "findings too short"),
    (study("1", views=()), "no film"),
    (study("1", views=("unk", "PA LLD")), "no usable view"),
    (study("1", split=""), "no split"),
    (
      study("1", sections={"findings": TOLD, "history": TOLD.upper()}),
      "history tells the findings",
    ),
  ],
)
def test_a_study_is_dropped_for_one_named_reason(given, reason):
  choice = choose(study("0"), given)
  assert choice.dropped == {"1": reason}
  assert [s.study_id for s in choice.kept] == ["0"]


def test_films_that_cannot_be_used_go_and_the_study_stays():
  choice = choose(study("1", views=("unk", "AP", "PA")), unreadable={"1-1"})
  assert [film.id for film in choice.kept[0].films] == ["1-2"]
  assert not choice.dropped


def test_a_study_of_which_no_film_can_be_read_is_dropped():
  choice = choose(study("1", views=("unk", "AP")), unreadable={"1-1"})
  assert choice.dropped == {"1": "no readable film"}


def test_an_anchor_is_the_best_film_that_can_be_read():
  given = study("1", views=("LATERAL", "PA", "AP"))
  film = lambda **more: choose(given, films="anchor", **more).kept[0].films
  assert [f.view for f in film()] == ["PA"]
  assert [f.view for f in film(unreadable={"1-1"})] == ["AP"]


def test_exactly_two_films_none_of_them_unusable():
  choice = choose(
    study("1", views=("PA", "LATERAL")),
    study("2", views=("PA",)),
    study("3", views=("PA", "LATERAL", "unk")),
    study("4", views=("PA", "AP")),
    exact_films=2,
    unreadable={"4-0"},
  )
  assert [s.study_id for s in choice.kept] == ["1"]
  assert choice.dropped == dict.fromkeys("234", "not exactly 2 films")


def test_of_a_patient_in_two_splits_what_is_judged_by_stays():
  choice = choose(
    study("1", patient="a"),
    study("2", patient="a", split="test"),
    study("3", patient="a", split="validation"),
    study("4", patient="b"),
    study("5", patient="b", split="validation"),
    study("6", patient="c"),
    study("7", patient="c", split="test", told=""),
  )
  assert [s.study_id for s in choice.kept] == ["2", "5", "6"]
  assert {choice.dropped[name] for name in "134"} == {"patient in two splits"}
  assert choice.dropped["7"] == "no findings"


def test_every_study_is_kept_or_dropped_and_every_step_counted():
  studies = [
    study("1", views=("PA", "LATERAL")),
    study("2", told="", split="test"),
    study("3", split="test", views=("AP", "unk")),
    study("4", has_report=False, told=""),
  ]
  choice = choose(*studies)
  kept = {s.study_id for s in choice.kept}
  assert kept | choice.dropped.keys() == set("1234")
  assert not kept & choice.dropped.keys()
  first, report, findings, *_, last = choice.steps
  assert (first.studies, first.films) == (
    {"train": 2, "test": 2},
    {"train": 3, "test": 3},
  )
  assert (report.studies, report.dropped) == ({"train": 1, "test": 2}, {"no report": 1})
  assert (findings.films, findings.dropped) == (
    {"train": 2, "test": 2},
    {"no findings": 1},
  )
  assert (last.studies, last.films) == (
    {"train": 1, "test": 1},
    {"train": 2, "test": 1},
  )


def test_the_target_is_the_sections_in_their_order():
  given = study("1", sections={"findings": " Clear. ", "impression": "Well."})
  nguyen = rules.preset("iu_xray", "nguyen")
  assert OURS.target(given) == "Clear."
  assert nguyen.target(given) == "Well. Clear."
  assert OURS.target(study("2", told="")) == ""


def test_a_damaged_film_moves_no_study_to_another_split():
  studies = [study(str(n), patient=f"p{n:03d}", split="") for n in range(50)]
  nguyen = rules.preset("mimic_cxr", "nguyen")
  whole = {s.study_id: s.split for s in choose(*studies, by=nguyen).kept}
  damaged = choose(*studies, by=nguyen, unreadable={"7-0", "31-0"})
  assert {s.study_id: s.split for s in damaged.kept} == {
    name: split for name, split in whole.items() if name not in ("7", "31")
  }
  assert len(whole) == 50


def test_a_drawn_split_forgets_the_stated_one():
  choice = choose(study("1", split="test"), by=rules.preset("mimic_cxr", "nguyen"))
  assert choice.steps[0].studies == {"": 1}


@pytest.mark.parametrize("dataset", rules.PRESETS)
def test_presets_are_found_by_their_name(dataset):
  for name in rules.PRESETS[dataset]:
    assert rules.preset(dataset, name).name == name
  with pytest.raises(ValueError, match="no preset 'theirs'; known: ours"):
    rules.preset(dataset, "theirs")


@pytest.mark.parametrize(
  "wrong",
  [
    {"views": ("PA", "SIDEWAYS")},
    {"views": ()},
    {"sections": ("conclusion",)},
    {"required": "conclusion"},
    {"split": "random"},
    {"films": "first"},
    {"prior_order": "date"},
  ],
  ids=str,
)
def test_rules_that_cannot_be_followed_are_refused_in_a_line(wrong):
  (name,) = wrong
  with pytest.raises(ValueError, match=f"^{name} of the rules ours: .*; known are .+"):
    dataclasses.replace(OURS, **wrong)
