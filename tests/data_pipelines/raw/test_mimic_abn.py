import json

import pytest

from data_pipelines.raw import mimic_abn
from data_pipelines.raw.studies import Download, Film, Oddity, Study


def study(study_id, *films, patient="10000011", split="train"):
  folder = f"files/p10/p{patient}/s{study_id}"
  films = tuple(Film(film, f"{folder}/{film}.jpg", "PA") for film in films)
  return Study(patient, study_id, films, split=split)


STUDIES = [
  study("50000021", "0a-1b", "0a-2c"),
  study("50000022", "3d-4e", split="validation"),
  study("50000031", "5f-6a", "5f-7b", patient="10000012", split="test"),
  study("50000041", "8c-9d", patient="10000013"),
]
DOWNLOAD = Download("mimic_cxr", "root", STUDIES, (Oddity("planted", "here"),))


def restrict(path):
  """The result, its splits and films by study, and what became odd."""
  found = mimic_abn.restrict(DOWNLOAD, path)
  assert found.oddities[0] == DOWNLOAD.oddities[0]
  kept = {s.study_id: (s.split, [film.id for film in s.films]) for s in found.studies}
  return kept, [(oddity.kind, oddity.where) for oddity in found.oddities[1:]]


def listed(tmp_path, content, name="list.json"):
  path = tmp_path / name
  path.write_text(content if isinstance(content, str) else json.dumps(content))
  return restrict(path)


CHOSEN = {
  "50000021": ("train", ["0a-2c"]),
  "50000022": ("", ["3d-4e"]),
  "50000031": ("validation", ["5f-6a", "5f-7b"]),
  "50000041": ("test", ["8c-9d"]),
}


def test_all_studies_stay(tmp_path):
  path = tmp_path / "list.json"
  path.write_text(json.dumps({"test": ["50000022"]}))
  found = mimic_abn.restrict(DOWNLOAD, path)
  assert (found.name, found.image_root) == ("mimic_abn", "root")
  assert [s.study_id for s in found.studies] == [s.study_id for s in STUDIES]
  assert [s.split for s in found.studies] == ["", "test", "", ""]
  assert [s.films for s in found.studies] == [s.films for s in STUDIES]


@pytest.mark.parametrize(
  ("train", "val", "test"),
  [
    (["0a-2c"], ["50000031"], [50000041]),
    (["0a-2c.dcm"], ["s50000031"], ["p10/p10000013/s50000041/8c-9d.jpg"]),
    (["10000011_50000021_0a-2c"], ["p10/p10000012/s50000031.txt"], ["s50000041/"]),
    (["x\\0a-2c.png"], ["5f-6a", "5f-7b"], ["8c-9d"]),
    ([{"id": "0a-2c", "study_id": 50000021}], [{"study_id": 50000031}], ["8c-9d"]),
    (
      [{"anchor_scan": {"image_path": ["p/0a-2c.jpg"]}, "study_id": 50000021}],
      [{"image_path": ["a/5f-6a.jpg", "a/5f-7b.jpg"]}],
      [{"image_path": "s/8c-9d.jpg"}],
    ),
  ],
)
def test_json(tmp_path, train, val, test):
  assert listed(tmp_path, {"train": train, "val": val, "test": test}) == (CHOSEN, [])


@pytest.mark.parametrize(
  "content",
  [
    "dicom_id,split\n0a-2c,train\n5f-6a,validate\n5f-7b,validate\n8c-9d,test\n",
    "\ufeffsplit, id \ntrain,0a-2c\nval,s50000031\ntest,50000041\n",
    "study_id,dicom_id,split\n50000021,0a-2c,train\n50000031,5f-6a,val\n"
    "50000031,5f-7b,val\n50000041,8c-9d,test\n",
  ],
  ids=["dicom_id", "id", "both"],
)
def test_csv(tmp_path, content):
  assert listed(tmp_path, content, "list.csv") == (CHOSEN, [])


def test_csv_without_splits_leaves_them(tmp_path):
  kept, oddities = listed(tmp_path, "study_id\ns50000022\n50000031\n", "list.csv")
  assert [split for split, _ in kept.values()] == ["", "validation", "test", ""]
  assert oddities == []


def test_csv_with_odd_lines(tmp_path):
  lines = "s50000021,train\ns50000022,\ns50000031,dev\ns50000041,test,9\n"
  kept, oddities = listed(tmp_path, f"study_id,split\n{lines}", "list.csv")
  assert [split for split, _ in kept.values()] == ["train", "", "", ""]
  assert oddities == [
    ("split missing", "s50000022"),
    ("split unknown", "s50000031"),
    ("line damaged", "list.csv:5"),
  ]


def test_folder(tmp_path):
  (tmp_path / "train.txt").write_text("0a-2c\n\n")
  (tmp_path / "val.txt").write_text("\ufeffs50000031\r\n")
  (tmp_path / "test.txt").write_text(" p10/p10000013/s50000041/8c-9d.jpg ")
  assert restrict(tmp_path) == (CHOSEN, [])


def test_what_is_not_in_the_download(tmp_path):
  kept, oddities = listed(tmp_path, {"train": ["s59999999", "0z", "50000021"]})
  assert kept["50000021"] == ("train", ["0a-1b", "0a-2c"])
  missing = "listed, not in the download"
  assert oddities == [(missing, "s59999999"), (missing, "0z")]


@pytest.mark.parametrize(
  ("names", "where"),
  [
    (["50000021", "s50000021"], "s50000021"),
    (["0a-2c", "0a-2c"], "0a-2c"),
    (["50000021", "0a-2c"], "0a-2c"),
  ],
  ids=["study", "image", "image of a listed study"],
)
def test_listed_twice(tmp_path, names, where):
  kept, oddities = listed(tmp_path, {"train": names})
  assert kept["50000021"][0] == "train"
  assert oddities == [("listed twice", where)]


def test_a_study_listed_after_its_image_is_whole(tmp_path):
  kept, oddities = listed(tmp_path, {"train": ["0a-2c", "50000021"]})
  assert (kept["50000021"], oddities) == (("train", ["0a-1b", "0a-2c"]), [])


def test_listed_in_two_splits(tmp_path):
  kept, oddities = listed(tmp_path, {"train": ["0a-2c"], "test": ["0a-1b", "50000021"]})
  assert kept["50000021"] == ("train", ["0a-2c"])
  two = "listed in two splits"
  assert oddities == [(two, "0a-1b"), (two, "50000021")]


def test_patient_in_two_splits(tmp_path):
  kept, oddities = listed(tmp_path, {"train": ["50000021"], "test": ["50000022"]})
  assert [kept[s][0] for s in ("50000021", "50000022")] == ["train", "test"]
  assert oddities == [("patient in two splits", "10000011")]


@pytest.mark.parametrize(
  "entry", [None, 1.5, True, {}, {"id": {}}, [], " ", ["a", None]]
)
def test_damaged_entry(tmp_path, entry):
  _, oddities = listed(tmp_path, {"train": ["50000021", entry]})
  assert oddities == [("record damaged", "train[1]")]


@pytest.mark.parametrize(
  ("content", "problem"),
  [
    ("subject,view\n1,PA\n", "has no column dicom_id, id or study_id; its first line"),
    ("", "has no column"),
    ("50000021\n50000022\n", "lists of ids alone go in a folder"),
    ('{"train": ["s1", "s2"]}', "none of its 2 entries is an image or study of"),
    ('{"studies": []}', "its keys are studies"),
    ('["s50000021"]', "is a JSON list; expected an object"),
    ("study_id\n", "none of its 0 entries"),
    ("\x1f\x7f", "has no column"),
  ],
)
def test_wrong_list(tmp_path, content, problem):
  with pytest.raises(ValueError, match=problem) as raised:
    listed(tmp_path, content, "list")
  assert str(raised.value).startswith(str(tmp_path / "list"))
  assert "\n" not in str(raised.value)


def test_compressed_list(tmp_path):
  (tmp_path / "list.csv.gz").write_bytes(b"\x1f\x8b\x08")
  with pytest.raises(ValueError, match=r"list\.csv\.gz: is compressed"):
    restrict(tmp_path / "list.csv.gz")


def test_missing_list(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"no\.json"):
    restrict(tmp_path / "no.json")
  with pytest.raises(
    FileNotFoundError, match=r"has no train\.txt, val\.txt or test\.t"
  ):
    restrict(tmp_path)
