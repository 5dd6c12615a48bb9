"""Parts of the reports, each scored as if it were the whole."""

import pytest

from jaxrg.metrics import rendering, scoring, subgroups

EFFUSION, CLEAR = "Small left pleural effusion.", "The lungs are clear."


def rows(count=40):
  """Of those with a prior all are right, of the others none."""
  return [
    {
      "id": f"s{i}",
      "patient_id": f"p{i // 2}",
      "has_prior": i % 4 < 2,
      "prior_days": (3, 100)[i % 2] if i % 4 < 2 else None,
      "view": "LATERAL" if i < 4 else "PA",
      "reference": EFFUSION,
      "prediction": EFFUSION if i % 4 < 2 else CLEAR,
    }
    for i in range(count)
  ]


def test_groups_are_scored_by_themselves():
  told = subgroups.score(rows(), resamples=20)
  assert told.keys() == {"protocol", "prior", "gap", "view", "finding"}
  with_prior, without = told["prior"].values()
  assert (with_prior["n"], without["n"]) == (20, 20)
  assert with_prior["ce_rules_micro_f1"]["value"] == 1
  assert without["ce_rules_micro_f1"]["value"] == 0
  assert {name: row["n"] for name, row in told["gap"].items()} == {
    "within a week": 10,
    "later": 10,
  }
  assert list(told["view"]) == ["PA"]  # Four lateral ones are too few.
  assert list(told["finding"]) == ["Pleural Effusion"]


def test_all_of_them_are_the_whole():
  told = subgroups.score(rows(), protocol="lower", resamples=5)
  whole = scoring.score(rows(), resamples=5)
  everybody = told["finding"]["Pleural Effusion"]
  bleu = whole["language"]["lower"]["bleu_4"]["value"]
  assert everybody["bleu_4"]["value"] == pytest.approx(bleu)
  micro = whole["labels"]["micro"]["f1"]["value"]
  assert everybody["ce_rules_micro_f1"]["value"] == pytest.approx(micro)


def test_one_report_stands_for_a_study():
  views = ("LATERAL", "AP", "PA")  # The last one's is right.
  films = [
    row | {"id": f"{row['id']}-{i}", "study_id": row["id"], "view": view}
    for row in rows(12)
    for i, view in enumerate(views)
  ]
  for film in films:
    film["prediction"] = EFFUSION if film["view"] == "PA" else CLEAR
  level = subgroups.score(films, resamples=5)["level"]
  assert {name: row["n"] for name, row in level.items()} == {"image": 36, "study": 12}
  assert level["study"]["ce_rules_micro_f1"]["value"] == 1
  # Of three films one is right; the others miss a finding and claim that there is none.
  assert level["image"]["ce_rules_micro_f1"]["value"] == pytest.approx(1 / 3)
  assert "level" not in subgroups.score(films[::3], resamples=5)


def test_rows_that_tell_nothing_have_no_such_groups():
  bare = [{k: row[k] for k in ("id", "reference", "prediction")} for row in rows()]
  told = subgroups.score(bare, resamples=5)
  assert told.keys() == {"protocol", "finding"}
  assert "finding: Pleural Effusion" in rendering.render(subgroups.table(told))
