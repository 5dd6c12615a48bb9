import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg.models.heads import LinearHead, MlpHead


@pytest.mark.parametrize("head", [MlpHead(3), LinearHead(3)])
def test_a_head_is_what_its_formula_says(head):
  x = jax.random.normal(jax.random.key(0), (4, 6))
  variables = jax.jit(head.init)(jax.random.key(1), x)
  layers = variables["params"]
  for layer in layers.values():
    layer["bias"] += 0.3
  expected = np.asarray(x)
  if isinstance(head, MlpHead):
    wi = layers["wi"]
    assert wi["kernel"].shape == (6, 6)
    expected = np.maximum(expected @ wi["kernel"] + wi["bias"], 0)
  expected = expected @ layers["wo"]["kernel"] + layers["wo"]["bias"]
  out = jax.jit(head.apply)(variables, x)
  np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
  # Not yet of length one: that is the contrast's affair.
  assert not np.allclose(jnp.linalg.norm(out, axis=-1), 1.0, atol=0.1)


@pytest.mark.parametrize(
  ("head", "size"), [(MlpHead(128), 4_458_624), (LinearHead(128), 2048 * 128 + 128)]
)
def test_their_sizes_are_those_of_the_specification(head, size):
  """Spec eir 2.2."""
  shapes = jax.eval_shape(head.init, jax.random.key(0), jnp.zeros((1, 2048)))
  assert sum(x.size for x in jax.tree.leaves(shapes)) == size
