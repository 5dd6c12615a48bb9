import re

import numpy as np
import pytest
from flax import traverse_util

import goldens
import published
from jaxrg import convert

TABLE = convert.priorrg_table(**goldens.HEADS)


def test_the_lists_hold_every_published_key():
  assert (len(published.state(1)), len(published.state(2))) == (497, 636)


@pytest.mark.parametrize("stage", [1, 2])
def test_every_published_key_has_its_place_at_full_size(stage):
  """The model built of a checkpoint has exactly the variables made from its keys."""
  _, ours = published.converted(stage)
  expected = {path: x.shape for path, x in published.built(stage).items()}
  assert ours == expected


@pytest.mark.parametrize(("stage", "count"), [(1, 239_860_569), (2, 335_963_748)])
def test_parameter_counts_are_the_published_ones(stage, count):
  _, shapes = published.converted(stage)
  sizes = [int(np.prod(s)) for path, s in shapes.items() if path.startswith("params/")]
  assert sum(sizes) == count - 758_360  # What is dropped.


def test_sizes_are_read_from_the_shapes():
  config, _ = convert.priorrg(goldens.state(2), **goldens.HEADS)
  vision, decoder = config["vision"], config["decoder"]
  assert (vision["num_layers"], vision["width"], vision["mlp_dim"]) == (8, 48, 192)
  assert vision["stem"] == {"name": "patch", "patch_size": 14}
  assert (config["width"], config["bottleneck"], config["num_views"]) == (32, 16, 7)
  assert (decoder["num_layers"], decoder["vocab_size"]) == (2, 367)
  assert config["perceiver"]["num_latents"] == 6
  assert not config["mask_padding"]  # As published.


@pytest.mark.parametrize("key", ["text_encoder.pooler.weight", "layer_norm.gamma", "x"])
def test_an_unknown_key_is_named(key):
  state = goldens.state(1) | {key: np.zeros(3)}
  with pytest.raises(ValueError, match=re.escape(repr(key))):
    convert.rename(state, TABLE)


def test_a_key_is_matched_as_a_whole():
  for wrong in ("module.logit_scale", "logit_scale.0", "perceiver.latents.weight"):
    with pytest.raises(ValueError, match="no row maps it"):
      convert.rename({wrong: np.zeros((1, 1))}, TABLE)


@pytest.mark.parametrize("pattern", convert.DROPPED)
def test_what_is_dropped_exists(pattern):
  """position_ids is in older checkpoints only."""
  dropped = [k for k in published.state(2) if re.fullmatch(pattern, k)]
  assert dropped or "position_ids" in pattern


def test_fused_matrices_come_apart_by_head():
  """The arithmetic of a projection, in PyTorch's layout and in ours."""
  rng = np.random.default_rng(0)
  state, (_, variables) = (
    goldens.state(2),
    convert.priorrg(goldens.state(2), **goldens.HEADS),
  )
  params = traverse_util.flatten_dict(variables["params"], sep="/")
  heads = lambda y, n: y.reshape(*y.shape[:-1], n, -1)

  x = rng.normal(size=(3, 32))
  fused = x @ state["perceiver.layers.1.0.fn.to_kv.weight"].T
  for name, theirs in zip(("key", "value"), np.split(fused, 2, axis=-1)):
    kernel = params[f"perceiver/layer_1/cross_attention/{name}/kernel"]
    ours = np.einsum("bd,dhk->bhk", x, kernel)
    np.testing.assert_allclose(ours, heads(theirs, 8), rtol=1e-5, atol=1e-6)

  root = "text_decoder.encoder_decoder.decoder.transformer.h.0.attn"
  # GPT-2 stores (in, out).
  fused = x @ state[f"{root}.c_attn.weight"] + state[f"{root}.c_attn.bias"]
  names = ("query", "key", "value")
  for name, theirs in zip(names, np.split(fused, 3, axis=-1)):
    path = f"decoder/layer_0/self_attention/{name}"
    ours = (
      np.einsum("bd,dhk->bhk", x, params[f"{path}/kernel"]) + params[f"{path}/bias"]
    )
    np.testing.assert_allclose(ours, heads(theirs, 4), rtol=1e-5, atol=1e-6)
  joined = heads(rng.normal(size=(3, 32)), 4)
  ours = np.einsum(
    "bhk,hkd->bd", joined, params["decoder/layer_0/self_attention/out/kernel"]
  )
  theirs = joined.reshape(3, 32) @ state[f"{root}.c_proj.weight"]
  np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
