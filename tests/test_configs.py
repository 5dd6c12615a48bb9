"""Recipes: every variant makes a model, and says what it cannot make."""

import jax
import ml_collections
import pytest
from flax import traverse_util

import published
from configs import priorrg
from jaxrg import inputs, models, objectives, optim, sharding
from jaxrg.convert import authors

VARIANTS = (
  "thorax",
  "thorax_long",
  "tiny",
  "published",
  "tiny,published",
  "mimic_cxr",
  "mimic_cxr,published",
  "mimic_abn",
)


PRIOR = "prior_gradient"  # No difference where the encoder is frozen.


def params(config, stage):
  model = models.build(config.model)
  method = objectives.METHODS[config[stage].objective]
  example = inputs.priorrg.example(image_size=config.data.image_size, **config.text)
  init = lambda key: model.init(key, example, method=method)
  return jax.eval_shape(init, jax.random.key(0))["params"]


@pytest.mark.parametrize("variants", VARIANTS)
def test_every_variant_is_a_recipe(variants):
  config = priorrg.get_config(variants)
  assert config.variant == variants
  assert set(config.stages) == {"pretrain", "finetune"}
  assert config.model.mask_padding == ("published" not in variants)
  assert ("tiny" in variants) == (config.data.name == "thorax/tiny")
  names = {"mimic_cxr": "mimic_cxr/ours_518", "mimic_abn": "mimic_abn/ours_518"}
  names["mimic_cxr,published"] = "mimic_cxr/priorrg_518"
  if variants in names or not config.data.name.startswith("thorax/"):
    assert config.data.name == names[variants]
  model = config.model.to_dict()
  assert all(model[key] == x for key, x in authors.JOINING.items())  # In every one.


@pytest.mark.parametrize(
  ("variants", "stage"),
  [
    ("thorax", "pretrain"),
    ("tiny", "finetune"),
    ("mimic_cxr", "pretrain"),
    ("mimic_cxr,published", "finetune"),
  ],
)
def test_patterns_and_places_fit_the_model(variants, stage):
  config = priorrg.get_config(variants)
  tree = params(config, stage)
  trainable, held = optim.split(tree, config[stage].optim.frozen)
  assert bool(held) == bool(config[stage].optim.frozen)
  optim.make(config[stage].optim, num_steps=1000).init(trainable)
  for path in traverse_util.flatten_dict(tree, sep="/"):
    sharding.param_axes(path)


@pytest.mark.parametrize(("stage", "checkpoint"), [("pretrain", 1), ("finetune", 2)])
def test_mimic_cxr_has_the_published_parameters(stage, checkpoint):
  """Every path and shape is that of a converted checkpoint; so are the fields."""
  config = priorrg.get_config("mimic_cxr,published")
  ours = traverse_util.flatten_dict(params(config, stage), sep="/")
  theirs = published.built(checkpoint)
  names = {path for path in theirs if path.startswith("params/")}
  assert names == {f"params/{path}" for path in ours}
  assert all(x.shape == theirs[f"params/{path}"].shape for path, x in ours.items())
  count = {1: 239_860_569, 2: 335_963_748}[checkpoint] - 758_360  # What is dropped.
  assert sum(x.size for x in ours.values()) == count
  converted, _ = published.converted(checkpoint)
  flat = lambda tree: traverse_util.flatten_dict(tree, sep="/")
  mine = flat(config.model.to_dict())
  # Head counts and rates are in no shape; what only an initialiser reads, not here.
  assert all(mine[key] == x for key, x in flat(converted).items() if key != PRIOR)


def test_published_sets_every_switch():
  """The README's table of departures, line by line."""
  ours, theirs = (priorrg.get_config(f"mimic_cxr{p}") for p in ("", ",published"))
  flat = lambda config: traverse_util.flatten_dict(config.to_dict(), sep="/")
  ours, theirs = flat(ours), flat(theirs)
  changed = {key for key in ours if ours[key] != theirs[key]} - {"variant"}
  optim = {"decay_all", "grad_clip", "skip_unused"}
  stages = ("pretrain", "finetune")
  assert changed == {
    "data/name",
    "model/mask_padding",
    "model/mask_statistics",
    "model/dtype",
    "pretrained/decoder",
    "decode/cut_references",
    "finetune/keep_end",
    "pretrain/context_length",
    "finetune/optim/frozen",
    "finetune/optim/groups",
    *(f"{stage}/accumulation" for stage in stages),
    *(f"{stage}/optim/{key}" for stage in stages for key in optim),
  }


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
