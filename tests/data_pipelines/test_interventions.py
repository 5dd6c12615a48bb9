"""Each intervention changes what it says, for whom it says, and nothing else."""

import itertools

import numpy as np
import pytest

from data_pipelines import interventions, loader, records

SIZE = 4
SEED = 3
TEXT = ("Fever and cough.", "Chest pain after a fall.", "", "Weight loss.", "Headache.")
HISTORY = ("Smoker.", "", "", "Hip surgery two days ago.")
# Patient -> the views of each of its studies, in order of time.
PATIENTS = {
  "a": (("PA", "LATERAL"), ("AP",), ("PA", "LATERAL")),
  "b": (("PA",), ("PA", "LATERAL"), ("LATERAL", "AP"), ("AP",)),
  "c": (("AP",),),
  "d": (("PA", "LL"), ("AP",)),
}


def raw_records():
  """Records as a data set gives them; priors as `thorax` chooses them."""
  rows, number = [], 0
  for patient, studies in PATIENTS.items():
    before = {}
    for views in studies:
      now = {}
      for view in views:
        prior_view = view if view in before else next(iter(before), "")
        now[view] = len(rows)
        row = {name: "" for name, (dtype, _) in records.FIELDS.items() if dtype is str}
        rows.append(
          row
          | {
            "id": f"{patient}_{number}_{view}",
            "patient_id": patient,
            "study_id": f"{patient}{number}",
            "study_time": f"2020-01-{number + 1:02}T00:00:00",
            "view": view,
            "image": np.full((SIZE, SIZE, 1), len(rows) + 1, np.uint8),
            "prior": before.get(prior_view, -1),
            "prior_view": prior_view,
            "prior_report": rows[before[prior_view]]["findings"] if before else "",
            "indication": TEXT[number % len(TEXT)],
            "history": HISTORY[number % len(HISTORY)],
            "findings": f"Report {number}.",
            "labels": np.full(len(records.LABELS), -2, np.int8),
          }
        )
      before, number = now, number + 1
  return rows


SOURCE = raw_records()
PARSED = [loader.parse(SOURCE, i) for i in range(len(SOURCE))]
META = [{k: v for k, v in record.items() if k != "image"} for record in PARSED]
AT = {row["id"]: i for i, row in enumerate(SOURCE)}
ALL = {
  "drop_priors": (0.5, SEED),
  "other_patients_prior": (),
  "prior_of_another_view": (),
  "oldest_prior": (),
  "without_context": (),
  "masked_indication": (),
  "swapped_context": (),
  "masked_context": (0.5, "token", SEED),
  "noisy_indication": (0.5, SEED),
  "blank_image": (128,),
  "swapped_image": (SOURCE,),
}
PRIOR = {"prior", "prior_view", "prior_report"}
CONTEXT = {"indication", "history"}
MAY_CHANGE = {
  "without_context": CONTEXT,
  "masked_context": CONTEXT,
  "swapped_context": CONTEXT,
  "masked_indication": {"indication"},
  "noisy_indication": {"indication"},
  "blank_image": {"image"},
  "swapped_image": {"image"},
}


def make(name, *arguments):
  return getattr(interventions, name)(META, *arguments)


def edited(intervention):
  return [intervention.edit(i, dict(record)) for i, record in enumerate(PARSED)]


def changed(record, other):
  return {name for name in record if not np.array_equal(record[name], other[name])}


def applied(name, *arguments):
  """Ids of the records that an intervention says it changes."""
  mask = make(name, *arguments).applies
  assert mask.shape == (len(META),)
  assert mask.dtype == bool
  return {row["id"] for row, applies in zip(META, mask) if applies}


def view_of_model(intervention=None):
  """What the model gets of each record."""
  texts = lambda record: {name: record[name] for name in CONTEXT}
  edit = intervention and intervention.edit
  studies = loader.Studies(
    SOURCE, texts, image_size=SIZE, views=records.VIEWS, edit=edit
  )
  return [studies[i] for i in range(len(studies))]


@pytest.mark.parametrize("name", ALL)
def test_it_changes_its_part_of_those_to_whom_it_applies(name):
  intervention = make(name, *ALL[name])
  differences = [changed(a, b) for a, b in zip(PARSED, edited(intervention))]
  assert [bool(names) for names in differences] == intervention.applies.tolist()
  assert set().union(*differences) <= MAY_CHANGE.get(name, PRIOR)
  assert intervention.applies.any()
  # And so it is for the model: where it does not apply, not a bit is another one.
  before, after = view_of_model(), view_of_model(intervention)
  seen = [bool(changed(a, b)) for a, b in zip(before, after)]
  assert seen == intervention.applies.tolist()


@pytest.mark.parametrize("name", ALL)
def test_it_is_the_same_every_time(name):
  first, again = (edited(make(name, *ALL[name])) for _ in range(2))
  assert not any(changed(a, b) for a, b in zip(first, again))


@pytest.mark.parametrize("name", ALL)
def test_it_leaves_the_records_alone(name):
  edited(make(name, *ALL[name]))
  fresh = [loader.parse(raw_records(), i) for i in range(len(SOURCE))]
  assert not any(changed(a, b) for a, b in zip(PARSED, fresh))


@pytest.mark.parametrize("name", ["other_patients_prior", "prior_of_another_view"])
def test_a_prior_brings_its_view_and_report(name):
  for record in edited(make(name)):
    if record["prior"] >= 0:
      prior = META[int(record["prior"])]
      assert record["prior_view"] == prior["view"]
      assert record["prior_report"] == prior["findings"]


def test_dropped_priors_are_nested_in_their_share():
  owners = {row["id"] for row in META if row["prior"] >= 0}
  shares = (0.0, 0.25, 0.5, 0.75, 1.0)
  dropped = [applied("drop_priors", share, SEED) for share in shares]
  assert (dropped[0], dropped[-1]) == (set(), owners)
  for fewer, more in itertools.pairwise(dropped):
    assert fewer <= more
  halves = {frozenset(applied("drop_priors", 0.5, seed)) for seed in range(8)}
  assert len(halves) > 4
  for record in edited(make("drop_priors", 1.0, SEED)):
    assert (record["prior"], record["prior_view"], record["prior_report"]) == (
      -1,
      "",
      "",
    )


def test_what_is_dropped_depends_on_the_id_alone():
  some = META[5:]
  alone = interventions.drop_priors(some, 0.5, SEED).applies
  assert alone.tolist() == make("drop_priors", 0.5, SEED).applies[5:].tolist()


def test_shares_of_many_are_about_right():
  many = [dict(META[-1], id=f"p{i}") for i in range(2000)]
  assert abs(interventions.drop_priors(many, 0.3, 0).applies.mean() - 0.3) < 0.04


def test_another_patient_s_prior():
  for row, record in zip(META, edited(make("other_patients_prior"))):
    assert (record["prior"] >= 0) == (row["prior"] >= 0)
    if record["prior"] >= 0:
      assert META[int(record["prior"])]["patient_id"] != row["patient_id"]
  lonely = [row for row in META if row["patient_id"] == "a"]
  alone = interventions.other_patients_prior(lonely)
  assert [alone.edit(i, row)["prior"] for i, row in enumerate(lonely)] == [-1] * 5
  assert alone.applies.tolist() == [row["prior"] >= 0 for row in lonely]


def test_the_prior_s_other_view():
  """Only where the prior study has one."""
  expected = {
    "a_1_AP": "a_0_LATERAL",
    "b_5_LATERAL": "b_4_PA",
    "b_5_AP": "b_4_LATERAL",
    "b_6_AP": "b_5_LATERAL",
    "d_9_AP": "d_8_LL",
  }
  assert applied("prior_of_another_view") == expected.keys()
  after = edited(make("prior_of_another_view"))
  for name, prior in expected.items():
    assert after[AT[name]]["prior"] == AT[prior]


def test_the_oldest_prior():
  """Of the same view where that study has one; of those with two earlier studies."""
  expected = {
    "a_2_PA": "a_0_PA",
    "a_2_LATERAL": "a_0_LATERAL",
    "b_5_LATERAL": "b_3_PA",
    "b_5_AP": "b_3_PA",
    "b_6_AP": "b_3_PA",
  }
  assert applied("oldest_prior") == expected.keys()
  after = edited(make("oldest_prior"))
  for name, prior in expected.items():
    assert after[AT[name]]["prior"] == AT[prior]


def test_contexts_are_taken():
  assert applied("masked_indication") == {r["id"] for r in META if r["indication"]}
  for row, record in zip(META, edited(make("masked_indication"))):
    assert (record["indication"], record["history"]) == ("", row["history"])
  told = {r["id"] for r in META if r["indication"] or r["history"]}
  assert applied("without_context") == told
  for record in edited(make("without_context")):
    assert (record["indication"], record["history"]) == ("", "")


def test_contexts_are_another_patient_s():
  told = lambda row: (row["indication"], row["history"])
  owners = {}
  for row in META:
    owners.setdefault(told(row), set()).add(row["patient_id"])
  for row, record in zip(META, edited(make("swapped_context"))):
    if told(row) == ("", ""):
      assert told(record) == ("", "")
    else:
      assert owners[told(record)] - {row["patient_id"]}


def test_equal_contexts_are_no_exchange():
  rows = [dict(row, indication="Fever.", history="") for row in META]
  assert not interventions.swapped_context(rows).applies.any()


LONG = " Fever. Cough since  1.5 weeks; no pain.\nIs it pneumonia? Smoker"
PARTS_OF_LONG = {
  "token": LONG.split(),
  "sentence": [
    "Fever.",
    "Cough since  1.5 weeks;",
    "no pain.",
    "Is it pneumonia?",
    "Smoker",
  ],
  "study": [LONG],
}


@pytest.mark.parametrize("unit", interventions.UNITS)
def test_what_is_masked_is_nested_in_its_level(unit):
  """Spec eir 12, 14: nested and seeded levels; 0 is the clean text, 1 is none."""
  parts, rows = PARTS_OF_LONG[unit], [dict(row, indication=LONG) for row in META]
  levels = (0.0, 0.25, 0.5, 0.75, 1.0)
  runs = [interventions.masked_context(rows, level, unit, SEED) for level in levels]
  left = [
    [
      {p for p in parts if p in run.edit(i, row)["indication"]}
      for i, row in enumerate(rows)
    ]
    for run in runs
  ]
  assert not runs[0].applies.any()
  assert [runs[0].edit(i, row)["indication"] for i, row in enumerate(rows)] == (
    [LONG] * len(rows)
  )
  for i, row in enumerate(rows):
    record = runs[-1].edit(i, row)
    assert (record["indication"], record["history"]) == ("", "")
  for more, less in itertools.pairwise(left):
    assert all(a >= b for a, b in zip(more, less))
  sizes = [sum(map(len, run)) for run in left]
  assert sizes == sorted(set(sizes), reverse=True)
  other = interventions.masked_context(rows, 0.5, unit, SEED + 1)
  again = interventions.masked_context(rows, 0.5, unit, SEED)
  texts = lambda run: [run.edit(i, row)["indication"] for i, row in enumerate(rows)]
  assert texts(runs[2]) == texts(again) != texts(other)


@pytest.mark.parametrize("unit", interventions.UNITS)
def test_what_is_left_keeps_its_order(unit):
  rows = [dict(row, indication=LONG) for row in META]
  run = interventions.masked_context(rows, 0.5, unit, SEED)
  for i, row in enumerate(rows):
    text = run.edit(i, row)["indication"]
    if run.applies[i] and text != LONG:
      assert text == " ".join(part for part in PARTS_OF_LONG[unit] if part in text)


def test_all_films_of_a_study_lose_the_same():
  rows = [dict(row, indication=LONG, history="") for row in META]
  for unit in interventions.UNITS:
    run, seen = interventions.masked_context(rows, 0.5, unit, SEED), {}
    for i, row in enumerate(rows):
      seen.setdefault(row["study_id"], set()).add(run.edit(i, row)["indication"])
    assert all(len(texts) == 1 for texts in seen.values())
    assert len(set().union(*seen.values())) > 1


def test_an_unknown_unit_is_named():
  with pytest.raises(
    ValueError, match="'word' of masking; known: token, sentence, study"
  ):
    interventions.masked_context(META, 0.5, "word", SEED)


def test_noise_is_nested_in_its_level():
  levels = (0.0, 0.3, 0.6, 1.0)
  after = [edited(make("noisy_indication", level, SEED)) for level in levels]
  words = [[record["indication"].split() for record in run] for run in after]
  clean = [row["indication"].split() for row in META]
  assert words[0] == clean
  assert not make("noisy_indication", 0.0, SEED).applies.any()
  told = {row["id"] for row in META if row["indication"]}
  assert applied("noisy_indication", 1.0, SEED) == told
  counts = []
  for less, more in itertools.pairwise(words):
    pairs = [
      (a, b, own)
      for rows in zip(less, more, clean, strict=True)
      for a, b, own in zip(*rows, strict=True)
    ]
    # What is replaced stays so, by the same word.
    assert all(a in (b, own) for a, b, own in pairs)
    counts.append(sum(b != own for a, b, own in pairs))
  assert counts == sorted(set(counts))
  assert counts[-1] == sum(map(len, clean))


def test_noise_is_of_other_studies_words():
  bare = lambda word: word.strip(".").lower()
  for row, record in zip(META, edited(make("noisy_indication", 1.0, SEED))):
    others = [r for r in META if r["study_id"] != row["study_id"]]
    pool = {w for r in others for w in f"{r['indication']} {r['history']}".split()}
    new = record["indication"].split()
    assert set(new) <= pool
    for word, own in zip(new, row["indication"].split()):
      assert bare(word) != bare(own)


def test_an_indication_keeps_its_spaces():
  rows = [dict(row, indication=" Fever,  cough. ") for row in META]
  clean = interventions.noisy_indication(rows, 0.0, SEED)
  assert clean.edit(0, rows[0])["indication"] == " Fever,  cough. "


def test_a_blank_film_is_grey_and_nobody_s_prior():
  before, after = view_of_model(), view_of_model(make("blank_image", 128))
  for old, new in zip(before, after):
    assert (new["image"] == 128).all()
    assert new["image"].dtype == np.uint8
    np.testing.assert_array_equal(new["prior_image"], old["prior_image"])
    assert new["view"] == old["view"]
  assert any(old["has_prior"] for old in before)


def test_a_swapped_film_is_another_patient_s_of_the_same_view():
  before, after = view_of_model(), view_of_model(make("swapped_image", SOURCE))
  for row, old, new in zip(META, before, after):
    other = META[int(new["image"][0, 0, 0]) - 1]
    assert other["view"] == row["view"]
    if row["view"] == "LL":  # The only one.
      assert other["id"] == row["id"]
    else:
      assert other["patient_id"] != row["patient_id"]
    np.testing.assert_array_equal(new["prior_image"], old["prior_image"])
  assert applied("swapped_image", SOURCE) == AT.keys() - {"d_8_LL"}


@pytest.mark.parametrize("parts", [(), ("prior",), ("context",), ["context", "prior"]])
def test_without_parts(parts):
  gone = set().union(*(interventions.PARTS[part] for part in parts))
  missing = interventions.NO_PRIOR | interventions.NO_CONTEXT
  edit = interventions.without(parts)
  for i, record in enumerate(PARSED):
    after = edit(i, record)
    assert all(after[name] == missing[name] for name in gone)
    assert changed(record, after) <= gone


@pytest.mark.parametrize(
  ("parts", "name"), [(("priors",), "priors"), (("prior", "image"), "image")]
)
def test_an_unknown_part_is_named(parts, name):
  with pytest.raises(ValueError, match=r"^Unknown config\.data\.without") as info:
    interventions.without(parts)
  assert str(info.value).endswith(f"without '{name}'; known: prior, context.")


def test_edits_in_turn():
  """The last one has the last word."""
  swap, none = make("swapped_context").edit, interventions.without(("context",))
  for i, record in enumerate(PARSED):
    assert interventions.in_turn(swap, none)(i, record)["history"] == ""
    assert not changed(interventions.in_turn(none, swap)(i, record), swap(i, record))
    assert interventions.in_turn()(i, record) is record
