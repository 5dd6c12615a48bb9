"""The set as tfds writes and reads it: order, priors, bytes, and killed builds."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines import building, findings, records
from data_pipelines.thorax import builder, examples, patients

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """Where other tests find the tiny set too, if the environment names a place."""
  return os.environ.get("TFDS_DATA_DIR") or tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="module")
def tiny(data_dir):
  return {split: builder.load("tiny", split, data_dir) for split in SPLITS}


def small_config(name, **kwargs):
  """Twenty patients of the tiny set."""
  kwargs = {"patients": {"train": 14, "test": 6}} | kwargs
  return builder.ThoraxConfig(name=name, size=32, first_patient=100_000, **kwargs)


def text(record, name):
  return record[name].decode()


def test_fields_are_those_of_the_schema(tiny):
  record = tiny["train"][0]
  assert set(record) == set(records.FIELDS)
  assert record["image"].shape == (64, 64, 1)
  assert record["image"].dtype == np.uint8
  assert record["image"].std() > 10
  assert record["labels"].shape == (14,)
  assert "tensorflow" not in sys.modules


def test_sizes(tiny):
  studies = {k: len({text(r, "study_id") for r in tiny[k]}) for k in SPLITS}
  assert studies["train"] == pytest.approx(160, abs=10)
  assert studies["validation"] == pytest.approx(40, abs=5)
  assert studies["test"] == pytest.approx(40, abs=5)


def test_splits_share_no_patient_and_ids_are_unique(tiny):
  owners = [{text(r, "patient_id") for r in tiny[split]} for split in SPLITS]
  assert sum(map(len, owners)) == len(set().union(*owners))
  ids = [text(r, "id") for split in SPLITS for r in tiny[split]]
  assert len(ids) == len(set(ids))


def test_configurations_share_no_patient():
  numbers = [
    {job.patient for split in config.patients for job in config.jobs(split)}
    for config in builder.Thorax.BUILDER_CONFIGS
  ]
  assert sum(map(len, numbers)) == len(set().union(*numbers))


def assert_priors_hold(source):
  """`prior` is the latest earlier study of the patient, its same or frontal view."""
  rows = list(source)
  count = 0
  for record in rows:
    mine = [r for r in rows if r["patient_id"] == record["patient_id"]]
    times = {r["study_time"] for r in mine if r["study_time"] < record["study_time"]}
    if not times:
      assert record["prior"] == -1
      assert record["prior_view"] == record["prior_report"] == b""
      continue
    count += 1
    prior = rows[record["prior"]]
    assert prior["patient_id"] == record["patient_id"]
    assert prior["study_time"] == max(times)
    assert record["prior_view"] == prior["view"]
    assert record["prior_report"] == prior["findings"]
    views = {r["view"] for r in mine if r["study_time"] == prior["study_time"]}
    same = record["view"] in views
    assert prior["view"] == record["view"] if same else prior["view"] != b"LATERAL"
  assert count > 0.4 * len(rows)


def test_priors(tiny):
  assert_priors_hold(tiny["train"])
  assert_priors_hold(tiny["test"])


def test_priors_hold_over_several_shards(tmp_path):
  made = builder.Thorax(config=small_config("shards"), data_dir=tmp_path, num_workers=1)
  made.download_and_prepare(
    file_format="array_record",
    download_config=tfds.download.DownloadConfig(num_shards=4),
  )
  assert len(list(pathlib.Path(made.data_dir).glob("*-train.*-of-00004"))) == 4
  assert_priors_hold(made.as_data_source(split="train"))


def test_truth_labels_and_text_agree(tiny):
  for record in tiny["test"]:
    facts = records.load_facts(text(record, "truth"))
    assert (patients.labels_of(facts) == record["labels"]).all()
    stated = findings.changes(text(record, "findings"), records.CHANGES[1:])
    assert stated == findings.changes(facts, records.CHANGES[1:])
    assert bool(stated) <= (record["prior"] >= 0)


def test_views_of_a_study_share_their_text(tiny):
  shared = ("findings", "impression", "indication", "history", "truth", "study_time")
  of = {}
  for record in tiny["train"]:
    texts = [record[name] for name in shared]
    assert of.setdefault(record["study_id"], texts) == texts


def test_same_bytes_for_any_number_of_workers(tmp_path):
  files = []
  for workers in (1, 3):
    data_dir = tmp_path / str(workers)
    config = small_config("workers")
    made = builder.Thorax(config=config, data_dir=data_dir, num_workers=workers)
    building.prepare(made)
    paths = sorted(pathlib.Path(made.data_dir).glob("*.array_record*"))
    files.append({path.name: path.read_bytes() for path in paths})
  assert len(files[0]) == 2
  assert files[0] == files[1]
  # Map order in protobuf varies between processes, not within this one.
  shard = ArrayRecordDataSource([str(path) for path in paths])
  for record in shard:
    example = tf_example_pb2.Example.FromString(record)
    assert record == example.SerializeToString(deterministic=True)
    assert len(example.features.feature) == len(records.FIELDS)


def test_a_worker_that_dies_is_named(monkeypatch):
  jobs = [examples.Job(0, 32, 0), examples.Job(1, 32, 0, "no such finding")]
  with pytest.raises(RuntimeError, match=r"status 1 at thorax patient 1\b"):
    list(examples.generate(jobs, 2))


def test_retrieval_has_200_single_findings_of_each_class():
  config = {c.name: c for c in builder.Thorax.BUILDER_CONFIGS}["retrieval"]
  jobs = config.jobs("retrieval")
  assert len(jobs) == 1000
  for i, label in enumerate(
    ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
  ):
    found = [facts for job in jobs[i::5] for facts in [job.studies()[0].facts]]
    assert len(found) == 200
    assert {fact.label for facts in found for fact in facts} == {label}


def test_unknown_set_and_split_are_named():
  with pytest.raises(ValueError, match="no set 'tinny': one of default, tiny"):
    builder.load("tinny", "train")
  with pytest.raises(ValueError, match="no split 'val': one of train, validation"):
    builder.load("tiny", "val")


_BUILD = """
from data_pipelines import building
from data_pipelines.thorax import builder
config = builder.ThoraxConfig(
  name="killed", size=64, first_patient=0, patients={"train": 60}
)
building.prepare(builder.Thorax(config=config, data_dir=%r, num_workers=2))
"""


def _children(pid):
  return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _runs(pid):
  try:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
  except FileNotFoundError:
    return False


@pytest.mark.skipif(not pathlib.Path("/proc/self").exists(), reason="needs /proc")
def test_a_killed_build_leaves_nothing_in_the_way(tmp_path):
  root = pathlib.Path(builder.__file__).parents[2]
  process = subprocess.Popen(
    [sys.executable, "-c", _BUILD % str(tmp_path)], cwd=root, stderr=subprocess.PIPE
  )
  folder = tmp_path / "thorax" / "killed"
  deadline = time.monotonic() + 30
  while not list(folder.glob("incomplete.*")) or len(_children(process.pid)) < 2:
    assert process.poll() is None, process.stderr.read().decode()
    assert time.monotonic() < deadline
    time.sleep(0.02)
  workers = _children(process.pid)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert list(folder.glob("incomplete.*"))

  config = small_config("killed", patients={"train": 3})
  made = builder.Thorax(config=config, data_dir=tmp_path, num_workers=1)
  building.prepare(made)
  assert [path.name for path in folder.iterdir() if path.is_dir()] == [
    str(made.version)
  ]
  assert_priors_hold(made.as_data_source(split="train"))
  while any(map(_runs, workers)):
    assert time.monotonic() < deadline + 30, "workers outlive the builder"
    time.sleep(0.1)
