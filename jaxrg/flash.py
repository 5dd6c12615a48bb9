"""Fused attention for TPUs: Pallas' kernel, on every device over what lies there."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import flash_attention as pallas
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

LANES = 128  # Of a TPU's vector registers: lengths are filled up to a multiple.


def attend(
  query: Float[Array, "b t h k"],
  key: Float[Array, "b s h k"],
  value: Float[Array, "b s h k"],
) -> Float[Array, "b t h k"]:
  """Attention without its weights ever in memory, for `layers.long_attention`.

  A compiler that spreads a program over devices cannot look into a kernel, so it is
  said here: by rows and heads, as the axis rules have them.
  """
  spec = nn.logical_to_mesh_axes(("batch", None, "heads", None))
  if jax.sharding.get_abstract_mesh().empty or spec is None:
    return _attend(query, key, value)
  mapped = jax.shard_map(
    _attend, in_specs=(P(*spec),) * 3, out_specs=P(*spec), check_vma=False
  )
  return mapped(query, key, value)


def _attend(query: Array, key: Array, value: Array) -> Array:
  t, s, head_dim = query.shape[1], key.shape[1], query.shape[3]
  query, key, value = map(_rows, (query, key, value))
  hidden = jnp.arange(key.shape[2]) >= s  # What fills up is read by nobody.
  segments = pallas.SegmentIds(
    q=jnp.zeros((len(query), query.shape[2]), jnp.int32),
    kv=jnp.broadcast_to(hidden.astype(jnp.int32), (len(key), key.shape[2])),
  )
  out = pallas.flash_attention(
    query,
    key,
    value,
    segment_ids=segments,
    sm_scale=head_dim**-0.5,
    block_sizes=_blocks(key.shape[2]),
  )
  return out[:, :, :t].swapaxes(1, 2)


def _rows(x: Array) -> Array:
  """b t h k -> b h t k, t filled up to whole lanes."""
  fill = -x.shape[1] % LANES
  return jnp.pad(x.swapaxes(1, 2), ((0, 0), (0, 0), (0, fill), (0, 0)))


@functools.cache
def _blocks(keys: int) -> pallas.BlockSizes:
  """A block of queries against all keys at once: a row of weights fits on the chip."""
  return pallas.BlockSizes(
    block_b=1,
    block_q=LANES,
    block_k_major=keys,
    block_k=keys,
    block_q_major_dkv=LANES,
    block_q_dkv=LANES,
    block_k_major_dkv=keys,
    block_k_dkv=keys,
    block_q_dq=LANES,
    block_k_major_dq=keys,
    block_k_dq=keys,
  )
