import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg.models.history import HistoryEncoder, token_table
from jaxrg.models.layers import Dropout

ROWS, LENGTH, WIDTH, HEADS, HIDDEN = 3, 7, 16, 8, 24


@pytest.fixture(scope="module")
def encoder():
  return HistoryEncoder(1, HEADS, WIDTH, HIDDEN, max_length=9, dropout_rate=0.1)


@pytest.fixture(scope="module")
def variables(encoder, words, mask):
  return jax.jit(encoder.init)(jax.random.key(0), words, mask)


@pytest.fixture(scope="module")
def words():
  return jax.random.normal(jax.random.key(1), (ROWS, LENGTH, WIDTH))


@pytest.fixture(scope="module")
def mask():
  return jnp.arange(LENGTH) < jnp.array([[7], [4], [2]])


@pytest.fixture(scope="module")
def apply(encoder, variables):
  return jax.jit(lambda words, mask: encoder.apply(variables, words, mask))


def torch_layer(torch, params):
  """PyTorch's post-norm layer with these parameters."""
  as_torch = lambda x: torch.tensor(np.asarray(x))
  layer = torch.nn.TransformerEncoderLayer(
    WIDTH, HEADS, HIDDEN, dropout=0.0, activation="relu", batch_first=True
  )
  attention, mlp = params["attention"], params["mlp"]
  heads = [attention[name] for name in ("query", "key", "value")]
  flat = lambda x: as_torch(x.reshape(-1))
  state = {
    "self_attn.in_proj_weight": torch.cat(
      [as_torch(p["kernel"].reshape(WIDTH, WIDTH).T) for p in heads]
    ),
    "self_attn.in_proj_bias": torch.cat([flat(p["bias"]) for p in heads]),
    "self_attn.out_proj.weight": as_torch(
      attention["out"]["kernel"].reshape(WIDTH, WIDTH).T
    ),
    "self_attn.out_proj.bias": as_torch(attention["out"]["bias"]),
    "linear1.weight": as_torch(mlp["wi"]["kernel"].T),
    "linear1.bias": as_torch(mlp["wi"]["bias"]),
    "linear2.weight": as_torch(mlp["wo"]["kernel"].T),
    "linear2.bias": as_torch(mlp["wo"]["bias"]),
  }
  for i in (1, 2):
    state[f"norm{i}.weight"] = as_torch(params[f"norm_{i}"]["scale"])
    state[f"norm{i}.bias"] = as_torch(params[f"norm_{i}"]["bias"])
  layer.load_state_dict(state)
  return layer


def test_it_is_the_post_norm_layer_of_pytorch(encoder, variables, words, mask):
  torch = pytest.importorskip("torch")
  key = jax.random.key(2)
  # Biases and scales that are neither 0 nor 1, too.
  params = jax.tree.map(
    lambda x: x + 0.1 * jax.random.normal(key, x.shape), variables["params"]
  )
  ours = encoder.apply({"params": params}, words, mask)
  layer = torch_layer(torch, params["layer_0"])
  x = torch.tensor(np.asarray(words + params["positions"][:LENGTH]))
  with torch.no_grad():
    theirs = layer(x, src_key_padding_mask=torch.tensor(~np.asarray(mask)))
  real = np.asarray(mask)
  np.testing.assert_allclose(ours[real], theirs.numpy()[real], rtol=1e-5, atol=1e-5)


def test_padding_is_not_read(apply, words, mask):
  """Spec eir 12, 5: of the history."""
  out = apply(words, mask)
  other = apply(jnp.where(mask[..., None], words, 9.0), mask)
  np.testing.assert_array_equal(out[mask], other[mask])
  shorter = apply(words[2:, :2], mask[2:, :2])
  np.testing.assert_allclose(out[2, :2], shorter[0], rtol=1e-5, atol=1e-6)


def test_an_empty_history_is_finite_and_so_is_its_gradient(encoder, variables, words):
  """Spec eir 12, 6: a history of which nothing is real."""
  mask = jnp.zeros((ROWS, LENGTH), bool)
  total = lambda v, words: jnp.square(encoder.apply(v, words, mask)).sum()
  gradients = jax.jit(jax.grad(total, (0, 1)))(variables, words)
  for x in jax.tree.leaves((total(variables, words), gradients)):
    assert jnp.isfinite(x).all()


def test_a_text_has_an_order(apply, words, mask):
  same = jnp.broadcast_to(words[:, :1], words.shape)
  out = apply(same, mask)
  assert not np.allclose(out[0, 0], out[0, 1], atol=1e-2)


def test_dropout_acts_in_training_only(encoder, variables, apply, words, mask):
  """On the input, the attention weights and the hidden layer; not on branches."""
  out = lambda key: encoder.apply(
    variables, words, mask, train=True, rngs={"dropout": jax.random.key(key)}
  )
  assert not np.allclose(out(0), out(1))
  assert not np.allclose(out(0), apply(words, mask))
  layers = []

  def record(next_fun, args, kwargs, context):
    if isinstance(context.module, Dropout):
      layers.append("/".join(context.module.path[:-1]))
    return next_fun(*args, **kwargs)

  with nn.intercept_methods(record):
    out(0)
  assert sorted(layers) == ["", "layer_0/attention", "layer_0/mlp"]


def test_a_text_of_too_many_tokens_is_named(encoder, variables):
  words = jnp.zeros((1, 10, WIDTH))
  with pytest.raises(ValueError, match=r"text of 10 tokens .*max_length=9"):
    encoder.apply(variables, words, jnp.ones((1, 10), bool))


def test_tables_start_as_wide_as_they_are_told_to(encoder, words, mask):
  """PyTorch's tables have a standard deviation of 1, flax's of 1 / sqrt(width)."""
  spread = lambda table: float(table.std())
  for std in (1.0, 0.02):
    table = token_table(400, WIDTH, std)
    params = table.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    assert spread(params["embedding"]) == pytest.approx(std, rel=0.05)
    wide = encoder.clone(max_length=400, embed_init_std=std)
    params = wide.init(jax.random.key(0), words, mask)["params"]
    assert spread(params["positions"]) == pytest.approx(std, rel=0.05)


def test_its_size_is_the_published_one():
  encoder, table = HistoryEncoder(1, 8, 256, 256, 1000), token_table(1000, 256)
  tokens = jnp.zeros((1, 8), jnp.int32)

  def init(key):
    words, tables = table.init_with_output(key, tokens)
    return tables, encoder.init(key, words, tokens == 0)

  shapes = jax.eval_shape(init, jax.random.key(0))
  assert sum(x.size for x in jax.tree.leaves(shapes)) == 907_776
