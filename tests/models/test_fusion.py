import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg.models.fusion import LastLayer, LayerFusion, LayerMean, TemporalFusion


def test_temporal_fusion_starts_as_nearly_the_identity_of_the_perceptrons():
  """With attention weights of .001 the prior hardly speaks before training."""
  model = TemporalFusion(num_layers=2, num_heads=2, head_dim=4, width=8, mlp_dim=8)
  x, prior = jax.random.normal(jax.random.key(0), (2, 2, 5, 8))
  variables = jax.jit(model.init)(jax.random.key(1), x, prior)
  apply = jax.jit(model.apply)
  moved = jnp.abs(apply(variables, x, prior) - apply(variables, x, prior + 3 * x))
  assert 0 < float(moved.max()) < 1e-4


@pytest.fixture(scope="module")
def temporal():
  model = TemporalFusion(num_layers=2, num_heads=2, head_dim=4, width=8, mlp_dim=8)
  x, prior = jax.random.normal(jax.random.key(0), (2, 2, 5, 8))
  variables = jax.jit(model.init)(jax.random.key(1), x, prior)
  variables = jax.tree.map(lambda v: v * 300 if v.ndim == 3 else v, variables)
  return jax.jit(lambda x, prior: model.apply(variables, x, prior)), x, prior


def test_the_prior_is_a_set_of_tokens(temporal):
  apply, x, prior = temporal
  out = apply(x, prior)
  np.testing.assert_allclose(apply(x, prior[:, ::-1]), out, rtol=1e-5, atol=1e-5)
  assert not np.allclose(apply(x, prior + x), out, atol=1e-3)


def test_tokens_of_the_current_image_do_not_read_one_another(temporal):
  apply, x, prior = temporal
  changed = apply(x.at[:, 0].add(1.0), prior)
  np.testing.assert_allclose(changed[:, 1:], apply(x, prior)[:, 1:], rtol=1e-6)


def test_layer_fusion_by_hand():
  """Against the text of spec priorrg 4.1, written in numpy."""
  rng = np.random.default_rng(0)
  b, layers, s, d = 2, 8, 5, 6
  h = rng.normal(size=(b, layers, s, d))
  p = {
    "channel_gate": {
      "wi": {"kernel": rng.normal(size=(8, 2))},
      "wo": {"kernel": rng.normal(size=(2, 8))},
    },
    "spatial_gate": {"spatial": {"kernel": rng.normal(size=(7, 7, 2, 1))}},
    "wi": {"kernel": rng.normal(size=(8, 4)), "bias": rng.normal(size=4)},
    "batch_norm": {"scale": rng.normal(size=4), "bias": rng.normal(size=4)},
    "wo": {"kernel": rng.normal(size=(4, 1)), "bias": rng.normal(size=1)},
  }
  stats = {"batch_norm": {"mean": rng.normal(size=4), "var": rng.uniform(1, 2, 4)}}
  sigmoid = lambda x: 1 / (1 + np.exp(-x))

  gate = p["channel_gate"]
  mlp = lambda x: np.maximum(x @ gate["wi"]["kernel"], 0) @ gate["wo"]["kernel"]
  channel = sigmoid(mlp(h.mean((2, 3))) + mlp(h.max((2, 3))))[:, :, None, None]
  y = h * channel
  planes = np.pad(np.stack([y.max(1), y.mean(1)], -1), ((0, 0), (3, 3), (3, 3), (0, 0)))
  kernel = p["spatial_gate"]["spatial"]["kernel"][..., 0]
  spatial = np.zeros((b, s, d))
  for i in range(s):
    for j in range(d):
      window = planes[:, i : i + 7, j : j + 7]
      spatial[:, i, j] = np.einsum("bijc,ijc->b", window, kernel)
  y = y * sigmoid(spatial)[:, None] + h
  to_maps = lambda y, q: (
    np.einsum("blsd,lm->bmsd", y, q["kernel"]) + q["bias"][:, None, None]
  )
  y = to_maps(y, p["wi"])
  spread = lambda v: v[:, None, None]
  norm, running = p["batch_norm"], stats["batch_norm"]
  y = (y - spread(running["mean"])) / np.sqrt(spread(running["var"]) + 1e-5)
  y = np.maximum(y * spread(norm["scale"]) + spread(norm["bias"]), 0)
  expected = to_maps(y, p["wo"])[:, 0]

  as_jax = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)
  variables = {"params": as_jax(p), "batch_stats": as_jax(stats)}
  out = LayerFusion().apply(variables, as_jax(h))
  np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_too_few_layers_are_refused():
  with pytest.raises(ValueError, match="at least 4 encoder layers, not 3"):
    LayerFusion().init(jax.random.key(0), jnp.zeros((1, 3, 4, 4)))


@pytest.mark.parametrize(
  ("module", "expected"), [(LastLayer(), [5.0, 1.0]), (LayerMean(), [3.0, 2.0])]
)
def test_what_stands_in_for_a_fusion_has_no_parameters(module, expected):
  """And is content with few layers."""
  hidden_states = jnp.array([[1.0, 2.0], [3.0, 3.0], [5.0, 1.0]])[None, :, None]
  out, variables = module.init_with_output(
    jax.random.key(0), hidden_states, jnp.array([True]), train=True
  )
  assert not variables
  np.testing.assert_allclose(out, [[expected]])
