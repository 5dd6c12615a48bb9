"""A download becomes data sets: a fake one with every oddity, counted when planted."""

import dataclasses
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

import fake_mimic
from data_pipelines import datasets, loader, prepared, records
from data_pipelines.raw import preparation, priors, rules, shards

REPOSITORY = pathlib.Path(preparation.__file__).parents[2]
SIZE = 24
OURS = rules.preset("mimic_cxr", "ours")
RECIPE = shards.Recipe(SIZE, dicom_window="mimic_jpg")


def read(root, dataset="mimic_cxr", **files):
  return preparation.read(preparation.Origin(dataset, str(root), **files))


def choose(found, rule=OURS, unreadable=None, **options):
  options = {"include_text": False} | options
  return preparation.choose(found, rule, unreadable=unreadable, **options)


def make(root, out, rule=OURS, workers=1, **origin):
  """A data set, as the verb makes it; what was chosen, and its name."""
  found = read(root, **origin)
  store, films = preparation.store_films(found, out, RECIPE, workers=workers)
  chosen = choose(found, rule, films.unreadable)
  name = f"{rule.name}_{SIZE}"
  preparation.write(chosen, rule, store, films.numbers, out, name)
  return chosen


@pytest.fixture(scope="module")
def download(tmp_path_factory):
  root = tmp_path_factory.mktemp("mimic")
  return root, fake_mimic.build(root, studies=2000)


@pytest.fixture(scope="module")
def made(download, tmp_path_factory):
  out = tmp_path_factory.mktemp("data")
  return out, make(download[0], out, workers=2)


@pytest.fixture
def copy(made, tmp_path):
  """The data set in a folder that a test may write to."""
  return pathlib.Path(shutil.copytree(made[0], tmp_path / "copy"))


def texts(out, name, split):
  """The examples of a split, and the films behind them, without pixels."""
  source = datasets.load(name, split, out)
  return [loader.parse_text(source, i) for i in range(len(source.texts))], len(source)


def test_the_audit_counts_what_was_planted(download, made):
  truth, audit = download[1], made[1].audit
  whole = audit["totals"]["all"]["found"]
  assert (whole["studies"], whole["films"]) == (truth.studies, truth.films)
  assert audit["funnel"][0]["studies"] == {
    split or "no split": n for split, n in truth.studies_by_split.items()
  }
  planted = truth.oddities | {"image file missing": len(truth.missing)}
  assert audit["oddities"] == planted
  assert sum(audit["quarantine"].values()) == len(truth.damaged)
  steps = {step["name"]: step["studies"] for step in audit["funnel"]}
  found = sum(truth.with_findings.values())
  short = audit["dropped"].get("findings too short", 0)
  assert sum(steps["with findings"].values()) == found - short
  assert audit["patients_across_splits"] == 0
  kept = sum(audit["funnel"][-1]["studies"].values())
  assert sum(audit["dropped"].values()) + kept == truth.studies
  assert audit["problems"] == []


def test_findings_are_written_as_they_stand_in_the_reports(download, made):
  truth = download[1]
  kept = made[1].choice.kept
  assert {s.study_id: s.sections["findings"] for s in kept} == {
    s.study_id: truth.findings[s.study_id] for s in kept
  }


def test_every_prior_is_earlier(download, made):
  truth, (out, chosen) = download[1], made
  seen = 0
  for split in ("train", "validation", "test"):
    rows, _ = texts(out, f"mimic_cxr/ours_{SIZE}", split)
    for row in rows:
      if row["prior"] >= 0:
        seen += 1
        prior = rows[row["prior"]]
        assert prior["patient_id"] == row["patient_id"]
        assert prior["study_time"] < row["study_time"]
        assert prior["study_id"] == truth.priors[row["study_id"]]
  assert seen > 1000
  assert chosen.audit["prior_order"]["used"]["not_earlier"] == 0
  assert chosen.audit["prior_order"]["time"]["not_earlier"] == 0


def test_the_published_order_takes_films_of_the_future(download, made):
  truth, root = download[1], download[0]
  order = made[1].audit["prior_order"]
  assert order["study_id"]["not_earlier"] == truth.reversals > 100
  rule = rules.changed(OURS, {"prior_order": "study_id"})
  chosen = choose(read(root), rule, dict.fromkeys(truth.damaged, "damaged"))
  for study in chosen.choice.kept:
    links = [chosen.links[film.id] for film in study.films if film.id in chosen.links]
    found = {prior.study.study_id for prior in links}
    assert found == ({truth.priors_by_id[study.study_id]} - {""})
  later = sum(
    truth.times[truth.priors_by_id[study.study_id]] >= study.time
    for study in chosen.choice.kept
    if study.time and truth.times.get(truth.priors_by_id[study.study_id])
  )
  assert chosen.audit["prior_order"]["used"]["not_earlier"] == later > 0
  assert chosen.audit["problems"] == []  # It was asked for.


def test_no_damaged_film_is_an_example_or_a_prior(download, made):
  truth, out = download[1], made[0]
  for split in ("train", "validation", "test"):
    rows, count = texts(out, f"mimic_cxr/ours_{SIZE}", split)
    films = [row["id"].split("_")[2] for row in rows]
    assert not set(films) & set(truth.damaged)
    assert len(set(films)) == len(films) >= count
    source = datasets.load(f"mimic_cxr/ours_{SIZE}", split, out)
    for index in range(0, count, 50):
      assert loader.parse(source, index)["image"].std() > 10  # None is black.


def content(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob("*"))
    if path.is_file() and path.name != ".lock"
  }


def command(root, out, *more):
  flags = (f"--root={root}", f"--out={out}", f"--size={SIZE}", *more)
  return [sys.executable, "-m", "data_pipelines.prepare", "mimic_cxr", *flags]


@pytest.mark.parametrize("awaited", ["films-00003.json", "ours_24/*"])
def test_killed_and_run_again_it_makes_the_same_bytes(
  download, made, tmp_path, awaited
):
  root, out = download[0], tmp_path / "out"
  process = subprocess.Popen(
    command(root, out, "--workers=1"), cwd=REPOSITORY, stderr=subprocess.PIPE
  )
  deadline = time.monotonic() + 120
  while not list(out.glob(f"mimic_cxr/**/{awaited}")):
    assert process.poll() is None, process.stderr.read().decode()
    assert time.monotonic() < deadline
    time.sleep(0.002)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  make(root, out, workers=2)
  assert content(out) == content(made[0])


def test_a_second_preset_stores_no_film_again(download, copy):
  films = prepared.films_folder(copy, "mimic_cxr", SIZE)
  written = lambda: {p.name: p.stat().mtime for p in films.glob("films-*")}
  before = written()
  nguyen = make(download[0], copy, rules.preset("mimic_cxr", "nguyen"))
  assert written() == before
  films = sum(len(s.films) for s in nguyen.choice.kept if s.split == "test")
  assert len(datasets.load(f"mimic_cxr/nguyen_{SIZE}", "test", copy)) == films > 0
  assert len(datasets.load(f"mimic_cxr/ours_{SIZE}", "train", copy))


def test_dicom_and_zipped_reports_make_a_data_set_too(tmp_path):
  root = tmp_path / "dicom"
  truth = fake_mimic.build(root, studies=150, layout="dicom", zipped_reports=True)
  chosen = make(root, tmp_path / "out")
  missing = {"image file missing": len(truth.missing)}
  assert chosen.audit["oddities"] == truth.oddities | missing
  assert sum(chosen.audit["quarantine"].values()) == len(truth.damaged)
  train = datasets.load(f"mimic_cxr/ours_{SIZE}", "train", tmp_path / "out")
  assert len(train) > 100
  # As JPEG training data are: over the whole range, whatever the stored one.
  image = train[0]["image"]
  assert image.min() < 30
  assert image.max() > 225


def test_mimic_abn_reads_the_films_of_mimic_cxr(download, made, copy):
  root, kept = download[0], made[1].choice.kept
  of = lambda split: [study.study_id for study in kept if study.split == split]
  ids = {"train": of("train")[:40], "test": of("test")[:9]}
  path = copy / "abn.json"
  path.write_text(json.dumps(ids))
  ours = rules.preset("mimic_abn", "ours")
  make(root, copy, ours, dataset="mimic_abn", ids=str(path))
  assert not prepared.films_folder(copy, "mimic_abn", SIZE).exists()
  for split, listed in ids.items():
    rows, count = texts(copy, f"mimic_abn/ours_{SIZE}", split)
    assert {row["study_id"] for row in rows[:count]} == set(listed)
  with pytest.raises(ValueError, match="say which by --ids"):
    read(root, "mimic_abn")


def test_an_annotation_file_s_own_choice_is_kept(download, made, tmp_path):
  root, study = download[0], next(s for s in made[1].choice.kept if len(s.films) > 1)
  common = {
    "study_id": int(study.study_id),
    "subject_id": int(study.patient_id),
    "report": "As the file says it.",
    "split": "train",
  }
  entries = [
    common | {"id": film.id, "image_path": [film.path.removeprefix("files/")]}
    for film in study.films
  ]
  path = tmp_path / "mimic-annotation.json"
  path.write_text(json.dumps({"train": entries, "val": [], "test": []}))
  rule = rules.Rules(
    "mimic_annotation", records.VIEWS, "official", prior_order=priors.GIVEN
  )
  chosen = make(root, tmp_path / "out", rule, annotation=str(path))
  assert len(chosen.choice.kept) == 1
  rows, count = texts(tmp_path / "out", f"mimic_cxr/mimic_annotation_{SIZE}", "train")
  assert count == len(study.films)
  assert {row["findings"] for row in rows} == {"As the file says it."}


def test_text_is_nowhere_but_in_the_records_unless_it_is_asked_for(download, made):
  out, chosen = made
  folder = out / f"mimic_cxr/ours_{SIZE}"
  told = (folder / "audit.json").read_text() + (folder / "audit.html").read_text()
  assert not [s for s in chosen.choice.kept if s.sections["findings"] in told]
  shown = choose(read(download[0]), include_text=True).audit["samples"]
  assert all(sample["text"]["findings"] for sample in shown)


def test_nothing_is_written_of_what_must_not_be_trained_on(download, tmp_path):
  chosen = choose(read(download[0]))
  problem = "2 patients are in several splits"
  told = {**chosen.audit, "problems": [problem], "samples": []}
  bad = dataclasses.replace(chosen, audit=told)
  with pytest.raises(ValueError, match=f"{problem}: see .*audit.html"):
    preparation.write(bad, OURS, None, {}, tmp_path, "ours_24")
  assert not list(tmp_path.rglob("*.array_record"))
