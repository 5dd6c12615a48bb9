"""Probes: which labels are judged, what is computed once, and what is told of it."""

import dataclasses
import json
import types

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

import micro
from data_pipelines import images
from data_pipelines.records import LABELS, PRESENT
from jaxrg import checkpoint, models, sharding
from jaxrg.experiments import arms, features, probing
from jaxrg.experiments.arms import Arm
from jaxrg.experiments.features import Films
from jaxrg.experiments.probing import Encoder, Judged, Probing
from jaxrg.metrics import auc, rendering

REFERENCES = ("nothing", "other")


def films(split="test", patients=60, each=3, seed=0):
  """Films of as many patients; of the labels, the first four are not too rare."""
  rng = np.random.default_rng(seed)
  n = patients * each
  patient = np.repeat([f"{split}{i}" for i in range(patients)], each)
  studies = np.array([f"{name}-{i}" for i, name in enumerate(patient)])
  present = np.zeros((n, len(LABELS)), bool)
  present[:, :4] = rng.random((n, 4)) < 0.4
  present[:5, 4] = present[5:, 5] = True  # Five have it; all but five.
  return Films(split, (), range(n), patient, studies, present)


@pytest.mark.parametrize(
  ("count", "positives", "judged"),
  [(200, 20, True), (200, 19, False), (200, 181, False), (30, 3, True), (30, 2, False)],
)
def test_a_label_is_judged_that_films_enough_have_and_have_not(
  count, positives, judged
):
  test = films(patients=count, each=1)
  present = np.zeros_like(test.present)
  present[:, 1] = np.arange(count) < count // 2
  present[:, 8] = np.arange(count) < positives
  test = dataclasses.replace(test, present=present)
  assert probing.judged_labels(test, "thorax/tiny") == [1, 8] if judged else [1]


def test_where_no_label_can_be_judged():
  test = films()
  test = dataclasses.replace(test, present=np.zeros_like(test.present))
  with pytest.raises(ValueError, match="at least 18 of the 180 test films of mimic"):
    probing.judged_labels(test, "mimic")


def judged(test, labels, gain, seed=0):
  """Scores that know so much of the labels, and the same noise for every gain."""
  noise = np.random.default_rng(seed).normal(size=(len(test), len(labels)))
  share = dict(value=0.1 * gain, low=0.0, high=1.0, chance=0.05)
  shares = dict.fromkeys(probing.SHARES, share)
  return Judged(noise + gain * test.present[:, labels], 0.1, 8, shares)


@pytest.fixture(scope="module")
def summary():
  splits = films("train"), films("validation"), films("test")
  labels = probing.judged_labels(splits[-1], "thorax/tiny")
  gains = {"nothing": 0, "other": 0, "some": 1, "much": 3}
  found = {
    name: [judged(splits[-1], labels, gain, seed) for seed in (1, 2)]
    for name, gain in gains.items()
  }
  told = probing.summarise(found, splits, labels, REFERENCES, resamples=200)
  return told | {"question": "What for?"}


def test_every_encoder_has_its_difference_to_every_reference(summary):
  trials = summary["trials"]
  assert [*trials] == ["nothing", "other", "some", "much"]
  differences = {name: [*trial["differences"]] for name, trial in trials.items()}
  assert differences == {
    "nothing": ["other"],
    "other": ["nothing"],
    "some": ["nothing", "other"],
    "much": ["nothing", "other"],
  }
  value = lambda name: trials[name]["macro_auc"]["value"]
  some = trials["some"]["differences"]["nothing"]
  assert some["value"] == pytest.approx(value("some") - value("nothing"))
  assert 0 < some["low"] < some["value"] < some["high"]
  # Equal scores differ by nothing, whoever is drawn.
  assert trials["other"]["differences"]["nothing"] == {
    "value": 0, "low": 0, "high": 0, "p": 1,
  }  # fmt: skip
  nothing = trials["nothing"]["macro_auc"]
  assert nothing["low"] < 0.5 < nothing["high"]


def test_seeds_are_averaged(summary):
  test = films("test")
  labels = probing.judged_labels(test, "thorax/tiny")
  trial = summary["trials"]["much"]
  expected = [
    float(auc.macro(judged(test, labels, 3, seed).scores, test.present[:, labels]))
    for seed in (1, 2)
  ]
  assert trial["macro_auc"]["by_seed"] == expected
  assert trial["macro_auc"]["value"] == pytest.approx(np.mean(expected))
  of_label = np.mean([*trial["label_auc"].values()])
  assert of_label == pytest.approx(trial["macro_auc"]["value"])
  assert trial["seeds"] == 2
  assert trial["strengths"] == [0.1, 0.1]
  assert trial["nearest"]["same_patient"]["value"] == pytest.approx(0.3)


def test_the_protocol_says_by_what_it_was_judged(summary):
  protocol = summary["protocol"]
  assert [*protocol["labels"]] == [*LABELS[:4]]
  assert protocol["labels"][LABELS[0]] == films("test").present[:, 0].sum()
  assert (protocol["n_test"], protocol["n_patients"]) == (180, 60)


def test_tables(summary):
  first, second = probing.tables(summary)
  assert {len(row) for row in first.rows} == {1 + len(first.columns)}
  nothing, *_, much = first.rows
  trial = summary["trials"]["much"]
  assert much[:4] == ["much", "180", "2", "8"]
  assert much[4] == rendering.number(trial["macro_auc"], interval=True)
  assert much[5].startswith(f"{trial['differences']['nothing']['value']:+.3f} [+")
  assert much[-1] == "0.300 (0.050)"
  assert nothing[5] == "-"
  assert [*second.columns] == [*summary["trials"]]
  assert second.rows[0][0] == (
    f"{LABELS[0]} ({summary['protocol']['labels'][LABELS[0]]})"
  )
  assert second.rows[0][-1] == f"{trial['label_auc'][LABELS[0]]:.3f}"
  text = rendering.render(first).replace("\n", " ")
  assert "judged on 180 test films of 60 patients, by the 4 labels" in text


def test_panels(summary):
  score, *shares = probing.panels(summary)
  marks = {point.beside for point in score.points}
  assert marks == {summary["trials"]["nothing"]["macro_auc"]["value"]}
  assert score.points[-1].low < score.points[-1].value < score.points[-1].high
  assert [panel.title for panel in shares] == [
    "nearest: same patient",
    "nearest: same findings other patient",
  ]
  assert shares[0].points[-1] == ("much", pytest.approx(0.3), 0.0, 1.0, 0.05)


def base():
  data = types.SimpleNamespace(name="thorax/tiny", data_dir=None)
  return types.SimpleNamespace(paper="eir", variant="tiny", data=data)


@pytest.fixture
def run(monkeypatch, tmp_path):
  """Runs a probe of encoders that are functions of films: its outcome, what was done.

  One goes by the findings, one by the patient, one by nothing.
  """
  done = []

  def pretrain(arm, base, seed, root):
    done.append((arm.name, base.variant, seed))
    return root / f"{arm.name}-{seed}" / "pretrain" / "export"

  def compute(export, films):
    name = export.parts[-3]
    done.append((name, films.split, len(films)))
    rng = np.random.default_rng([len(films), *name.encode()])
    noise = rng.normal(size=(len(films), 16))
    if name.startswith("findings"):
      noise[:, : len(LABELS)] += 20 * films.present
    if name.startswith("patient"):
      _, patient = np.unique(films.patients, return_inverse=True)
      noise += 9 * rng.normal(size=(1 + patient.max(), 16))[patient]
    return noise.astype(np.float32)

  monkeypatch.setattr(arms, "pretrain", pretrain)
  monkeypatch.setattr(features, "compute", compute)
  monkeypatch.setattr(probing, "FILMS", 150)

  def other(config):
    changed = base()
    changed.variant = f"{config.variant} of another"
    return changed

  encoders = {
    "nothing": Encoder(Arm("nothing")),
    "findings": Encoder(Arm("findings")),
    "patient": Encoder(Arm("patient"), other),
  }
  experiment = Probing("probe", "What for?", encoders, ("nothing",))

  def run(seeds=1):
    done.clear()
    outcome = experiment.run(base(), seeds, epath.Path(tmp_path))
    return outcome, list(done)

  for name in encoders:
    for seed in range(2):
      (tmp_path / f"{name}-{seed}").mkdir()
  return run


def test_features_are_computed_once_and_each_arm_has_its_base(run):
  outcome, done = run(seeds=2)
  names = ("nothing", "findings", "patient")
  asked = [what for what in done if what[1].startswith("tiny")]
  variants = ("tiny", "tiny", "tiny of another")
  assert asked == [(*pair, seed) for seed in range(2) for pair in zip(names, variants)]
  computed = [what for what in done if what not in asked]
  sizes = {"train": 150, "validation": 52, "test": 49}
  assert sorted(computed) == sorted(
    (f"{name}-{seed}", *size)
    for name in names
    for seed in range(2)
    for size in sizes.items()
  )
  again, done = run(seeds=2)
  assert done == asked
  assert again == outcome


def test_what_an_encoder_goes_by_is_seen(run):
  trials = run()[0].summary["trials"]
  value = {name: trial["macro_auc"]["value"] for name, trial in trials.items()}
  assert value["findings"] > 0.95
  assert abs(value["nothing"] - 0.5) < 0.15
  assert trials["findings"]["differences"]["nothing"]["low"] > 0.2
  share = lambda name, of: trials[name]["nearest"][of]["value"]
  patient, findings = probing.SHARES
  assert share("patient", patient) > 0.9
  assert share("findings", findings) > 2 * share("nothing", findings)
  assert share("nothing", patient) < 0.5


def test_what_an_outcome_says(run, tmp_path):
  outcome = run()[0]
  text = outcome.write(epath.Path(tmp_path) / "probe")
  assert outcome.summary["experiment"] == "probe"
  assert outcome.summary["config"] == "eir:tiny"
  assert "fitted to 150 training films" in text.replace("\n", " ")
  assert {p.name for p in (tmp_path / "probe").iterdir()} == {
    "table.txt", "picture.png", "summary.json",
  }  # fmt: skip


def test_films_are_those_of_the_split():
  test = features.load("thorax/tiny", "test")
  assert len(test) == len(test.source) == 49
  labels = np.stack([record["labels"] for record in test.source])
  np.testing.assert_array_equal(test.present, labels == PRESENT)
  few = features.load("thorax/tiny", "test", most=7)
  assert list(few.indices) == [0, 8, 16, 24, 32, 40, 48]
  np.testing.assert_array_equal(few.patients, test.patients[::8])
  np.testing.assert_array_equal(few.present, test.present[::8])
  assert len(features.load("thorax/tiny", "test", most=1000)) == 49


class Pool(nn.Module):
  """A mean of grey values under a kernel, shifted by a statistic."""

  @nn.compact
  def features(self, image):
    shift = self.variable("batch_stats", "mean", jnp.zeros, (3,))
    kernel = self.param("kernel", nn.initializers.normal(), (3,))
    return image.astype(jnp.float32).mean((1, 2)) * kernel - shift.value


def test_features_are_those_of_the_export_and_in_order(monkeypatch, tmp_path):
  """More films than a batch, not a multiple of it, and smaller than they are stored."""
  monkeypatch.setattr(models, "build", lambda config: Pool())
  monkeypatch.setattr(sharding, "make_mesh", micro.one_device)
  kernel, shift = np.array([1, 2, 4], np.float32), np.array([0, 5, 9], np.float32)
  config = {
    "model": {},
    "stages": ["pretrain"],
    "pretrain": {"batch_size": 4},
    "data": {"image_size": 32},
  }
  variables = {
    "params": {"kernel": kernel, "head": np.ones(2, np.float32)},
    "batch_stats": {"mean": shift},
    "queue": {"keys": np.ones(5, np.float32)},
  }
  export = epath.Path(tmp_path) / "pretrain-1" / "pretrain" / "export"
  text = json.dumps({"config": config}).encode()
  checkpoint.export(export, variables, {"config.json": text})
  films = features.load("thorax/tiny", "test", most=6)
  found = features.of(export, films)
  small = [images.process(films.source[i]["image"], 32) for i in films.indices]
  expected = np.stack([image.mean() for image in small])[:, None] * kernel - shift
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  assert found.dtype == np.float32
  # Kept by the split and the number of films.
  assert [p.name for p in (tmp_path / "pretrain-1/features").iterdir()] == [
    "test-6.npy"
  ]
