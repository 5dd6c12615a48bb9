"""The clinical history: a table of tokens, and a transformer that reads them."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrg.models.layers import Dropout, Dtype
from jaxrg.models.post_norm import PostNormLayer


def token_table(
  vocab_size: int, width: int, init_std: float = 1.0, dtype: Dtype = jnp.float32
) -> nn.Embed:
  """The vectors of tokens, which history and node names share (spec eir 4.5)."""
  return nn.Embed(
    vocab_size, width, embedding_init=nn.initializers.normal(init_std), dtype=dtype
  )


class HistoryEncoder(nn.Module):
  """What each token of a text means in it; padding is hidden as a key.

  Takes the tokens' vectors, since their table is shared (spec eir 3.4). Raises
  ValueError for a text of more tokens than there are positions.
  """

  num_layers: int
  num_heads: int
  width: int
  mlp_dim: int
  max_length: int
  dropout_rate: float = 0.1
  embed_init_std: float = 1.0
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    words: Float[Array, "b t d"],
    mask: Bool[Array, "b t"],
    *,
    train: bool = False,
  ) -> Float[Array, "b t d"]:
    length = words.shape[1]
    if length > self.max_length:
      raise ValueError(
        f"A text of {length} tokens is longer than its encoder's "
        f"max_length={self.max_length}."
      )
    normal = nn.initializers.normal(self.embed_init_std)
    positions = self.param("positions", normal, (self.max_length, self.width))
    x = words + positions[:length].astype(words.dtype)
    x = Dropout(self.dropout_rate)(x, deterministic=not train)
    for i in range(self.num_layers):
      x = PostNormLayer(
        self.width,
        self.num_heads,
        self.mlp_dim,
        self.dropout_rate,
        self.dtype,
        name=f"layer_{i}",
      )(x, mask[:, None, None, :], train=train)
    return x
