"""The report's decoder: its words see the enriched topics and one another.

A topic sees itself alone, whatever the report says, so the topics' keys and values
are computed once a study.
"""

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

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

  The output is attention over the table of words: its weights are the next word's
  probabilities.
  """

  vocab_size: int
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
    self.tokens = nn.Embed(
      self.vocab_size, self.width, embedding_init=normal, dtype=self.dtype
    )
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
    tokens: Int[Array, "b t"],
    mask: Bool[Array, "b t"],
    topics: Float[Array, "b s d"],
    *,
    train: bool = False,
  ) -> Float[Array, "b t d"]:
    """The hidden states of a report's words."""
    self._check(tokens.shape[1])
    positions = self.positions[: tokens.shape[1]]
    x = self.tokens(tokens) + positions.astype(self.dtype)
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

  def logits(self, x: Float[Array, "b t d"]) -> Float[Array, "b t v"]:
    """Of the next word, from hidden states; softmax makes them its probabilities."""
    return self._compare(x, self._words())

  def rewrite(
    self, x: Float[Array, "b t d"], logits: Float[Array, "b t v"]
  ) -> Float[Array, "b t d"]:
    """The expected next word in the space of the hidden states, added to these."""
    value = self.output.value(self.tokens.embedding.astype(self.dtype))[:, 0]
    read = nn.softmax(logits).astype(self.dtype) @ value
    return self.norm(x + self.output.out(read[:, :, None]))

  def start(
    self, topics: Float[Array, "b s d"], num_hypotheses: int, max_length: int
  ) -> PrefixCache:
    """An empty cache for `max_length` words of each hypothesis."""
    self._check(max_length)
    return PrefixCache.start(
      self.read_topics(topics), num_hypotheses, max_length, words=self._words()
    )

  def step(
    self, tokens: Int[Array, "b n"], cache: PrefixCache
  ) -> tuple[Float[Array, "b n v"], PrefixCache]:
    """Logits after one more word of each hypothesis."""
    b, n = tokens.shape
    flat = lambda z: z.reshape(b * n, *z.shape[2:])
    spread = lambda z: flat(jnp.broadcast_to(z[:, None], (b, n, *z.shape[1:])))
    position = self.positions[cache.length].astype(self.dtype)
    x = flat(self.tokens(tokens) + position)[:, None]
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
    logits = self._compare(x.reshape(b, n, -1), cache.words)
    return logits, cache.replace(keys=keys, values=values, length=cache.length + 1)

  def _check(self, length: int) -> None:
    if length > self.max_length:
      raise ValueError(
        f"Reports of {length} tokens are longer than "
        f"config.model.generator.max_length={self.max_length}."
      )

  def _words(self) -> Float[Array, "v d"]:
    """What a hidden state is compared with, of each word of the vocabulary."""
    return self.output.key(self.tokens.embedding.astype(self.dtype))[:, 0]

  def _compare(
    self, x: Float[Array, "b t d"], words: Float[Array, "v d"]
  ) -> Float[Array, "b t v"]:
    query = self.output.query(x)[:, :, 0] * self.width**-0.5
    return constrain(widen(query @ words.T), "batch", "length", "vocab")
