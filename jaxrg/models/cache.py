"""What decoding keeps, so that a token costs one token."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int


@struct.dataclass
class Cache:
  """Keys and values of the tokens so far, and of a memory.

  The memory is stored once a study, however many hypotheses read it.
  """

  keys: Float[Array, "layers b n t h k"]
  values: Float[Array, "layers b n t h k"]
  memory_keys: Float[Array, "layers b s h k"]
  memory_values: Float[Array, "layers b s h k"]
  length: Int[Array, ""]  # Tokens so far.

  @classmethod
  def start(
    cls,
    memory: list[tuple[Float[Array, "b s h k"], Float[Array, "b s h k"]]],
    num_hypotheses: int,
    max_length: int,
    **others,
  ) -> "Cache":
    """An empty cache for `max_length` tokens, given each layer's memory."""
    memory_keys, memory_values = (jnp.stack(z) for z in zip(*memory))
    layers, b, _, *head = memory_keys.shape
    shape = (layers, b, num_hypotheses, max_length, *head)
    empty = jnp.zeros(shape, memory_keys.dtype)
    length = jnp.zeros((), jnp.int32)
    return cls(empty, empty, memory_keys, memory_values, length, **others)

  def add(
    self, layer: int, key: Float[Array, "b n h k"], value: Float[Array, "b n h k"]
  ) -> tuple[Float[Array, "b n t h k"], Float[Array, "b n t h k"]]:
    """A layer's keys and values with those of the next token."""
    put = lambda kept, new: jax.lax.dynamic_update_index_in_dim(
      kept[layer], new, self.length, axis=2
    )
    return put(self.keys, key), put(self.values, value)

  def reorder(self, parents: Int[Array, "b n"]) -> "Cache":
    """The cache in which hypothesis i of a study continues hypothesis parents[i]."""
    index = parents[None, :, :, None, None, None]
    take = lambda x: jnp.take_along_axis(x, index, axis=2)
    return self.replace(keys=take(self.keys), values=take(self.values))
