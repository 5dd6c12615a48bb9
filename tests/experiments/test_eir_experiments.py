"""The experiments on EIR: that they are what could be run."""

import json
import pathlib
import re

import ml_collections
import numpy as np
import pytest

import micro
from configs import priorrg as recipe
from jaxrg.experiments import priorrg
from jaxrg.experiments.eir import EXPERIMENTS

ROOT = pathlib.Path(__file__).parents[2]
SAFE = re.compile(r"[a-z0-9]+([-._][a-z0-9]+)*")
PROBE = EXPERIMENTS["probe"]


def config(variant="tiny", **changes):
  """The sections that experiments ask of EIR's config."""
  base = ml_collections.ConfigDict(
    dict(
      paper="eir",
      variant=variant,
      seed=3,
      mesh=(-1, 1, 1),
      data=dict(name="thorax/tiny", data_dir="/data"),
      pretrain=dict(
        num_epochs=4,
        optim=dict(learning_rate=0.3),
        contrast=dict(name="c2l"),
        augment=dict(crop=(0.5, 1.0), rotation=10.0, contrast=0.2),
      ),
    )
  )
  base.update_from_flattened_dict(changes)
  return base.lock()


def test_each_encoder_is_another_arm_of_its_paper():
  arms = {}
  for name, encoder in PROBE.encoders.items():
    base = encoder.base(config())
    arms[name] = encoder.arm.config(base, 1)
    assert base.seed == 3
    assert arms[name].seed == 4
  assert len({c.to_json() for c in arms.values()}) == len(arms)
  papers = {name: arm.paper for name, arm in arms.items()}
  assert papers == {
    "untrained": "eir",
    "moco_v2": "eir",
    "c2l": "eir",
    "priorrg_untrained": "priorrg",
    "priorrg": "priorrg",
  }
  for name in ("moco_v2", "c2l"):
    assert arms[name].pretrain.contrast.name == name
    assert arms[name].pretrain.optim.learning_rate == 0.3
  for name in PROBE.references:
    assert arms[name].pretrain.optim.learning_rate == 0
    assert arms[name].pretrain.num_epochs == 1


@pytest.mark.parametrize("variant", ["tiny", "thorax", "thorax_long"])
def test_priorrg_s_encoder_is_that_of_its_own_experiments(variant):
  """But for seed and data, which are those of EIR: so its runs can be shared."""
  ours = recipe.get_config(variant)
  base = config(variant, seed=0, **{"data.name": ours.data.name})
  found = PROBE.encoders["priorrg"].base(base)
  assert found.data.data_dir == "/data"
  found.data.data_dir = ours.data.data_dir
  assert found.to_json() == ours.to_json()


def test_augmentations_differ_in_what_they_are_named_after():
  asked = EXPERIMENTS["contrast"].encoders
  arms = {name: encoder.arm.config(config(), 0) for name, encoder in asked.items()}
  recipes = {name: arm.pretrain.augment.to_dict() for name, arm in arms.items()}
  ours = config().pretrain.augment.to_dict()
  assert recipes == {
    "untrained": ours,
    "moco_v2": ours,
    "no-crops": ours | dict(crop=(1.0, 1.0), rotation=0.0),
    "no-greys": ours | dict(contrast=0.0),
    "small-crops": ours | dict(crop=(0.2, 1.0)),
    "slow": ours,
    "c2l": ours,
  }
  objectives = {name: arm.pretrain.contrast.name for name, arm in arms.items()}
  assert {objectives.pop("c2l"), *objectives.values()} == {"c2l", "moco_v2"}
  assert set(objectives.values()) == {"moco_v2"}
  assert arms["slow"].pretrain.optim.learning_rate == 0.06
  # The probe's own, so that neither trains what the other has.
  for name in ("untrained", "moco_v2", "c2l"):
    assert asked[name] == PROBE.encoders[name]


def test_a_variant_that_priorrg_has_not():
  with pytest.raises(ValueError, match=r"configs/priorrg.py: Unknown variant 'large'"):
    PROBE.encoders["priorrg"].base(config("large"))


def test_names():
  assert "all" not in EXPERIMENTS
  for name, experiment in EXPERIMENTS.items():
    assert experiment.name == name
    assert experiment.question.endswith("?")
    assert set(experiment.references) < set(experiment.encoders)
    for name, encoder in experiment.encoders.items():
      assert SAFE.fullmatch(name)
      assert SAFE.fullmatch(encoder.arm.name)
  assert not set(EXPERIMENTS) & set(priorrg.EXPERIMENTS)


@pytest.mark.slow
def test_the_whole_probe(tmp_path, capsys):
  """Five first stages of two papers; asked again, it trains and computes nothing."""
  arguments = (
    "probe", f"--config={ROOT / 'configs/eir.py'}:tiny", f"--workdir={tmp_path}",
  )  # fmt: skip
  assert micro.verb("experiment", *arguments) == 0
  summary = json.loads((tmp_path / "probe/summary.json").read_text())
  trials = summary["trials"]
  assert [*trials] == [*PROBE.encoders]
  for trial in trials.values():
    assert trial["n"] == 49
    assert 0.3 < trial["macro_auc"]["value"] < 1
    shares = trial["nearest"].values()
    assert np.isfinite([list(share.values()) for share in shares]).all()
  assert len(list(tmp_path.glob("pretrain-*/features/test-49.npy"))) == len(trials)
  table = (tmp_path / "probe/table.txt").read_text()
  assert table in capsys.readouterr().out
  before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("pretrain-*/**/*")}
  assert micro.verb("experiment", *arguments) == 0
  assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("pretrain-*/**/*")} == before
  assert (tmp_path / "probe/table.txt").read_text() == table
