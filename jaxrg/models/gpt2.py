"""GPT-2 decoder that reads a memory of encoded findings."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrg.models.cache import Cache
from jaxrg.models.layers import Attention, Dropout, Dtype, Mlp, layer_norm, widen
from jaxrg.sharding import constrain


class GPT2Block(nn.Module):
  """Pre-norm block: self-attention, cross-attention, perceptron."""

  width: int
  num_heads: int
  num_layers: int  # Of the whole decoder; sets the scale of the residual weights.
  dropout_rate: float
  init_std: float
  dtype: Dtype = jnp.float32

  def setup(self):
    normal = nn.initializers.normal(self.init_std)
    residual = nn.initializers.normal(self.init_std / (2 * self.num_layers) ** 0.5)

    def attention():
      return Attention(
        self.width,
        self.num_heads,
        self.width // self.num_heads,
        dropout_rate=self.dropout_rate,
        dtype=self.dtype,
        kernel_init=normal,
        out_init=residual,
      )

    self.self_attention, self.cross_attention = attention(), attention()
    self.mlp = Mlp(
      self.width, 4 * self.width, nn.gelu, self.dtype, normal, out_init=residual
    )
    self.norm_1, self.norm_2, self.norm_3 = (
      layer_norm(dtype=self.dtype) for _ in range(3)
    )
    self.dropout = Dropout(self.dropout_rate)

  def __call__(
    self,
    x: Float[Array, "b t d"],
    memory: Float[Array, "b s c"],
    *,
    mask: Bool[Array, "b #h t t"],
    memory_mask: Bool[Array, "b s"] | None = None,
    train: bool = False,
  ) -> Float[Array, "b t d"]:
    dropout = lambda y: self.dropout(y, deterministic=not train)
    cross = None if memory_mask is None else memory_mask[:, None, None, :]
    x = x + dropout(self.self_attention(self.norm_1(x), mask=mask, train=train))
    x = x + dropout(
      self.cross_attention(self.norm_2(x), memory, mask=cross, train=train)
    )
    x = x + dropout(self.mlp(self.norm_3(x)))
    return constrain(x, "batch", "length", "embed")

  def step(
    self, x: Float[Array, "b n d"], cache: Cache, layer: int
  ) -> tuple[Float[Array, "b n d"], tuple[Array, Array]]:
    """One token of each hypothesis; the layer's keys and values with it added."""
    y = self.norm_1(x)
    keys, values = cache.add(layer, *self.self_attention.keys_values(y))
    b, n, length = keys.shape[:3]
    flat = lambda z: z.reshape(b * n, *z.shape[2:])
    mask = (jnp.arange(length) <= cache.length)[None, None, None, :]
    y = self.self_attention.read(flat(y)[:, None], flat(keys), flat(values), mask=mask)
    x = x + y.reshape(x.shape)
    # The hypotheses of a study are so many queries to one memory.
    memory = cache.memory_keys[layer], cache.memory_values[layer]
    x = x + self.cross_attention.read(self.norm_2(x), *memory)
    return x + self.mlp(self.norm_3(x)), (keys, values)


class GPT2(nn.Module):
  """Next-token logits for `tokens`, given a `memory` (spec priorrg 4.2)."""

  vocab_size: int
  num_layers: int
  num_heads: int
  width: int
  max_length: int  # Positions that exist; more than any report needs.
  dropout_rate: float = 0.1
  init_std: float = 0.02
  dtype: Dtype = jnp.float32

  def setup(self):
    normal = nn.initializers.normal(self.init_std)
    self.tokens = nn.Embed(
      self.vocab_size, self.width, embedding_init=normal, dtype=self.dtype
    )
    self.positions = self.param("positions", normal, (self.max_length, self.width))
    self.layers = [
      GPT2Block(
        self.width,
        self.num_heads,
        self.num_layers,
        self.dropout_rate,
        self.init_std,
        self.dtype,
        name=f"layer_{i}",
      )
      for i in range(self.num_layers)
    ]
    self.norm = layer_norm(dtype=self.dtype)
    self.dropout = Dropout(self.dropout_rate)

  def logits(self, x: Float[Array, "b t d"]) -> Float[Array, "b t v"]:
    """The output matrix is the token table."""
    logits = widen(self.tokens.attend(self.norm(x)))
    return constrain(logits, "batch", "length", "vocab")

  def __call__(
    self,
    tokens: Int[Array, "b t"],
    mask: Bool[Array, "b t"],
    memory: Float[Array, "b s c"],
    *,
    memory_mask: Bool[Array, "b s"] | None = None,
    train: bool = False,
  ) -> Float[Array, "b t v"]:
    positions = self.positions[: tokens.shape[1]]
    x = self.tokens(tokens) + positions.astype(self.dtype)
    x = self.dropout(x, deterministic=not train)
    causal = nn.make_causal_mask(tokens, dtype=bool) & mask[:, None, None, :]
    for layer in self.layers:
      x = layer(x, memory, mask=causal, memory_mask=memory_mask, train=train)
    return self.logits(x)

  def start(
    self, memory: Float[Array, "b s c"], num_hypotheses: int, max_length: int
  ) -> Cache:
    """An empty cache for `max_length` tokens of each hypothesis."""
    if max_length > self.max_length:
      raise ValueError(
        f"Reports of {max_length} tokens, but the decoder has {self.max_length} "
        "positions; lower max_length."
      )
    kv = [layer.cross_attention.keys_values(memory) for layer in self.layers]
    return Cache.start(kv, num_hypotheses, max_length)

  def step(
    self, tokens: Int[Array, "b n"], cache: Cache
  ) -> tuple[Float[Array, "b n v"], Cache]:
    """Logits after one more token of each hypothesis."""
    position = self.positions[cache.length].astype(self.dtype)
    x = self.tokens(tokens) + position
    added = []
    for i, layer in enumerate(self.layers):
      x, kv = layer.step(x, cache, i)
      added.append(kv)
    keys, values = (jnp.stack(z) for z in zip(*added))
    return self.logits(x), cache.replace(
      keys=keys, values=values, length=cache.length + 1
    )
