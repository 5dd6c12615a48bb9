import json

import pytest

from data_pipelines.raw import annotations
from data_pipelines.raw.studies import Film

FACTS = "findings_factual_serialization"
SUBJECT, STUDY, IMAGE = "10000011", "50000021", "0a-1b-2c"


def path_of(image=IMAGE, study=STUDY, subject=SUBJECT):
  return f"p{subject[:2]}/p{subject}/s{study}/{image}.jpg"


def prior_rg(image=IMAGE, study=STUDY, subject=SUBJECT, *, prior=None, **changes):
  """A record as PriorRG's file has it; a change to None takes the key away."""
  record = {
    "id": image,
    "subject_id": int(subject),
    "study_id": int(study),
    "findings": " The lungs are clear. ",
    "findings_factual_serialization": ["lungs clear"],
    "indication_pure": "Cough",
    "history_pure": "",
    "anchor_scan": {
      "image_path": [path_of(image, study, subject)],
      "view_position": ["PA"],
    },
    "prior_study": None
    if prior is None
    else {"latest_study": {"image_path": prior, "view_position": "AP"}},
  }
  record |= changes
  return {key: record[key] for key in record if changes.get(key, 0) is not None}


def r2gen(image=IMAGE, study=STUDY, subject=SUBJECT, **changes):
  record = {
    "id": image,
    "subject_id": int(subject),
    "study_id": int(study),
    "report": "the heart is small .",
    "image_path": [path_of(image, study, subject)],
    "split": "train",
  }
  return record | changes


def read(tmp_path, content, name="mimic_cxr"):
  path = tmp_path / "annotation.json"
  path.write_text(content if isinstance(content, str) else json.dumps(content))
  return annotations.read(path, "images", name=name)


def odd(annotated):
  return [(oddity.kind, oddity.where) for oddity in annotated.download.oddities]


def study_of(annotated):
  (study,) = annotated.download.studies
  return study


def test_prior_rg_record(tmp_path):
  record = prior_rg(impression="Clear.", comparison="None.")
  annotated = read(tmp_path, {"train": [record], "val": [], "test": []})
  study = study_of(annotated)
  assert (study.patient_id, study.study_id, study.time) == (SUBJECT, STUDY, "")
  assert study.split == "train"
  assert study.has_report
  assert study.films == (Film(IMAGE, path_of(), "PA"),)
  assert study.sections == {
    "findings": "The lungs are clear.",
    "indication": "Cough",
    "impression": "Clear.",
    "comparison": "None.",
  }
  assert (annotated.download.name, annotated.download.image_root) == (
    "mimic_cxr",
    "images",
  )
  assert (annotated.priors, annotated.dropped, odd(annotated)) == ({}, {}, [])


def test_r2gen_record_of_mimic_cxr(tmp_path):
  image = "0a_1b"
  annotated = read(tmp_path, {"train": [r2gen(image), r2gen("2c")]})
  study = study_of(annotated)
  assert (study.patient_id, study.study_id) == (SUBJECT, STUDY)
  assert study.films == (
    Film("0a-1b", path_of(image), "unk"),
    Film("2c", path_of("2c"), "unk"),
  )
  assert study.sections == {"findings": "the heart is small ."}
  assert odd(annotated) == []  # The file has no views: that is not odd.


def test_r2gen_record_of_iu_xray(tmp_path):
  folders = "CXR9001_IM-0001", "CXR9002_IM-0002-1001"
  records = [
    {
      "id": folder,
      "report": "no effusion .",
      "image_path": [f"{folder}/{number}.png" for number in (0, 1)],
      "split": "test",
    }
    for folder in folders
  ]
  annotated = read(tmp_path, {"test": records}, "iu_xray")
  first, second = annotated.download.studies
  assert (first.patient_id, first.study_id) == ("CXR9001", "CXR9001-IM-0001")
  assert [film.id for film in first.films] == [
    "CXR9001-IM-0001-0",
    "CXR9001-IM-0001-1",
  ]
  assert first.films[1].path == "CXR9001_IM-0001/1.png"
  assert second.patient_id == "CXR9002"
  assert len({film.id for study in (first, second) for film in study.films}) == 4
  assert odd(annotated) == []


@pytest.mark.parametrize("key", ["val", "validate", "validation"])
def test_names_of_the_validation_split(tmp_path, key):
  assert study_of(read(tmp_path, {key: [prior_rg()]})).split == "validation"


def test_images_of_a_study_are_one_study(tmp_path):
  records = [prior_rg(), prior_rg("9f"), prior_rg("8e", findings="Another text.")]
  annotated = read(tmp_path, {"train": records})
  study = study_of(annotated)
  assert [film.id for film in study.films] == [IMAGE, "9f", "8e"]
  assert study.sections["findings"] == "The lungs are clear."
  assert odd(annotated) == [("texts of a study differ", "train[2]")]


def test_studies_are_in_order_and_ids_without_letters(tmp_path):
  records = [
    prior_rg("3c", "50000031", "10000012"),
    prior_rg("2b", "50000022", subject_id="p10000011", study_id="s50000022"),
    prior_rg(),
  ]
  found = read(tmp_path, {"train": records}).download.studies
  assert [(study.patient_id, study.study_id) for study in found] == [
    (SUBJECT, STUDY),
    (SUBJECT, "50000022"),
    ("10000012", "50000031"),
  ]


def test_records_without_facts_are_dropped_as_published(tmp_path):
  records = [
    prior_rg(**{FACTS: []}),
    prior_rg("9f", "50000022", **{FACTS: None}),  # Without the key: not filtered.
  ]
  annotated = read(tmp_path, {"test": records})
  assert study_of(annotated).study_id == "50000022"
  assert annotated.dropped == {IMAGE: "no factual serialization"}
  assert odd(annotated) == []


def test_texts_that_are_missing(tmp_path):
  record = prior_rg(
    indication_pure=None, indication="Fever", history_pure=float("nan"), impression=" "
  )
  sections = study_of(read(tmp_path, {"test": [record]})).sections
  assert sections == {"findings": "The lungs are clear.", "indication": "Fever"}


@pytest.mark.parametrize("listed", [False, True], ids=["text", "list"])
def test_prior_in_the_file(tmp_path, listed):
  earlier = path_of("9f", "50000022")
  records = [
    prior_rg(prior=[earlier] if listed else earlier),
    prior_rg("9f", "50000022"),
  ]
  annotated = read(tmp_path, {"train": records})
  prior = annotated.priors[IMAGE]
  # The view is the one that is stated here, as the published loader has it.
  assert prior.film == Film("9f", earlier, "AP")
  assert prior.study is annotated.download.studies[1]
  assert (annotated.priors.keys(), odd(annotated)) == ({IMAGE}, [])


def test_prior_that_is_not_in_the_file(tmp_path):
  earlier = path_of("9f", "50000022")
  record = prior_rg(prior=earlier)
  record["prior_study"]["latest_study"]["findings"] = "Small effusion."
  annotated = read(tmp_path, {"train": [record]})
  prior = annotated.priors[IMAGE]
  assert prior.film == Film("9f", earlier, "AP")
  assert (prior.study.patient_id, prior.study.study_id) == (SUBJECT, "50000022")
  assert prior.study.sections == {"findings": "Small effusion."}
  assert (prior.study.split, prior.study.films) == ("", (prior.film,))
  assert len(annotated.download.studies) == 1


def test_prior_in_a_dropped_record(tmp_path):
  dropped = prior_rg("9f", "50000022", findings_factual_serialization=[])
  record = prior_rg(prior=path_of("9f", "50000022"))
  annotated = read(tmp_path, {"train": [dropped, record]})
  prior = annotated.priors[IMAGE]
  assert (prior.study.study_id, prior.study.has_report) == ("50000022", False)


@pytest.mark.parametrize(
  ("prior", "kind"),
  [
    (path_of(), "prior is the image itself"),
    (path_of("9f", "50000033", "10000044"), "prior of another patient"),
  ],
)
def test_odd_priors_are_named_and_used_as_given(tmp_path, prior, kind):
  annotated = read(tmp_path, {"train": [prior_rg(prior=prior)]})
  assert annotated.priors[IMAGE].film.path == prior
  assert odd(annotated) == [(kind, IMAGE)]


def test_prior_of_another_patient_of_the_file(tmp_path):
  other = prior_rg("9f", "50000033", "10000044")
  record = prior_rg(prior=path_of("9f", "50000033", "10000044"))
  annotated = read(tmp_path, {"train": [record, other]})
  assert odd(annotated) == [("prior of another patient", IMAGE)]


def test_prior_outside_the_root_is_left_out(tmp_path):
  annotated = read(tmp_path, {"train": [prior_rg(prior="../x.jpg")]})
  assert (annotated.priors, annotated.dropped) == ({}, {})
  where = "train[0].prior_study.latest_study.image_path"
  assert odd(annotated) == [("path outside the root", where)]


@pytest.mark.parametrize("view", [["PA LATERAL"], [], "", None])
def test_unknown_view(tmp_path, view):
  scan = {"image_path": path_of(), "view_position": view}
  annotated = read(tmp_path, {"train": [prior_rg(anchor_scan=scan)]})
  assert study_of(annotated).films[0].view == "unk"
  assert odd(annotated) == [("unknown view", IMAGE)]


def test_unknown_view_of_a_prior(tmp_path):
  record = prior_rg(prior=path_of("9f", "50000022"))
  record["prior_study"]["latest_study"]["view_position"] = "OBLIQUE"
  annotated = read(tmp_path, {"train": [record]})
  assert annotated.priors[IMAGE].film.view == "unk"
  assert odd(annotated) == [("unknown view", IMAGE)]


def test_view_that_is_stated_as_unknown(tmp_path):
  scan = {"image_path": [path_of()], "view_position": ["unk"]}
  assert odd(read(tmp_path, {"train": [prior_rg(anchor_scan=scan)]})) == []


def test_duplicates(tmp_path):
  again = prior_rg(findings="Another text.")
  annotated = read(tmp_path, {"train": [prior_rg(), again]})
  assert study_of(annotated).sections["findings"] == "The lungs are clear."
  assert odd(annotated) == [("duplicate image id", "train[1]")]
  assert annotated.dropped == {"train[1]": "duplicate image id"}


def test_image_twice_in_a_record_of_r2gen(tmp_path):
  paths = [path_of(), path_of(), path_of("9f")]
  annotated = read(tmp_path, {"train": [r2gen(image_path=paths)]})
  assert [film.id for film in study_of(annotated).films] == [IMAGE, "9f"]
  assert odd(annotated) == [("duplicate image id", "train[0]")]
  assert annotated.dropped == {}


@pytest.mark.parametrize(
  ("other", "kind"),
  [
    ({"test": [prior_rg("9f")]}, "study in two splits"),
    ({"val": [prior_rg("9f", STUDY, "10000044")]}, "study of two patients"),
  ],
)
def test_study_in_two_places(tmp_path, other, kind):
  annotated = read(tmp_path, {"train": [prior_rg()], **other})
  assert study_of(annotated).split == "train"
  assert annotated.dropped == {"9f": kind}
  assert odd(annotated) == [(kind, f"{next(iter(other))}[0]")]


@pytest.mark.parametrize(
  "path", ["/x/a.jpg", "../a.jpg", "p10/../../a.jpg", "C:\\a.jpg"]
)
@pytest.mark.parametrize("layout", ["prior_rg", "r2gen"])
def test_path_outside_the_root(tmp_path, path, layout):
  if layout == "r2gen":
    good, bad, part = r2gen(), r2gen("9f", image_path=[path]), "image_path"
  else:
    good, bad = prior_rg(), prior_rg("9f", anchor_scan={"image_path": [path]})
    part = "anchor_scan.image_path"
  annotated = read(tmp_path, {"train": [good, bad]})
  assert [film.id for film in study_of(annotated).films] == [IMAGE]
  assert odd(annotated) == [("path outside the root", f"train[1].{part}")]
  assert annotated.dropped == {"9f": "path outside the root"}


@pytest.mark.parametrize(
  ("record", "part"),
  [
    (prior_rg("9f", findings=None), "findings"),
    (prior_rg("9f", findings=["a"]), "findings"),
    (prior_rg("9f", study_id=None), "study_id"),
    (prior_rg("9f", subject_id=1.5), "subject_id"),
    (prior_rg("9f", subject_id=True), "subject_id"),
    (prior_rg("9f", study_id=" "), "study_id"),
    (prior_rg("9f", anchor_scan=None), "anchor_scan.image_path"),
    (prior_rg("9f", anchor_scan=[]), "anchor_scan.image_path"),
    (prior_rg("9f", anchor_scan={"image_path": []}), "anchor_scan.image_path"),
    (prior_rg("9f", anchor_scan={"image_path": ""}), "anchor_scan.image_path"),
    (prior_rg("9f", indication_pure=3), "indication_pure"),
    (prior_rg("9f", findings_factual_serialization="a"), FACTS),
    (prior_rg("9f", prior_study=[1]), "prior_study"),
    (prior_rg("9f", prior_study={"older": {}}), "prior_study.latest_study"),
    (prior_rg("9f", prior=3), "prior_study.latest_study.image_path"),
    (prior_rg("9f", prior=" "), "prior_study.latest_study.image_path"),
  ],
)
def test_damaged_record(tmp_path, record, part):
  annotated = read(tmp_path, {"train": [prior_rg(), record]})
  assert [film.id for film in study_of(annotated).films] == [IMAGE]
  assert odd(annotated) == [("record damaged", f"train[1].{part}")]
  assert annotated.dropped == {"9f": "record damaged"}


@pytest.mark.parametrize(
  ("changes", "part"),
  [
    ({"report": None}, "report"),
    ({"image_path": []}, "image_path"),
    ({"image_path": [1]}, "image_path"),
    ({"image_path": {}}, "image_path"),
    ({"study_id": None}, "study_id"),
  ],
)
def test_damaged_record_of_r2gen(tmp_path, changes, part):
  annotated = read(tmp_path, {"train": [r2gen(), r2gen("9f", **changes)]})
  assert odd(annotated) == [("record damaged", f"train[1].{part}")]
  assert annotated.dropped == {"9f": "record damaged"}


def test_records_without_an_id(tmp_path):
  annotated = read(tmp_path, {"train": [prior_rg(), prior_rg(id=None), "text", None]})
  places = {f"train[{index}]": "record damaged" for index in (1, 2, 3)}
  assert annotated.dropped == places
  assert [kind for kind, _ in odd(annotated)] == ["record damaged"] * 3


def test_paths_with_backslashes_and_dots(tmp_path):
  scan = {"image_path": [".\\p10\\a.jpg"], "view_position": ["PA"]}
  annotated = read(tmp_path, {"train": [prior_rg(anchor_scan=scan)]})
  assert study_of(annotated).films[0].path == "p10/a.jpg"


@pytest.mark.parametrize(
  ("content", "problem"),
  [
    ("", "is not JSON, or cut: line 1"),
    ('{"train": [{"id": "a"', "is not JSON, or cut: line 1"),
    ("<html>", "is a web page"),
    ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    ("[1]", "is a JSON list; expected an object with lists train, val and test"),
    ('{"images": [], "info": 1}', "has no lists .* its keys are images, info"),
    ("{}", "its keys are none"),
    ('{"train": {"a": 1}}', "'train' is a dict; expected a list"),
    ('{"train": []}', "the keys of its first are none"),
    ('{"train": [{"image": 1, "text": 2}]}', "the keys of its first are image, text"),
    (
      '{"val": [{"id": "a", "anchor_scan": {}}]}',
      r"none of its 1 records can be used: a, record damaged",
    ),
  ],
)
def test_wrong_file(tmp_path, content, problem):
  with pytest.raises(ValueError, match=problem) as raised:
    read(tmp_path, content)
  assert str(raised.value).startswith(str(tmp_path / "annotation.json"))
  assert "\n" not in str(raised.value)


def test_file_that_cannot_be_read(tmp_path):
  with pytest.raises(OSError, match=r"no\.json: cannot be read"):
    annotations.read(tmp_path / "no.json", "images", name="mimic_cxr")
  (tmp_path / "latin.json").write_bytes(b'{"train": "\xe9"}')
  with pytest.raises(ValueError, match="not a JSON file in UTF-8"):
    annotations.read(tmp_path / "latin.json", "images", name="mimic_cxr")
