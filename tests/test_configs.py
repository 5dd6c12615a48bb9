"""Recipes: every variant makes a model, and says what it cannot make."""

import jax
import ml_collections
import pytest
from flax import traverse_util

from configs import priorrg
from jaxrg import inference, models, objectives, optim, sharding

VARIANTS = ("thorax", "tiny", "published", "tiny,published")


def params(config, stage):
  model = models.build(config.model)
  method = objectives.METHODS[config[stage].objective]
  example = inference.example(image_size=config.data.image_size, **config.text)
  init = lambda key: model.init(key, example, method=method)
  return jax.eval_shape(init, jax.random.key(0))["params"]


@pytest.mark.parametrize("variants", VARIANTS)
def test_every_variant_is_a_recipe(variants):
  config = priorrg.get_config(variants)
  assert config.variant == variants
  assert set(config.stages) == {"pretrain", "finetune"}
  assert config.model.mask_padding == ("published" not in variants)
  assert ("tiny" in variants) == (config.data.name == "thorax/tiny")


@pytest.mark.parametrize(
  ("variants", "stage"), [("thorax", "pretrain"), ("tiny", "finetune")]
)
def test_patterns_and_places_fit_the_model(variants, stage):
  config = priorrg.get_config(variants)
  tree = params(config, stage)
  trainable, held = optim.split(tree, config[stage].optim.frozen)
  assert bool(held) == bool(config[stage].optim.frozen)
  optim.make(config[stage].optim, num_steps=1000).init(trainable)
  for path in traverse_util.flatten_dict(tree, sep="/"):
    sharding.param_axes(path)


def test_tiny_changes_sizes_only():
  flat = lambda config: traverse_util.flatten_dict(config.to_dict(), sep="/")
  tiny, full = flat(priorrg.get_config("tiny")), flat(priorrg.get_config("thorax"))
  assert tiny.keys() == full.keys()
  changed = {key for key in tiny if tiny[key] != full[key]}
  names = {"variant", "data/name"}
  assert all(isinstance(tiny[key], int | tuple) for key in changed - names)


@pytest.mark.parametrize("variants", ["large", "tiny,large", ""])
def test_an_unknown_variant_is_named(variants):
  unknown = variants.split(",")[-1]
  with pytest.raises(ValueError, match=f"Unknown variant '{unknown}'; known: tiny"):
    priorrg.get_config(variants)


def test_keys_and_types_are_fixed():
  config = ml_collections.ConfigDict(priorrg.get_config()).lock()
  with pytest.raises(AttributeError, match="learning_rate"):
    config.pretrain.optim.learnin_rate = 1.0
  with pytest.raises(TypeError, match="num_epochs"):
    config.pretrain.num_epochs = "many"
