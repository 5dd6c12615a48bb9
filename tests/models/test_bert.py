import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg.models.bert import Bert


@pytest.fixture(scope="module")
def bert():
  model = Bert(11, num_layers=1, num_heads=2, width=8, mlp_dim=16, max_length=6)
  tokens = jnp.array([[1, 2, 3, 9, 9], [4, 5, 6, 7, 8]], jnp.int32)
  mask = tokens != 9
  variables = jax.jit(model.init)(jax.random.key(0), tokens, mask)
  return jax.jit(model.apply), variables, tokens, mask


def test_padding_is_hidden_and_texts_do_not_see_one_another(bert):
  apply, variables, tokens, mask = bert
  out = apply(variables, tokens, mask)
  other = apply(variables, tokens.at[0, 3:].set(2).at[1].set(1), mask)
  np.testing.assert_array_equal(out[0, :3], other[0, :3])
  short = apply(variables, tokens[:, :3], mask[:, :3])
  np.testing.assert_allclose(out[0, :3], short[0], rtol=1e-5, atol=1e-6)


def test_every_token_sees_every_other(bert):
  apply, variables, tokens, mask = bert
  changed = apply(variables, tokens.at[1, 4].set(1), mask)
  moved = jnp.abs(changed - apply(variables, tokens, mask)).max(axis=-1)
  assert (moved[1] > 0).all()
  assert (moved[0] == 0).all()


def test_the_embedding_of_padding_is_not_learned_even_where_padding_is_read(bert):
  apply, variables, tokens, mask = bert
  total = lambda v: jnp.square(apply(v, tokens, mask) - 1).sum()
  gradient = jax.jit(jax.grad(total))(variables)
  rows = jnp.abs(gradient["params"]["tokens"]["embedding"]).max(axis=-1)
  assert rows[9] == 0
  assert (rows[1:9] > 0).all()
