import collections
import gzip
import shutil

import numpy as np
import pytest

import fake_mimic
import fake_tables
from data_pipelines import images, records
from data_pipelines.raw import mimic_cxr, shards, studies

STUDIES = 300
LAYOUTS = {
  "jpg": {},
  "dicom": dict(layout="dicom", zipped_reports=True, gzipped=False),
  "dicom without metadata": dict(layout="dicom", with_metadata=False),
}


@pytest.fixture(scope="module", params=LAYOUTS)
def tree(request, tmp_path_factory):
  """A download, what is in it, and what is read of it."""
  root = tmp_path_factory.mktemp("mimic")
  truth = fake_mimic.build(root, STUDIES, **LAYOUTS[request.param])
  return root, truth, mimic_cxr.read(root)


@pytest.fixture
def small(tmp_path):
  fake_mimic.build(tmp_path, 20, gzipped=False)
  return tmp_path


def edit(path, change):
  path.write_text(change(path.read_text()))


def test_every_oddity_is_found_and_no_other(tree):
  _, truth, download = tree
  assert download.counts() == truth.oddities
  assert all(oddity.where for oddity in download.oddities)


def test_studies_are_those_planted(tree):
  root, truth, download = tree
  found = download.studies
  assert (download.name, download.image_root) == ("mimic_cxr", str(root))
  assert len(found) == truth.studies
  assert sum(len(study.films) for study in found) == truth.films
  assert collections.Counter(study.split for study in found) == truth.studies_by_split
  assert {study.study_id: study.time for study in found} == truth.times
  assert list(found) == studies.in_order(found)
  assert {film.view for s in found for film in s.films} <= set(records.VIEWS)


def test_reports_are_those_planted(tree):
  _, truth, download = tree
  findings = {s.study_id: s.sections.get("findings", "") for s in download.studies}
  assert findings == truth.findings
  counted = collections.Counter(
    s.split for s in download.studies if findings[s.study_id]
  )
  assert counted == truth.with_findings
  none = sum(not study.has_report for study in download.studies)
  kinds = ("report missing", "empty report", "report too large")
  assert none == sum(truth.oddities[kind] for kind in kinds) > 0
  assert all("" not in study.sections.values() for study in download.studies)


def test_films_are_where_it_says(tree):
  root, truth, download = tree
  sources = [(film.id, film.path) for s in download.studies for film in s.films]
  missing = shards.missing(sources, root)
  assert set(missing) == set(truth.missing)
  damaged = []
  for film in [film for study in download.studies for film in study.films]:
    try:
      assert images.read(root / film.path).shape == (80, 64)
    except (OSError, ValueError):
      damaged.append(film.id)
  assert sorted(damaged) == sorted(truth.damaged)
  assert len(damaged) > len(missing)


def test_priors_of_the_truth_are_before_their_studies(tree):
  _, truth, _ = tree
  known = {study: prior for study, prior in truth.priors.items() if prior}
  assert all(truth.times[prior] < truth.times[study] for study, prior in known.items())
  if any(truth.times.values()):
    assert truth.reversals > 50
    assert any(not truth.findings[prior] for prior in known.values())


def test_labels_are_read_by_name(small):
  path = small / "mimic-cxr-2.0.0-chexpert.csv"
  lines = [line.split(",") for line in path.read_text().splitlines()]
  expected = {
    line[1]: tuple(
      int(float(line[lines[0].index(label)] or "-2")) for label in records.LABELS
    )
    for line in lines[1:]
  }
  assert {s.study_id: s.labels for s in mimic_cxr.read(small).studies} == expected
  flipped = [[*line[:2], *line[:1:-1]] for line in lines]
  negbio = path.with_name("mimic-cxr-negbio.csv")
  fake_tables.write(negbio, flipped, gzipped=True)
  path.unlink()
  again = mimic_cxr.read(small, labels="negbio").studies
  assert {s.study_id: s.labels for s in again} == expected
  assert mimic_cxr.read(small).counts() == {"no labels": 1}
  assert mimic_cxr.read(small).studies[0].labels == studies.NO_LABELS


def test_a_handful_has_no_oddities(small):
  assert not mimic_cxr.read(small).oddities


def test_dicom_has_its_tables_elsewhere(tmp_path):
  root, tables = tmp_path / "root", tmp_path / "tables"
  tables.mkdir()
  truth = fake_mimic.build(root, 8, layout="dicom")
  for path in root.glob("mimic-cxr-2*"):
    shutil.move(path, tables)
  assert not any(study.time for study in mimic_cxr.read(root).studies)
  download = mimic_cxr.read(root, tables=tables)
  assert not download.oddities
  assert {study.study_id: study.time for study in download.studies} == truth.times
  film = download.studies[0].films[0]
  assert film.path.endswith(f"/{film.id}.dcm")
  assert images.read(root / film.path).dtype == np.uint8


def test_reports_lie_elsewhere_or_among_the_images(small, tmp_path_factory):
  expected = mimic_cxr.read(small).studies
  elsewhere = tmp_path_factory.mktemp("reports") / "any name"
  shutil.move(small / "mimic-cxr-reports", elsewhere)
  with pytest.raises(OSError, match=r"has no reports: mimic-cxr-reports\.zip was exp"):
    mimic_cxr.read(small)
  assert mimic_cxr.read(small, reports=elsewhere).studies == expected
  shutil.copytree(elsewhere / "files", small / "files", dirs_exist_ok=True)
  assert mimic_cxr.read(small).studies == expected


def test_sections_may_be_read_by_another(small):
  reader = lambda text: {"findings": text[:3], "impression": ""}
  found = mimic_cxr.read(small, section_reader=reader).studies
  assert {tuple(study.sections) for study in found} == {("findings",)}


def test_progress_is_told(small):
  told = []
  wrapper = lambda items, *what: told.append(what) or items
  mimic_cxr.read(small, progress=wrapper)
  assert told == [(20, "reports", "report")]


@pytest.mark.parametrize(
  ("written", "time", "kind"),
  [
    (("21800506", "213014.531"), "2180-05-06T21:30:14", ""),
    (("21800506", "4135.5"), "2180-05-06T00:41:35", ""),
    (("21800506.0", "0"), "2180-05-06T00:00:00", ""),
    (("", "4135.5"), "", "date missing"),
    (("21801332", "4135.5"), "", "date impossible"),
    (("2180-05-06", "4135.5"), "", "date impossible"),
    (("21800229", "4135.5"), "2180-02-29T00:41:35", ""),
    (("21810229", "4135.5"), "", "date impossible"),
    (("21800506", ""), "", "time missing"),
    (("21800506", "240000"), "", "time impossible"),
    (("21800506", "4160"), "", "time impossible"),
    (("21800506", "-1"), "", "time impossible"),
    (("21800506", "1e5"), "", "time impossible"),
  ],
)
def test_time(small, written, time, kind):
  path = small / "mimic-cxr-2.0.0-metadata.csv"
  header, row, *_ = path.read_text().splitlines()
  changed = ",".join([*row.split(",")[:-2], *written])
  path.write_text(f"{header}\n{changed}\n")
  download = mimic_cxr.read(small)
  assert [study.time for study in download.studies] == [time]
  counts = download.counts()
  assert counts.pop(kind, 0) == bool(kind)
  assert counts.keys() <= {
    "image without study",
    "labels without study",
    "study without images",
  }


def test_first_of_two_rows_of_an_image_is_kept(small):
  path = small / "mimic-cxr-2.0.0-metadata.csv"
  expected = mimic_cxr.read(small).studies
  edit(path, lambda text: text + text.splitlines()[1].replace(",3056,", "LAO,3056,"))
  assert mimic_cxr.read(small).studies == expected
  assert mimic_cxr.read(small).counts() == {"duplicate image id": 1}


@pytest.mark.parametrize("wrong", ["files", "..", "nowhere", "mimic-cxr-reports"])
def test_wrong_folder(small, wrong):
  with pytest.raises(OSError, match=r"mimic-cxr-\*metadata\.csv or") as raised:
    mimic_cxr.read(small / wrong)
  assert str(raised.value).startswith(str(small / wrong))
  assert "\n" not in str(raised.value)


def test_tables_without_images(small):
  shutil.rmtree(small / "files")
  with pytest.raises(OSError, match=r"has no folder files/.*s50414267/\*\.jpg"):
    mimic_cxr.read(small)


def test_unusable_tables(small):
  path = small / "mimic-cxr-2.0.0-metadata.csv"
  content = path.read_text()
  path.write_text(content.splitlines()[0])
  with pytest.raises(ValueError, match="names no image that could be used"):
    mimic_cxr.read(small)
  path.write_text(content.replace("StudyDate", "Date"))
  with pytest.raises(ValueError, match=r"metadata\.csv: has no column StudyDate; its"):
    mimic_cxr.read(small)
  path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content.encode())[:-40])
  path.unlink()
  with pytest.raises(ValueError, match="interrupted download"):
    mimic_cxr.read(small)


def test_unknown_labeller(small):
  with pytest.raises(ValueError, match="labels are of chexpert or negbio, not 'x'"):
    mimic_cxr.read(small, labels="x")


def test_the_same_seed_is_the_same_download(small, tmp_path_factory):
  again = tmp_path_factory.mktemp("again")
  fake_mimic.build(again, 20, gzipped=False)
  files = lambda root: {
    p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()
  }
  assert files(small) == files(again)
