"""Which state each topic is in: present or not, or one of four."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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

  @nn.compact
  def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n k"]:
    normal = nn.initializers.normal(self.init_std)
    states = self.param("states", normal, (self.num_states, self.width))
    head_dim = self.width // self.num_heads
    heads = lambda name: nn.DenseGeneral(
      (self.num_heads, head_dim),
      dtype=self.dtype,
      kernel_init=torch_linear(),
      name=name,
    )
    query, key = heads("query")(x), heads("key")(states)
    logits = widen(jnp.einsum("bnhd,khd->hbnk", query * head_dim**-0.5, key))
    by_head = nn.log_softmax(logits)
    return jax.nn.logsumexp(by_head, axis=0) - jnp.log(self.num_heads)
