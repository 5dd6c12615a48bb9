"""The report's decoder: its words see the enriched topics and one another.

A topic sees itself alone, whatever the report says, so the topics' keys and values
are computed once a study.
"""

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from jaxrg.models.cache import Cache
from jaxrg.models.layers import Attention, Dtype, layer_norm, widen
from jaxrg.models.post_norm import PostNormLayer
from jaxrg.sharding import constrain


@struct.dataclass
class PrefixCache(Cache):
  """Of the words of the vocabulary, what a report's are compared with."""

  words: Float[Array, "v d"]


class PrefixGenerator(nn.Module):
  """Next-word logits of a report whose prefix are topics (spec eir 6.3).

  Words come as vectors, since their `table` (v d) is shared. The output is attention
  over that table: its weights are the word's probabilities.
  """

  num_layers: int
  num_heads: int
  width: int
  mlp_dim: int
  max_length: int
  dropout_rate: float = 0.1
  embed_init_std: float = 1.0
  dtype: Dtype = jnp.float32

  def setup(self):
    normal = nn.initializers.normal(self.embed_init_std)
    self.positions = self.param("positions", normal, (self.max_length, self.width))
    self.layers = [
      PostNormLayer(
        self.width,
        self.num_heads,
        self.mlp_dim,
        self.dropout_rate,
        self.dtype,
        name=f"layer_{i}",
      )
      for i in range(self.num_layers)
    ]
    self.output = Attention(self.width, 1, self.width, dtype=self.dtype)
    self.norm = layer_norm(dtype=self.dtype)

  def __call__(
    self,
    words: Float[Array, "b t d"],
    mask: Bool[Array, "b t"],
    topics: Float[Array, "b s d"],
    *,
    train: bool = False,
  ) -> Float[Array, "b t d"]:
    """The hidden states of a report's words."""
    length = words.shape[1]
    x = words + self._positions(length)[:length].astype(words.dtype)
    causal = nn.make_causal_mask(mask, dtype=bool) & mask[:, None, None, :]
    seen = jnp.ones((*causal.shape[:3], topics.shape[1]), bool)
    seen = jnp.concatenate([seen, causal], axis=3)
    for layer, memory in zip(self.layers, self.read_topics(topics, train=train)):
      kv = zip(memory, layer.keys_values(x))
      key, value = (jnp.concatenate(both, axis=1) for both in kv)
      x = layer.read(x, key, value, mask=seen, train=train)
    return x

  def read_topics(
    self, topics: Float[Array, "b s d"], *, train: bool = False
  ) -> list[tuple[Float[Array, "b s h k"], Float[Array, "b s h k"]]]:
    """The keys and values of the topics in each layer."""
    b, s, d = topics.shape
    x, read = topics.astype(self.dtype), []
    for i, layer in enumerate(self.layers):
      read.append(layer.keys_values(x))
      if i + 1 < self.num_layers:
        # So many texts of one word: none sees another.
        x = layer(x.reshape(b * s, 1, d), train=train).reshape(b, s, d)
    return read

  def logits(
    self, x: Float[Array, "b t d"], table: Float[Array, "v d"]
  ) -> Float[Array, "b t v"]:
    """Of the next word, from hidden states; softmax makes them its probabilities."""
    return self._logits(x, self._keys(table))

  def rewrite(
    self,
    x: Float[Array, "b t d"],
    logits: Float[Array, "b t v"],
    table: Float[Array, "v d"],
  ) -> Float[Array, "b t d"]:
    """The expected next word in the space of the hidden states, added to these."""
    value = self.output.value(table.astype(self.dtype))[:, 0]
    read = nn.softmax(logits).astype(self.dtype) @ value
    return self.norm(x + self.output.out(read[:, :, None]))

  def start(
    self,
    topics: Float[Array, "b s d"],
    table: Float[Array, "v d"],
    num_hypotheses: int,
    max_length: int,
  ) -> PrefixCache:
    """An empty cache for `max_length` words of each hypothesis."""
    self._positions(max_length)
    return PrefixCache.start(
      self.read_topics(topics), num_hypotheses, max_length, words=self._keys(table)
    )

  def step(
    self, words: Float[Array, "b n d"], cache: PrefixCache
  ) -> tuple[Float[Array, "b n v"], PrefixCache]:
    """Logits after one more word of each hypothesis."""
    b, n = words.shape[:2]
    flat = lambda z: z.reshape(b * n, *z.shape[2:])
    spread = lambda z: flat(jnp.broadcast_to(z[:, None], (b, n, *z.shape[1:])))
    x = flat(words + self.positions[cache.length].astype(words.dtype))[:, None]
    num_topics, length = cache.memory_keys.shape[2], cache.keys.shape[3]
    place = jnp.arange(num_topics + length) - num_topics
    seen = (place <= cache.length)[None, None, None, :]
    added = []
    for i, layer in enumerate(self.layers):
      new = (z.reshape(b, n, *z.shape[2:]) for z in layer.keys_values(x))
      added.append(cache.add(i, *new))
      memory = cache.memory_keys[i], cache.memory_values[i]
      key, value = (
        jnp.concatenate([spread(first), flat(rest)], axis=1)
        for first, rest in zip(memory, added[-1])
      )
      x = layer.read(x, key, value, mask=seen)
    keys, values = (jnp.stack(z) for z in zip(*added))
    logits = self._logits(x.reshape(b, n, -1), cache.words)
    return logits, cache.replace(keys=keys, values=values, length=cache.length + 1)

  def _positions(self, length: int) -> Float[Array, "t d"]:
    if length > self.max_length:
      raise ValueError(
        f"Reports of {length} tokens are longer than "
        f"config.model.generator.max_length={self.max_length}."
      )
    return self.positions

  def _keys(self, table: Float[Array, "v d"]) -> Float[Array, "v d"]:
    return self.output.key(table.astype(self.dtype))[:, 0]

  def _logits(
    self, x: Float[Array, "b t d"], keys: Float[Array, "v d"]
  ) -> Float[Array, "b t v"]:
    query = self.output.query(x)[:, :, 0] * self.width**-0.5
    return constrain(widen(query @ keys.T), "batch", "length", "vocab")
