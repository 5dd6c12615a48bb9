"""Stage 1 from what its frozen encoder made of the films before."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

import micro
from data_pipelines import building, datasets, feature_store, loader
from data_pipelines.feature_store import FeatureStore
from jaxrg import features, models, runs, sharding, train

FROZEN = {"pretrain.optim.frozen": ("vision/",), "data.in_memory": False}
BFLOAT16 = 2**-8  # Of a number, what its rounding may change.


@pytest.fixture(scope="module")
def few(tmp_path_factory):
  with micro.few(tmp_path_factory.mktemp("compiled")):
    yield


def get_config(changes=None):
  return micro.get_config(FROZEN | (changes or {}))


def variables(config):
  mesh = sharding.make_mesh((-1, 1, 1))
  with jax.set_mesh(mesh):
    return train.first_variables(config, "pretrain", mesh, []), mesh


def compute(config, out, **options):
  found, mesh = variables(config)
  return features.compute(config, found, out, batch_size=8, mesh=mesh, **options)


@pytest.fixture(scope="module")
def store(few, tmp_path_factory):
  out = tmp_path_factory.mktemp("features")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(features, "SHARD_BYTES", 2**13)
    compute(get_config(), out)
  return out


def pretrain(config, workdir):
  workdir = epath.Path(workdir)
  source = datasets.load(config.data.name, "train")
  tokenizer = runs.make_tokenizer(config, workdir, source)
  places = {"workdir": workdir, "init_from": [], "export_to": workdir / "export"}
  train.train(config, "pretrain", tokenizer, **places)
  return micro.rows(workdir / "pretrain"), micro.leaves(workdir / "export")


def test_training_from_features_is_training_from_films(store, tmp_path):
  rows, leaves = pretrain(get_config(), tmp_path / "films")
  config = get_config({"data.features": str(store)})
  fast_rows, fast = pretrain(config, tmp_path / "features")
  # The features are bfloat16, and what is made of them is a mean of many.
  losses, fast_losses = ([row["loss"] for row in found] for found in (rows, fast_rows))
  np.testing.assert_allclose(fast_losses, losses, rtol=BFLOAT16)
  assert fast_losses != losses  # They were read.
  for name in ("validation_loss", "grad_norm"):
    slow = [row[name] for row in rows if name in row]
    assert len(slow) > 0
    quick = [row[name] for row in fast_rows if name in row]
    np.testing.assert_allclose(quick, slow, rtol=4 * BFLOAT16)
  # What is exported has the encoder all the same, as it began.
  assert fast.keys() == leaves.keys()
  vision = [path for path in leaves if path.startswith("params/vision/")]
  assert vision
  for path in vision:
    np.testing.assert_array_equal(fast[path], leaves[path])


def test_features_are_the_encoder_s_last_hidden_states(store):
  config = get_config()
  found, _ = variables(config)
  model = models.build(config.model)
  made = FeatureStore(store)
  assert len(made) == micro.COUNTS["train"] + micro.COUNTS["validation"]
  source = datasets.load(config.data.name, "train")
  for index in (0, 17, 47):
    record = loader.parse(source, index)
    image = jnp.asarray(record["image"])[None]
    last = model.apply(found, image, method="last_hidden")[0]
    np.testing.assert_allclose(
      made[record["id"]].astype(np.float32), last, rtol=BFLOAT16, atol=1e-6
    )
  with pytest.raises(ValueError, match="has no features of record nobody"):
    made["nobody"]


def content(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


class Killed(BaseException):
  pass


def test_stopped_and_started_again_bytes_are_the_same(store, tmp_path, monkeypatch):
  monkeypatch.setattr(features, "SHARD_BYTES", 2**13)
  write, calls = feature_store.write_shard, []

  def killing(folder, number, *rest):
    calls.append(number)
    write(folder, number, *rest)
    if len(calls) == 3:
      raise Killed

  monkeypatch.setattr(feature_store, "write_shard", killing)
  with pytest.raises(Killed):
    compute(get_config(), tmp_path)
  with pytest.raises(ValueError, match="no whole store of features"):
    FeatureStore(tmp_path)
  compute(get_config(), tmp_path)
  assert calls == sorted(set(calls))  # None is made twice.
  assert len(calls) > 4
  whole = content(store)
  assert {name: content(tmp_path)[name] for name in whole} == whole


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"seed": 1}, "are of another encoder"),
    ({"model.pixel_mean": 0.4}, "are of another encoder"),
    ({"data.image_size": 32}, "are of another image_size"),
    ({"data.name": "thorax/retrieval"}, "are of another data"),
    (
      {"pretrain.optim.frozen": ("text/tokens",)},
      "Stage pretrain trains the image encoder",
    ),
    ({"pretrain.augment.shift": 2}, "config.pretrain.augment changes films"),
  ],
)
def test_features_of_another_encoder_or_film_are_refused(store, changes, message):
  config = get_config({"data.features": str(store)} | changes)
  found, _ = variables(config)
  with pytest.raises(ValueError, match=message) as raised:
    features.check(config, found)
  assert "\n" not in str(raised.value)


def test_an_encoder_with_batch_statistics_is_refused(few):
  stem = {"name": "conv", "block": 4, "channels": (8, 8), "depth": 1}
  config = get_config()
  config.model.vision.stem = stem
  with pytest.raises(ValueError, match="has batch statistics"):
    features.check_frozen(config, "pretrain", variables(config)[0])


def test_the_disk_that_is_needed_is_told_first(store, tmp_path, capsys, monkeypatch):
  compute(get_config(), tmp_path)
  told = capsys.readouterr().out.splitlines()[0]
  films = micro.COUNTS["train"] + micro.COUNTS["validation"]
  assert told.startswith(f"{films} films x 17 x 16 x 2 bytes: 3.48e-05 GB in ")
  monkeypatch.setattr(building, "free_bytes", lambda folder: 1000)
  with pytest.raises(OSError, match="1e-06 GB are free; give another --out"):
    compute(get_config(), tmp_path / "other")
  assert not (tmp_path / "other").exists()


def test_the_verb(few, tmp_path, capfd):
  changes = [f"--config.{key}={value}" for key, value in FROZEN.items()]
  arguments = ("--config=configs/priorrg.py:tiny", f"--out={tmp_path / 'out'}")
  # The tiny encoder begins with batch statistics.
  assert micro.verb("precompute", *arguments, *changes) == 1
  assert capfd.readouterr().err.startswith("error: The image encoder has batch")
  assert micro.verb("precompute", "--config=configs/eir.py:tiny", arguments[1]) == 1
  assert "No stage of eir reads features" in capfd.readouterr().err
  assert not (tmp_path / "out").exists()


def test_a_folder_without_features_is_refused_before_a_run_is_made(few, tmp_path):
  config = get_config({"data.features": str(tmp_path)})
  with pytest.raises(ValueError, match="holds no whole store of features"):
    runs.run(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_a_run_is_the_same_wherever_its_features_lie(tmp_path):
  one, other = (get_config({"data.features": folder}) for folder in ("a", "b"))
  assert runs.identity(one) == runs.identity(other)
  assert runs.identity(one) != runs.identity(get_config())
  assert json.dumps(runs.identity(one))
