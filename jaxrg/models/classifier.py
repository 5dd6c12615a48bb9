"""Which state each topic is in: present or not, or one of four."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrg.models.layers import Dtype, torch_linear, widen


class StateClassifier(nn.Module):
  """Log-probabilities of states: how a topic's attention over them is spread.

  With several heads the probability is the mean of theirs (spec eir 6.2). The
  published layer also has values and an output map, which nothing reads: they are not
  here, nor their parameters.
  """

  num_states: int
  width: int
  num_heads: int = 1
  init_std: float = 1.0  # Of the states.
  dtype: Dtype = jnp.float32

  def setup(self):
    normal = nn.initializers.normal(self.init_std)
    self.states = self.param("states", normal, (self.num_states, self.width))
    self.query, self.key = (
      nn.DenseGeneral(
        (self.num_heads, self.width // self.num_heads),
        dtype=self.dtype,
        kernel_init=torch_linear(),
      )
      for _ in range(2)
    )

  def embed(self, states: Int[Array, "b n"]) -> Float[Array, "b n d"]:
    """The vectors of states."""
    return self.states[states].astype(self.dtype)

  def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n k"]:
    query, key = self.query(x), self.key(self.states.astype(self.dtype))
    query = query * query.shape[-1] ** -0.5
    logits = widen(jnp.einsum("bnhd,khd->hbnk", query, key))
    by_head = nn.log_softmax(logits)
    return jax.nn.logsumexp(by_head, axis=0) - jnp.log(self.num_heads)
