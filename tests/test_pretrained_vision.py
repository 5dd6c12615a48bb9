"""EIR's image encoder beginning with published weights: laid over, or refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from jaxrg import checkpoint, pretrained, sharding, weight_files, weights
from jaxrg.convert import vision
from jaxrg.models.densenet import DenseNet
from jaxrg.models.grid import ViTGrid
from jaxrg.models.resnet import ResNet
from jaxrg.models.vit import PatchStem, ViT

RESNET = ResNet((1, 1, 1, 1), False, 4)
COLLECTIONS = ("params", "batch_stats")


def config_of(source, kind="torchvision", norm="imagenet"):
  return ConfigDict(
    dict(
      paper="eir",
      pretrained=dict(vision=source and str(source), kind=kind),
      model=dict(norm=norm, vision=dict()),
    )
  )


def draw(model=RESNET, *, seed=0, channels=3):
  """Random variables of an encoder, in the part that it is of a whole model."""
  image = jnp.zeros((1, 32, 32, channels))
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)
  rng = np.random.default_rng(seed)
  draw = lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype)
  return {
    name: {"vision": jax.tree.map(draw, shapes.get(name, {}))} for name in COLLECTIONS
  }


def write(path, model=RESNET, **fields):
  given = draw(model, seed=1, **fields)
  parts = (given[name]["vision"] for name in COLLECTIONS)
  weight_files.write(path, vision.to_torchvision(*parts))
  return given


def assert_equal(ours, expected):
  jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_parameters_and_statistics_are_taken(tmp_path, capsys):
  given, fresh = write(tmp_path / "w.npz"), draw()
  fresh["params"]["head"] = {"kernel": jnp.ones(3)}
  fresh["queue"] = {"keys": jnp.ones(2)}
  variables = pretrained.overlay(fresh, config_of(tmp_path / "w.npz"))
  assert variables.keys() == fresh.keys()
  for name in COLLECTIONS:
    assert_equal(variables[name]["vision"], given[name]["vision"])
  assert variables["params"]["head"] is fresh["params"]["head"]
  assert variables["queue"] is fresh["queue"]
  said = f"vision: from {tmp_path / 'w.npz'}; 60 of 60 tensors, 0 not used, 0 missing\n"
  assert capsys.readouterr().out == said


def test_they_lie_where_the_fresh_ones_lay(tmp_path):
  given = write(tmp_path / "w.npz")
  everywhere = NamedSharding(sharding.make_mesh((2, 2, 2)), PartitionSpec())
  fresh = jax.device_put(draw(), everywhere)
  variables = pretrained.overlay(fresh, config_of(tmp_path / "w.npz"))
  assert_equal(variables, given)
  for x in jax.tree.leaves(variables):
    assert x.sharding.is_equivalent_to(everywhere, x.ndim)


def test_what_a_stage_before_has_is_not_read(tmp_path):
  fresh = draw()
  config = config_of(tmp_path / "none.npz")
  assert_equal(pretrained.overlay(fresh, config, has=("vision",)), fresh)
  config = config_of(None, kind=None)
  pretrained.check(config)
  assert_equal(pretrained.overlay(fresh, config), fresh)


def refused(config, match, variables=None):
  with pytest.raises(ValueError, match=match) as info:
    pretrained.overlay(variables or draw(), config)
  assert str(info.value).startswith("config.pretrained.vision: ")
  assert "\n" not in str(info.value)


@pytest.mark.parametrize("kind", ["torchvision", "mococxr", "nguyen", "xrv"])
def test_another_norm_is_refused_before_anything_is_read(tmp_path, kind):
  (tmp_path / "w.npz").touch()
  theirs = vision.KINDS[kind].norm
  ours = "unit" if theirs != "unit" else "imagenet"
  config = config_of(tmp_path / "w.npz", kind, ours)
  match = (
    rf"pretrained\.kind='{kind}' .* '{theirs}', and config\.model\.norm is '{ours}'"
  )
  refused(config, match)
  with pytest.raises(ValueError, match=match):
    pretrained.check(config)
  pretrained.check(config_of(tmp_path / "w.npz", kind, theirs))
  pretrained.check(config_of(tmp_path / "w.npz", "generic", ours))


@pytest.mark.parametrize("kind", [None, "rad-dino"])
def test_an_unknown_kind_is_refused(tmp_path, kind):
  (tmp_path / "w.npz").touch()
  config = config_of(tmp_path / "w.npz", kind)
  match = rf"config\.pretrained\.kind={kind!r} must be one of torchvision, moco"
  refused(config, match)
  with pytest.raises(ValueError, match=match):
    pretrained.check(config)


def test_other_channels_are_refused(tmp_path):
  write(tmp_path / "grey.npz", channels=1)
  config = config_of(tmp_path / "grey.npz", "generic", "imagenet")
  refused(config, r"grey\.npz: it sees images of 1 channels, and .*'imagenet' makes 3")
  write(tmp_path / "colour.npz")
  config = config_of(tmp_path / "colour.npz", "xrv", "xrv")
  refused(config, r"images of 3 channels, and config\.model\.norm='xrv' makes 1")
  given = write(tmp_path / "grey.npz", channels=1)
  config = config_of(tmp_path / "grey.npz", "xrv", "xrv")
  assert_equal(pretrained.overlay(draw(channels=1), config), given)


def test_another_architecture_is_refused(tmp_path):
  dense = DenseNet((1, 1, 1, 1), 4, 8)
  write(tmp_path / "dense.npz", dense)
  config = config_of(tmp_path / "dense.npz")
  refused(config, r"dense\.npz: it is a DenseNet, and the model's encoder a ResNet\.")
  write(tmp_path / "w.npz")
  config = config_of(tmp_path / "w.npz")
  refused(config, "it is a ResNet, and the model's encoder a DenseNet", draw(dense))
  vit = ViT(PatchStem(8, 16), num_layers=1, num_heads=1, width=8, mlp_dim=8)
  refused(config, "the model's encoder is a ViT: set it to None", draw(ViTGrid(vit)))
  deeper = draw(ResNet((1, 2, 1, 1), False, 4))
  refused(config, "the model has vision/stage_2_block_1/conv_1/kernel, and", deeper)
  wider = draw(ResNet((1, 1, 1, 1), False, 8))
  refused(config, r"vision/conv_1/kernel has the shape \(7, 7, 3, 4\) there", wider)


def test_without_the_last_norm_of_nguyen_et_al(tmp_path):
  """Their DenseNet has none: ours must be told, and then it fits."""
  cut = DenseNet((1, 1, 1, 1), 4, 8, final_norm=False)
  given = draw(cut, seed=1)
  state = vision.to_torchvision(*(given[name]["vision"] for name in COLLECTIONS))
  names = vision.CHILDREN["DenseNet"].split()
  theirs = {}
  for key, value in state.items():
    _, child, rest = key.split(".", 2)
    name = f"module.classifier.cnn.model.feature.{names.index(child)}.{rest}"
    theirs[name] = value
  weight_files.write(tmp_path / "w.npz", theirs)
  config = config_of(tmp_path / "w.npz", "nguyen", "unit")
  assert_equal(pretrained.overlay(draw(cut), config), given)
  whole = draw(DenseNet((1, 1, 1, 1), 4, 8))
  refused(config, "the model has vision/norm/bias, and the source has not", whole)


def test_a_damaged_file_is_named(tmp_path):
  (tmp_path / "w.npz").write_bytes(b"nothing")
  refused(config_of(tmp_path / "w.npz"), r"w\.npz is neither safetensors")
  weight_files.write(tmp_path / "w.npz", {"conv1.weight": np.ones((4, 3, 7, 7))})
  assert "conv1.weight" in weights.read(tmp_path / "w.npz").state
  refused(
    config_of(tmp_path / "w.npz"), r"w\.npz: As kind 'torchvision': .* lacks 'bn1"
  )


@pytest.fixture
def own(tmp_path):
  """An export of ours with a ViT for an encoder, and what is in it."""
  model = ViTGrid(
    ViT(stem=PatchStem(8, 16), num_layers=1, num_heads=2, width=8, mlp_dim=8)
  )
  given = draw(model, seed=1)
  given["params"]["head"] = {"kernel": jnp.ones(3)}
  config = {"config": {"model": {"norm": "mococxr"}}}
  checkpoint.export(
    tmp_path / "export", given, {"config.json": json.dumps(config).encode()}
  )
  return tmp_path / "export", model, given


def test_an_encoder_of_ours_is_taken_whatever_it_is(own):
  export, model, given = own
  config = config_of(export, pretrained.OWN, norm="mococxr")
  pretrained.check(config)
  variables = pretrained.overlay(draw(model), config)
  assert_equal(variables["params"]["vision"], given["params"]["vision"])
  assert variables["params"].keys() == {"vision"}


def test_an_encoder_of_ours_of_other_pixels_is_refused(own):
  with pytest.raises(ValueError, match=r"'jaxrg' has seen pixels normalised as 'moco"):
    pretrained.check(config_of(own[0], pretrained.OWN))


def test_a_folder_that_is_no_export_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"config\.pretrained\.vision: .* is no export"):
    pretrained.check(config_of(tmp_path, pretrained.OWN))
