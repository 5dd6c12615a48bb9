"""EIR's recipes: every variant makes a model, of which every array has a place."""

import jax
import pytest
from flax import traverse_util
from jax.sharding import PartitionSpec

from configs import eir
from jaxrg import checks, inputs, models, sharding

VARIANTS = ("tiny", "thorax", "thorax_long", "tiny,published", "mimic_cxr")
VARIANTS += ("mimic_cxr,published", "iu_xray", "iu_xray,published")
# Spec eir 9; the classifier's part has no value path, the graph's an `added` bit more.
SIZES = {
  "vision": 23_508_032,
  "topics": 59_798_016,
  "graph": 1_649_920 + 768,
  "aggregation": 2 * 1_581_056,
}


def variables(config, method):
  model = models.build(config.model)
  init = lambda key: model.init(key, inputs.example(config, method), method=method)
  return jax.eval_shape(init, jax.random.key(0))


@pytest.mark.parametrize("variants", VARIANTS)
def test_every_variant_is_a_recipe_and_has_a_place(variants):
  config = eir.get_config(variants)
  assert config.variant == variants
  checks.check(config)
  mesh = sharding.make_mesh((2, 2, 2))
  for method in ("embed", "__call__"):
    sharding.state_shardings(dict(variables(config, method)), mesh)


def test_the_published_size_has_its_parameters():
  params = variables(eir.get_config("mimic_cxr"), "__call__")["params"]
  count = lambda part: sum(x.size for x in jax.tree.leaves(params[part]))
  assert {part: count(part) for part in SIZES} == SIZES
  assert count("tokens") + count("history") == 907_776


def test_the_largest_array_is_spread():
  config = eir.get_config("mimic_cxr")
  found = variables(config, "__call__")
  mesh = sharding.make_mesh((2, 2, 2))
  placed = traverse_util.flatten_dict(
    sharding.state_shardings(dict(found), mesh), sep="/"
  )
  kernel = placed["params/topics/maps/kernel"]
  assert kernel.spec == PartitionSpec("fsdp", None, "tensor")


@pytest.mark.parametrize("name", models.GRIDS)
def test_every_encoder_makes_a_model(name):
  config = eir.get_config("tiny")
  config.model.vision.name = name
  checks.check(config)


@pytest.mark.parametrize("variants", ["huge", "tiny,mimic_cxr"])
def test_variants_that_cannot_be(variants):
  with pytest.raises(ValueError, match="ariant"):
    eir.get_config(variants)
