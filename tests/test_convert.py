import re

import numpy as np
import pytest
from flax import traverse_util

import goldens
import published
from jaxrg import convert
from jaxrg.convert import authors


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


@pytest.mark.parametrize("stage", [1, 2])
def test_the_way_back_is_exact_to_the_bit(stage):
  state = goldens.state(stage) | {
    "image_encoder.embeddings.mask_token": np.full((1, 48), 0.1, np.float32),
    "image_projection.head.1.num_batches_tracked": np.array(7),
  }
  config, variables = convert.priorrg(state, **goldens.HEADS)
  assert config["vision"]["width"] == 48
  dropped = convert.dropped(state)
  back = convert.to_priorrg(variables, dropped)
  # A twin comes back even where a file left it out: PyTorch asks for it.
  assert back.keys() - state.keys() <= authors.table(stage, **authors.HEADS).tied.keys()
  for key, value in state.items():
    np.testing.assert_array_equal(back[key], value, strict=True)


@pytest.mark.parametrize("stage", [1, 2])
def test_what_the_model_does_not_use_is_known(stage):
  """12 tensors of 758,360 parameters, and the counters of batches."""
  names = published.state(stage)
  twins = authors.table(stage, **authors.HEADS).tied
  # Each twin is its twin's: here they are zeros, all of them.
  dropped = convert.dropped(names)
  assert not dropped.keys() & twins.keys()
  counters = [key for key in dropped if key.endswith("num_batches_tracked")]
  assert len(counters) == {1: 2, 2: 3}[stage]
  assert len(dropped) - len(counters) == 12
  assert sum(x.size for x in dropped.values()) - len(counters) == 758_360


def test_a_twin_that_is_not_one_is_kept_aside():
  state, twin = goldens.state(2), f"{authors.DECODER}.lm_head.weight"
  words = state[f"{authors.DECODER}.transformer.wte.weight"]
  same, other = (state | {twin: words + delta} for delta in (0, 1))
  assert twin not in convert.dropped(same)
  np.testing.assert_array_equal(convert.dropped(other)[twin], words + 1)
  _, variables = convert.priorrg(other, **goldens.HEADS)
  back = convert.to_priorrg(variables, convert.dropped(other))
  np.testing.assert_array_equal(back[twin], words + 1)


@pytest.mark.parametrize("key", ["text_encoder.pooler.weight", "layer_norm.gamma", "x"])
def test_an_unknown_key_is_named(key):
  state = goldens.state(1) | {key: np.zeros(3)}
  with pytest.raises(ValueError, match=re.escape(repr(key))):
    convert.priorrg(state, **goldens.HEADS)


@pytest.mark.parametrize("wrong", ["module.logit_scale", "logit_scale.0"])
def test_a_key_is_matched_as_a_whole(wrong):
  state = goldens.state(1) | {wrong: np.zeros(())}
  with pytest.raises(ValueError, match=f"Unknown key '{wrong}'"):
    convert.priorrg(state, **goldens.HEADS)


@pytest.mark.parametrize(
  "key",
  [
    "logit_scale",
    "perceiver.layers.1.2.0.0.fn.to_kv.weight",
    "image_projection.head.1.running_var",
    "text_encoder.bert.encoder.layer.0.output.dense.bias",
  ],
)
def test_a_missing_key_is_named(key):
  state = {k: v for k, v in goldens.state(1).items() if k != key}
  with pytest.raises(ValueError, match=f"lacks '{re.escape(key)}'"):
    convert.priorrg(state, **goldens.HEADS)


def test_a_missing_layer_is_named():
  gone = "image_encoder.encoder.layer.3."
  state = {k: v for k, v in goldens.state(2).items() if not k.startswith(gone)}
  with pytest.raises(ValueError, match=rf"lacks '{re.escape(gone)}.* \(and 17 more\)"):
    convert.priorrg(state, **goldens.HEADS)


@pytest.mark.parametrize(
  ("key", "shape"),
  [
    ("layer_norm.weight", (31,)),
    ("temporal_fusion.layers.1.0.fc_k.weight", (64, 31)),
    ("perceiver.layers.0.0.fn.to_kv.weight", (1023, 32)),
    ("text_encoder.bert.embeddings.LayerNorm.bias", ()),
    ("image_encoder.embeddings.position_embeddings", (1, 19, 48)),
  ],
)
def test_a_mis_shaped_key_is_named(key, shape):
  state = goldens.state(1) | {key: np.zeros(shape, np.float32)}
  with pytest.raises(ValueError, match=re.escape(repr(key))):
    convert.priorrg(state, **goldens.HEADS)


def test_a_wrong_head_count_says_so():
  with pytest.raises(ValueError, match="are the head counts right"):
    convert.priorrg(goldens.state(1), **(goldens.HEADS | {"image_heads": 7}))
  with pytest.raises(ValueError, match="Unknown head count 'heads'"):
    convert.priorrg(goldens.state(1), heads=4)


@pytest.mark.parametrize("pattern", authors.DROPPED)
def test_what_is_dropped_exists(pattern):
  """Buffers of older releases aside."""
  dropped = [k for k in published.state(2) if re.fullmatch(pattern, k)]
  assert dropped or "position_ids" in pattern or "masked_bias" in pattern


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
