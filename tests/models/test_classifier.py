import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg.models.classifier import StateClassifier

ROWS, TOPICS, WIDTH = 3, 5, 16


def made(num_states, num_heads):
  module = StateClassifier(num_states, WIDTH, num_heads)
  x = 3 * jax.random.normal(jax.random.key(0), (ROWS, TOPICS, WIDTH))
  variables = jax.jit(module.init)(jax.random.key(1), x)
  noise = lambda x: x + 0.1 * jax.random.normal(jax.random.key(2), x.shape)
  return module, jax.tree.map(noise, variables), x


def by_hand(params, x, num_heads):
  """The probabilities, in numpy: the mean of a softmax a head."""
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  flat = lambda name: p[name]["kernel"].reshape(WIDTH, WIDTH)
  query = np.asarray(x, np.float64) @ flat("query") + p["query"]["bias"].reshape(-1)
  key = p["states"] @ flat("key") + p["key"]["bias"].reshape(-1)
  size, total = WIDTH // num_heads, 0.0
  for head in range(num_heads):
    own = slice(head * size, (head + 1) * size)
    weights = np.exp(query[..., own] @ key[:, own].T / np.sqrt(size))
    total = total + weights / weights.sum(axis=-1, keepdims=True)
  return total / num_heads


@pytest.mark.parametrize(("num_states", "num_heads"), [(2, 1), (2, 8), (4, 8)])
def test_it_gives_the_logarithm_of_attention_weights(num_states, num_heads):
  """Spec eir 12, 10: they sum to one, and cross-entropy is -log p."""
  module, variables, x = made(num_states, num_heads)
  log_p = jax.jit(module.apply)(variables, x)
  assert log_p.shape == (ROWS, TOPICS, num_states)
  np.testing.assert_allclose(jnp.exp(log_p).sum(axis=-1), 1.0, rtol=1e-5)
  p = by_hand(variables["params"], x, num_heads)
  np.testing.assert_allclose(jnp.exp(log_p), p, rtol=1e-4, atol=1e-6)
  states = np.random.default_rng(0).integers(0, num_states, (ROWS, TOPICS))
  one_hot = jax.nn.one_hot(states, num_states)
  expected = -np.log(np.take_along_axis(p, states[..., None], axis=-1)).mean()
  assert float(-(log_p * one_hot).sum(axis=-1).mean()) == pytest.approx(
    expected, rel=1e-5
  )


@pytest.mark.parametrize("num_heads", [1, 8])
def test_an_improbable_state_has_a_finite_logarithm_and_gradient(num_heads):
  module, variables, x = made(2, num_heads)
  p = variables["params"]
  key = jnp.einsum("kc,chd->khd", p["states"], p["key"]["kernel"])
  # Every head is sure of the first state, for every topic.
  p["query"]["bias"] = 1e4 * (key[0] - key[1])
  total = lambda v: module.apply(v, x)[..., 1].mean()
  value, gradients = jax.jit(jax.value_and_grad(total))(variables)
  assert -jnp.inf < value < -1000
  for gradient in jax.tree.leaves(gradients):
    assert jnp.isfinite(gradient).all()


def test_probabilities_are_of_float32_in_any_precision():
  module, variables, x = made(2, 1)
  log_p = jax.jit(module.clone(dtype=jnp.bfloat16).apply)(variables, x)
  assert log_p.dtype == jnp.float32
  np.testing.assert_allclose(jnp.exp(log_p).sum(axis=-1), 1.0, rtol=1e-5)


def test_it_has_no_parameters_that_nothing_reads():
  """Of the specification's 512 + 263,680, 132,096 are of the unused value path."""
  shapes = jax.eval_shape(
    StateClassifier(2, 256).init, jax.random.key(0), jnp.zeros((1, 114, 256))
  )
  assert sum(x.size for x in jax.tree.leaves(shapes)) == 512 + 263_680 - 132_096
  module, variables, x = made(2, 1)
  total = lambda v: jnp.square(module.apply(v, x)).sum()
  gradients = jax.jit(jax.grad(total))(variables)["params"]
  # The bias of the keys shifts all logits of a topic alike.
  del gradients["key"]["bias"]
  for gradient in jax.tree.leaves(gradients):
    assert jnp.abs(gradient).max() > 1e-3
