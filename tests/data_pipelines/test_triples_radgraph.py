"""Annotations in RadGraph's shape: read as they are, or refused in one line."""

import copy
import json

import pytest

from data_pipelines.triples import Triple, annotate, extract, load_radgraph, of_reports

_REPORT = """FINDINGS: Small left pleural effusion. No pneumothorax in the left lung.
Opacity at the right base may represent pneumonia. The heart is not enlarged."""


def _write(folder, content):
  path = folder / "annotations.json"
  path.write_text(content if isinstance(content, str) else json.dumps(content))
  return path


def _package(*reports):
  """What the package returns for these reports."""
  rest = {"data_source": None, "data_split": "inference"}
  return {str(i): annotate(report) | rest for i, report in enumerate(reports)}


def test_what_the_rules_write_is_read_back(tmp_path):
  path = _write(tmp_path, _package(_REPORT, "", "Clear lungs."))
  assert load_radgraph(path) == {
    "0": extract(_REPORT),
    "1": (),
    "2": (Triple("clear", "located_at", "lungs"),),
  }
  assert len(extract(_REPORT)) == 9


def _entity(tokens, label, start, *relations):
  return {
    "tokens": tokens,
    "label": label,
    "start_ix": start,
    "end_ix": start + len(tokens.split()) - 1,
    "relations": [list(relation) for relation in relations],
  }


def _published(observation, doubted, denied, anatomy):
  return {
    "9": _entity("Airspace  Opacity", observation, 0, ("suggestive_of", "2")),
    "2": _entity("pneumonia", doubted, 4, ("located_at", "1")),
    "1": _entity("Lung", anatomy, 7),
    "4": _entity("dense", denied, 9, ("modify", "9")),
  }


_V1 = _published("OBS-DP", "OBS-U", "OBS-DA", "ANAT-DP")
_XL = _published(
  "Observation::definitely present",
  "Observation::uncertain",
  "Observation::measurement::definitely absent",
  "Anatomy::definitely present",
)
_TRIPLES = (
  Triple("airspace opacity", "suggestive_of", "pneumonia", "present", "uncertain"),
  Triple("pneumonia", "located_at", "lung", "uncertain", "present"),
  Triple("dense", "modify", "airspace opacity", "absent", "present"),
)


@pytest.mark.parametrize("entities", [_V1, _XL], ids=["v1", "XL"])
def test_labels_of_both_versions(tmp_path, entities):
  path = _write(tmp_path, {"0": {"text": "", "entities": entities}})
  assert load_radgraph(path) == {"0": _TRIPLES}


def test_anatomy_may_be_doubted_in_the_later_version(tmp_path):
  entities = copy.deepcopy(_XL)
  entities["1"]["label"] = "Anatomy::uncertain"
  (_, triple, _) = load_radgraph(_write(tmp_path, {"0": {"entities": entities}}))["0"]
  assert triple.target_status == "uncertain"


def test_the_keys_of_the_data_set_name_the_study(tmp_path):
  keys = ("p10/p100/s51.txt", "s52.txt", "p11/s53", "54", "a.b")
  path = _write(tmp_path, {key: {"entities": _V1} for key in keys})
  assert list(load_radgraph(path)) == ["s51", "s52", "s53", "54", "a.b"]


def test_of_two_annotators_the_first_is_read(tmp_path):
  other = {"entities": {}}
  report = {"text": "", "labeler_2": other, "labeler_1": {"entities": _V1}}
  assert load_radgraph(_write(tmp_path, {"p1/s1.txt": report})) == {"s1": _TRIPLES}


def test_studies_without_annotation_are_counted(tmp_path):
  path = _write(
    tmp_path, {"p1/s1.txt": {"entities": _V1}, "p1/s9.txt": {"entities": {}}}
  )
  found, missing = of_reports({"s0": "Small effusion.", "s1": "", "s2": ""}, path)
  assert found == {"s0": (), "s1": _TRIPLES, "s2": ()}
  assert missing == 2


def test_annotations_of_other_studies_are_refused(tmp_path):
  path = _write(tmp_path, {"p1/s1.txt": {"entities": _V1}})
  with pytest.raises(ValueError, match=r"none of the 2 studies.*'s1'.*'0001'"):
    of_reports({"0001": "", "0002": ""}, path)
  assert of_reports({}, path) == ({}, 0)


def _with(**fields):
  """The report of one entity of which some fields are changed, or removed by None."""
  entity = _entity("nodule", "OBS-DP", 0, ("located_at", "2")) | fields
  entity = {field: value for field, value in entity.items() if value is not ...}
  return {"p1/s1.txt": {"entities": {"1": entity, "2": _entity("lung", "ANAT-DP", 2)}}}


@pytest.mark.parametrize(
  ("content", "wrong"),
  [
    ("", "not JSON"),
    ("{'1': 2}", "not JSON"),
    ("[" * 100_000, "not JSON"),
    ('{"1": {"entities": {}}, "1": {"entities": {}}}', "key '1' occurs twice"),
    ("[]", "expected an object of reports by key, found list"),
    ({"p1/s1.txt": None}, "report 'p1/s1.txt': the report is no object but NoneType"),
    ({"p1/s1.txt": {}}, "report 'p1/s1.txt': no object `entities`.* found nothing"),
    ({"p1/s1.txt": {"text": "", "entities": []}}, "no object `entities`.* found ent"),
    ({"p1/s1.txt": {"labeler_1": {"text": ""}}}, "no object `entities`.* found text"),
    ({"p1/s1.txt": {"entities": {"1": "nodule"}}}, "entity 1 is no object but str"),
    (_with(tokens=...), "entity 1 has no tokens"),
    (_with(label=..., relations=...), "entity 1 has no label, relations"),
    (_with(start_ix=...), "entity 1 has no start_ix"),
    (_with(tokens=" "), "entity 1: tokens is no text but ' '"),
    (_with(tokens=["nodule"]), "entity 1: tokens is no text but"),
    (_with(start_ix="0"), "entity 1: start_ix is no integer but '0'"),
    (_with(end_ix=0.0), "entity 1: end_ix is no integer but 0.0"),
    (_with(end_ix=True), "entity 1: end_ix is no integer but True"),
    (_with(label="OBS"), "entity 1: unknown label 'OBS'"),
    (_with(label="Observation::maybe"), "unknown label 'Observation::maybe'"),
    (_with(label="Device::definitely present"), "unknown label 'Device::"),
    (_with(label=["OBS-DP"]), "entity 1: unknown label"),
    (_with(relations={}), "entity 1: relations is no list"),
    (_with(relations=["modify"]), r"entity 1: 'modify' is no \[type, target\]"),
    (_with(relations=[["modify"]]), r"is no \[type, target\]"),
    (
      _with(relations=[["part_of", "2"]]),
      "unknown relation 'part_of'; known are",
    ),
    (_with(relations=[[["modify"], "2"]]), "unknown relation"),
    (_with(relations=[["modify", "3"]]), "modify points to '3', which is nowhere"),
    (_with(relations=[["modify", 2]]), "modify points to 2, which is nowhere"),
    ({"a/s1.txt": {"entities": {}}, "b/s1": {"entities": {}}}, "study s1 is there"),
  ],
)
def test_another_shape_is_refused_in_one_line(tmp_path, content, wrong):
  path = _write(tmp_path, content)
  with pytest.raises(ValueError, match=wrong) as error:
    load_radgraph(path)
  assert str(path) in str(error.value)
  assert "\n" not in str(error.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
  path = tmp_path / "annotations.json"
  path.write_bytes(b"\xff\xfe\x00")
  with pytest.raises(ValueError, match="not JSON"):
    load_radgraph(path)
