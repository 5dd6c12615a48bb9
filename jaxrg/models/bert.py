"""Bidirectional text encoder (BERT)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrg.models.layers import Attention, Dropout, Dtype, Mlp, layer_norm
from jaxrg.sharding import constrain


class BertBlock(nn.Module):
  """Post-norm transformer block."""

  width: int
  num_heads: int
  mlp_dim: int
  dropout_rate: float
  init_std: float
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b s d"],
    mask: Bool[Array, "b #h #t s"],
    *,
    train: bool = False,
  ) -> Float[Array, "b s d"]:
    normal = nn.initializers.normal(self.init_std)
    dropout = lambda y: Dropout(self.dropout_rate)(y, deterministic=not train)
    attention = Attention(
      self.width,
      self.num_heads,
      self.width // self.num_heads,
      dropout_rate=self.dropout_rate,
      dtype=self.dtype,
      kernel_init=normal,
      name="attention",
    )
    mlp = Mlp(
      self.width, self.mlp_dim, dtype=self.dtype, kernel_init=normal, name="mlp"
    )
    x = x + dropout(attention(x, mask=mask, train=train))
    x = layer_norm(1e-12, self.dtype, "norm_1")(x)
    x = x + dropout(mlp(x))
    x = layer_norm(1e-12, self.dtype, "norm_2")(x)
    return constrain(x, "batch", "length", "embed")


class Bert(nn.Module):
  """Last hidden state of `tokens`; padding is hidden as a key (spec priorrg 2.2)."""

  vocab_size: int
  num_layers: int
  num_heads: int
  width: int
  mlp_dim: int
  max_length: int
  dropout_rate: float = 0.0
  init_std: float = 0.02
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: Int[Array, "b s"], mask: Bool[Array, "b s"], *, train: bool = False
  ) -> Float[Array, "b s d"]:
    normal = nn.initializers.normal(self.init_std)
    x = nn.Embed(
      self.vocab_size,
      self.width,
      embedding_init=normal,
      dtype=self.dtype,
      name="tokens",
    )(tokens)
    # The padding's embedding is not learned, not even where padding is read.
    x = jnp.where(mask[..., None], x, jax.lax.stop_gradient(x))
    shape = (self.max_length, self.width)
    positions = self.param("positions", normal, shape)[: tokens.shape[1]]
    # Two token types exist in the published weights; only the first is used.
    types = self.param("types", normal, (2, self.width))
    x = x + (positions + types[0]).astype(x.dtype)
    x = layer_norm(1e-12, self.dtype, "norm")(x)
    x = Dropout(self.dropout_rate)(x, deterministic=not train)
    for i in range(self.num_layers):
      x = BertBlock(
        self.width,
        self.num_heads,
        self.mlp_dim,
        self.dropout_rate,
        self.init_std,
        self.dtype,
        name=f"layer_{i}",
      )(x, mask[:, None, None, :], train=train)
    return x
