"""Files of other systems, by what their code writes; the texts are invented."""

import json

import pytest

from jaxrg.metrics import layouts

OURS = ("id", "reference", "prediction")
ROWS = [("s1", "No effusion.", "Effusion."), ("s2", 'Clear lungs, "sharp".', "")]


def texts(read):
  return [(row["id"], row["reference"], row["prediction"]) for row in read.rows]


def csv_of(columns, rows):
  quoted = lambda text: '"' + text.replace('"', '""') + '"'
  lines = [",".join(columns), *(",".join(map(quoted, row)) for row in rows)]
  return "\n".join(lines) + "\n"


def by_study(rows):
  """As ReXrank's."""
  return {
    name: {
      "section_findings": reference,
      "section_impression": float("nan"),
      "context": "Indication: fever.",
      "model_prediction": prediction,
    }
    for name, reference, prediction in rows
  }


def test_flags_and_days_of_a_table_are_read(tmp_path):
  path = tmp_path / "reports.csv"
  columns = (*OURS, "has_prior", "prior_days")
  cells = [("True", "12"), ("0", ""), ("false", "nan")]
  rows = [(f"s{i}", "Clear.", "Clear.", *cell) for i, cell in enumerate(cells)]
  path.write_text(csv_of(columns, rows))
  read = layouts.read(path).rows
  assert [row["has_prior"] for row in read] == [True, False, False]
  assert [row["prior_days"] for row in read] == [12, None, None]
  for wrong, needed in (("maybe", "true or false"), ("soon", "a number of days")):
    cell = (wrong, "1") if needed == "true or false" else ("1", wrong)
    path.write_text(csv_of(columns, [("s1", "Clear.", "Clear.", *cell)]))
    with pytest.raises(ValueError, match=f"of id 's1' is '{wrong}': {needed}"):
      layouts.read(path)


@pytest.mark.parametrize(
  ("name", "columns"),
  [
    ("ours.csv", OURS),
    ("priorrg.csv", ("dicom_id", "reference_report", "generated_report")),
    ("mlrg.csv", ("dicom_id", "labels", "report")),
    ("other.csv", ("study_id", "ground_truth", "hypothesis")),
  ],
)
def test_columns_of_other_systems(tmp_path, name, columns):
  path = tmp_path / name
  path.write_text(csv_of(columns, ROWS))
  read = layouts.read(path)
  assert texts(read) == ROWS
  assert tuple(read.names.values()) == columns


def test_lines_of_json_keep_what_else_they_hold(tmp_path):
  path = tmp_path / "ours.jsonl"
  line = {"id": 7, "reference": "a\u2028b", "prediction": "c", "subject_id": 3}
  path.write_text(json.dumps(line | {"labels": [0] * 14}, ensure_ascii=False) + "\n\n")
  (row,) = layouts.read(path).rows
  assert row["id"] == "7"
  assert row["reference"] == "a\u2028b"
  assert row["patient_id"] == "3"
  assert row["labels"] == [0] * 14


def test_a_reference_of_two_sections(tmp_path):
  path = tmp_path / "rexrank.json"
  path.write_text(json.dumps(by_study(ROWS)))
  first, _ = texts(layouts.read(path))
  assert first == ("s1", "Findings: No effusion. Impression: None", "Effusion.")


def test_references_of_a_second_file(tmp_path):
  predicted, referred = tmp_path / "predicted.csv", tmp_path / "annotation.json"
  predicted.write_text(csv_of(("study_id", "report"), [(n, p) for n, _, p in ROWS]))
  split = [{"id": n, "report": r, "image_path": []} for n, r, _ in reversed(ROWS)]
  referred.write_text(json.dumps({"train": [], "test": split}))
  assert texts(layouts.read(predicted, referred)) == ROWS


def test_ids_on_one_side_only(tmp_path, capsys):
  one, other = tmp_path / "one.csv", tmp_path / "other.csv"
  one.write_text(csv_of(("id", "report"), [("a", "x"), ("b", "x"), ("c", "x")]))
  other.write_text(csv_of(("id", "report"), [("b", "y"), ("z", "y")]))
  with pytest.raises(ValueError, match=r"2 ids are in .* alone, first 'a'; 1 ids"):
    layouts.read(one, other)
  assert texts(layouts.read(one, other, partial=True)) == [("b", "y", "x")]
  assert capsys.readouterr().out.count("LEFT OUT") == 2


@pytest.mark.parametrize("text", ["nan", "NaN", "None", "", "  "])
def test_texts_that_are_not_there(tmp_path, text):
  path = tmp_path / "f.csv"
  path.write_text(csv_of(OURS, [("a", "x", text)]))
  assert texts(layouts.read(path)) == [("a", "x", "")]


def test_large_texts_and_control_characters(tmp_path):
  path, large = tmp_path / "f.csv", "effusion \x07" * 100_000
  path.write_text(csv_of(OURS, [("a", "x\ny", large)]))
  assert texts(layouts.read(path)) == [("a", "x\ny", large)]


def test_another_encoding_is_named_and_can_be_given(tmp_path):
  path = tmp_path / "f.csv"
  path.write_bytes(csv_of(OURS, [("a", "é", "x")]).encode("latin-1"))
  with pytest.raises(ValueError, match="is no utf-8 text; name another --encoding"):
    layouts.read(path)
  assert texts(layouts.read(path, encoding="latin-1")) == [("a", "é", "x")]
  path.write_text(csv_of(OURS, ROWS), encoding="utf-8-sig")
  assert texts(layouts.read(path)) == ROWS


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("f.csv", "id,reference\na,b\n", "no prediction; .* and there are id, reference"),
    ("f.csv", "name,text\na,b\n", "no id; it would be one of id, dicom_id"),
    ("f.csv", "id,reference,prediction\na,b\n", "line 2: not as many fields as the 3"),
    ("f.csv", "id,reference,prediction\na,b,c,d\n", "line 2: not as many fields"),
    ("f.csv", "id,reference,prediction\n", "no predictions in it"),
    ("f.csv", "", "no predictions in it"),
    ("f.csv", "id,reference,prediction\na,b,c\na,b,c\n", "1 ids occur twice"),
    ("f.csv", "id,reference,prediction\na,,c\n", "the reference of id 'a' is empty"),
    ("f.csv", 'id,reference,prediction\na,b,"c\nd,e,f\n', "unexpected end of data"),
    (
      "f.csv",
      "id,reference,prediction,prediction\na,b,c,d\n",
      "column 'prediction' occurs twice",
    ),
    ("f.csv", "id\treference\tprediction\na\tb\tc\n", r"there are 'id\\treference"),
    ("f.csv", "id,reference,prediction,labels\na,b,c,[1]\n", "must be 14 integers"),
    ("f.csv", "id,reference,prediction,truth\na,b,c,x\n", "record 1: truth: not JSON"),
    ("f.jsonl", '{"id": 1', "line 1: not JSON"),
    *(
      (
        "f.jsonl",
        json.dumps({"id": "a", "reference": "b", "prediction": "c"} | odd),
        message,
      )
      for odd, message in [
        ({"prediction": ["a", "b"]}, "record 1: prediction must be text, not list"),
        ({"prediction": {"a": "b"}}, "record 1: prediction must be text, not dict"),
        ({"reference": 5}, "record 1: reference must be text, not int"),
        ({"id": None}, "record 1: id is empty"),
        ({"id": [3]}, "record 1: id must be text, not list"),
        ({"has_prior": ["a"]}, "has_prior of id 'a' must be true or false"),
        ({"prior_days": [1]}, "prior_days of id 'a' must be a number"),
        ({"prior_days": 10**400}, "prior_days of id 'a' must be a number"),
        ({"labels": [True] * 14}, "labels of id 'a' must be 14 integers"),
        ({"labels": [[1], 2]}, "labels of id 'a' must be 14 integers"),
        ({"truth": [{"label": "Foo"}]}, "truth of id 'a' must be a list of facts"),
        (
          {"truth": [{"label": "Edema", "change": "zz"}]},
          "truth of id 'a' must be a list of facts",
        ),
        (
          {"truth": [{"label": "Edema", "side": ["left"]}]},
          "truth of id 'a' must be a list of facts",
        ),
      ]
    ),
    ("f.jsonl", "[1]", "line 1: a JSON object is needed"),
    (
      "f.jsonl",
      '{"id": 1, "reference": "a", "prediction": "b"}\n{"id": 2, "reference": "a"}',
      "record 2: no prediction; there are id, reference",
    ),
    ("f.json", "[1, 2]", "a list of JSON objects is needed"),
    ("f.json", "[" * 100_000, "not JSON"),
    (
      "f.json",
      json.dumps(by_study([("a", None, "x")])),
      "the reference of id 'a' is empty",
    ),
    ("f.txt", "hello", ".txt is none of csv"),
  ],
)
def test_files_that_cannot_be_scored(tmp_path, name, content, message):
  path = tmp_path / name
  path.write_text(content)
  with pytest.raises(ValueError, match=message) as info:
    layouts.read(path)
  assert "\n" not in str(info.value)


def test_what_is_odd_of_reports_is_counted(tmp_path):
  texts = ["", " ", "clear", "a \x07 b", "no " * 20_000, "The lungs are clear."]
  lines = [
    json.dumps({"id": str(i), "prediction": text, "reference": "Clear."})
    for i, text in enumerate(texts)
  ]
  path = tmp_path / "odd.jsonl"
  path.write_text("\n".join(lines))
  rows, _ = layouts.read(path)
  assert layouts.oddities(rows) == [
    "NOTE: generated reports empty: 2 of 6, first '0'",
    "NOTE: generated reports of one word: 1 of 6, first '2'",
    "NOTE: generated reports of more than 10000 words: 1 of 6, first '4'",
    "NOTE: generated reports with control characters: 1 of 6, first '3'",
  ]
  assert layouts.oddities(rows[-1:]) == []


def test_patients_that_are_not_told_are_counted(tmp_path):
  path = tmp_path / "patients.jsonl"
  rows = [{"id": i, "reference": "b", "prediction": "a b"} for i in range(3)]
  rows[1]["patient_id"] = "p"
  path.write_text("\n".join(map(json.dumps, rows)))
  assert layouts.oddities(layouts.read(path).rows) == [
    "NOTE: without a patient_id: 2 of 3; each counts as a patient"
  ]


def test_texts_by_id_as_coco_has_them(tmp_path):
  mine, theirs = tmp_path / "mine.json", tmp_path / "theirs.json"
  mine.write_text(json.dumps({"a": ["Clear lungs."], "b": ["An effusion."]}))
  theirs.write_text(json.dumps({"b": "Effusion.", "a": "Clear."}))
  read = layouts.read(mine, theirs)
  assert texts(read) == [
    ("a", "Clear.", "Clear lungs."),
    ("b", "Effusion.", "An effusion."),
  ]


def test_what_a_table_holds_of_the_truth_is_json(tmp_path):
  path = tmp_path / "f.csv"
  labels = "[" + ", ".join(["-2"] * 14) + "]"
  path.write_text(
    csv_of(
      (*OURS, "labels", "truth"),
      [("a", "b", "c", labels, ""), ("d", "e", "f", "", "[]")],
    )
  )
  first, second = layouts.read(path).rows
  assert (first["labels"], first["truth"]) == ([-2] * 14, None)
  assert (second["labels"], second["truth"]) == (None, [])


def test_an_empty_reference_is_that_of_the_file_that_has_it(tmp_path):
  mine, theirs = tmp_path / "mine.csv", tmp_path / "theirs.csv"
  mine.write_text("id,prediction\na,b\n")
  theirs.write_text("id,reference\na,\n")
  with pytest.raises(ValueError, match=r"theirs\.csv: 1 references are empty"):
    layouts.read(mine, theirs)
  theirs.write_text("id,reference\nz,b\n")
  with pytest.raises(ValueError, match="have no id in common"):
    layouts.read(mine, theirs, partial=True)


def test_half_a_surrogate_pair_is_no_character(tmp_path):
  text = r'{"id": "1", "prediction": "a \ud800 b", "reference": "\ud83d\ude00"}'
  path = tmp_path / "half.jsonl"
  path.write_text(text)
  (row,), _ = layouts.read(path)
  assert (row["prediction"], row["reference"]) == ("a ? b", "\U0001f600")
