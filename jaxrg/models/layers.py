"""Layers that every encoder and decoder here is made of.

Shapes name their axes: b batch, t target (query) tokens, s source (key) tokens,
d model width, c width of a context, h heads, k head width, v vocabulary,
l latents, n hypotheses of a beam or topics. Masks are boolean, true where real.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrg.sharding import constrain

Dtype = jax.typing.DTypeLike
Initializer = nn.initializers.Initializer


def torch_linear(scale: float = 1.0) -> Initializer:
  """PyTorch's default for linear and convolution weights: U(+-1/sqrt(fan_in))."""
  return nn.initializers.variance_scaling(scale / 3.0, "fan_in", "uniform")


def layer_norm(epsilon: float = 1e-5, dtype: Dtype = jnp.float32, name=None):
  """LayerNorm with exact variance: the fast one errs where |mean| >> std."""
  return nn.LayerNorm(epsilon, dtype=dtype, use_fast_variance=False, name=name)


def widen(x: Array) -> Array:
  """`x` in float32 at least: for sums and exponentials that bfloat16 would spoil."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def gelu(x: Array) -> Array:
  """The exact GELU; flax's default is the tanh approximation of GPT-2."""
  return nn.gelu(x, approximate=False)


def conv(
  features: int,
  size: int,
  stride: int = 1,
  *,
  kernel_init: Initializer,
  dtype: Dtype = jnp.float32,
  name: str | None = None,
) -> nn.Conv:
  """A square convolution without bias, padded by half its size on every side.

  So PyTorch's networks do; flax's "SAME" pads an even image on one side more than on
  the other where there is a stride.
  """
  return nn.Conv(
    features,
    (size, size),
    (stride, stride),
    padding=size // 2,
    use_bias=False,
    dtype=dtype,
    kernel_init=kernel_init,
    name=name,
  )


def max_pool(x: Float[Array, "b height width c"]) -> Float[Array, "b rows columns c"]:
  """The largest of 3x3 with a stride of 2; beyond the edge there is nothing (-inf).

  Along one axis and then the other, by slices: on a CPU the gradient of XLA's own
  pooling takes several times as long.
  """
  for axis in (1, 2):
    x = _max_pool_along(x, axis)
  return x


def _max_pool_along(x: Array, axis: int) -> Array:
  size = x.shape[axis]
  edge = [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)]
  x = jnp.pad(x, edge, constant_values=-jnp.inf)
  slices = (jax.lax.slice_in_dim(x, i, i + size, 2, axis) for i in range(3))
  return functools.reduce(jnp.maximum, slices)


# Attention of so many weights a head goes by blocks of so many queries: what a loop
# reuses stays in the caches, and need not be asked of the system again.
LARGE, BLOCK = 512 * 512, 200


def weigh(
  query: Float[Array, "b h t k"],
  key: Float[Array, "b h s k"],
  mask: Bool[Array, "#b #h #t s"] | None = None,
) -> Float[Array, "b h t s"]:
  """Attention weights of queries that are scaled, in float32; 0 where masked."""
  logits = widen(jnp.einsum("bhtk,bhsk->bhts", query, key))
  if mask is None:
    return nn.softmax(logits)
  weights = nn.softmax(jnp.where(mask, logits, jnp.finfo(jnp.float32).min))
  return jnp.where(mask, weights, 0.0)


# Attention (b t h k) of a query, key and value, of which no key is hidden.
Attend = Callable[[Array, Array, Array], Array]
_for_long: contextvars.ContextVar[Attend | None] = contextvars.ContextVar(
  "long_attention", default=None
)


@contextlib.contextmanager
def long_attention(attend: Attend | None) -> Iterator[None]:
  """Within it, attention over long sequences is `attend`'s: a kernel's, say."""
  token = _for_long.set(attend)
  try:
    yield
  finally:
    _for_long.reset(token)


def attend(
  query: Float[Array, "b t h k"],
  key: Float[Array, "b s h k"],
  value: Float[Array, "b s h k"],
  *,
  mask: Bool[Array, "#b #h #t s"] | None = None,
  dropout: Callable[[Array], Array] | None = None,
) -> Float[Array, "b t h k"]:
  """Scaled dot-product attention, the only one; softmax in float32.

  A query that may see no key yields zero: an absent context says nothing.
  The weights of long sequences are never there all at once, nor kept for the
  gradient, unless there is `dropout`, which acts on all of them.
  """
  t, s = query.shape[1], key.shape[1]
  if dropout is not None or t * s <= LARGE:
    return attend_at_once(query, key, value, mask=mask, dropout=dropout)
  if mask is None and (own := _for_long.get()):
    return own(query, key, value)
  return _attend_by_blocks(query, key, value, mask)


def attend_at_once(
  query: Float[Array, "b t h k"],
  key: Float[Array, "b s h k"],
  value: Float[Array, "b s h k"],
  *,
  mask: Bool[Array, "#b #h #t s"] | None = None,
  dropout: Callable[[Array], Array] | None = None,
) -> Float[Array, "b t h k"]:
  """Attention with all of its weights."""
  query, key, value = map(_heads_first, (_scaled(query), key, value))
  return _heads_first(_read(query, key, value, mask, dropout))


def _scaled(query: Array) -> Array:
  return query * query.shape[-1] ** -0.5


def _heads_first(x: Array) -> Array:
  return x.swapaxes(1, 2)


def _read(query, key, value, mask, dropout=None):
  weights = weigh(query, key, mask)
  weights = weights if dropout is None else dropout(weights)
  return jnp.einsum("bhts,bhsk->bhtk", weights.astype(value.dtype), value)


def _attend_by_blocks(query, key, value, mask):
  """Attention for some queries after others; the gradient weighs anew."""
  t = query.shape[1]
  query, key, value = map(_heads_first, (_scaled(query), key, value))
  count = -(-t // BLOCK)
  size = -(-t // count)

  def cut(x):  # b h t k -> blocks b h t k
    x = jnp.pad(x, ((0, 0), (0, 0), (0, count * size - t), (0, 0)))
    return jnp.moveaxis(x.reshape(*x.shape[:2], count, size, -1), 2, 0)

  if mask is None or mask.shape[2] == 1:
    blocks, inputs = (lambda query: _read(query, key, value, mask)), cut(query)
  else:
    blocks = lambda both: _read(both[0], key, value, both[1])
    inputs = (cut(query), cut(mask))
  out = jax.lax.map(jax.checkpoint(blocks, prevent_cse=False), inputs)
  out = jnp.moveaxis(out, 0, 2)
  return _heads_first(out.reshape(*query.shape[:2], count * size, -1)[:, :, :t])


class Dropout(nn.Module):
  """As flax's, with the same random numbers, which no later pass may draw again.

  XLA for TPUs would: into every loop that reads the mask, forward and backward, and
  compiling those bits takes longer than all the rest.
  """

  rate: float

  @nn.compact
  def __call__(self, x: Float[Array, "..."], *, deterministic: bool) -> Array:
    if deterministic or not self.rate:
      return x
    keep = 1.0 - self.rate
    mask = jax.random.bernoulli(self.make_rng("dropout"), keep, x.shape)
    return jnp.where(jax.lax.optimization_barrier(mask), x / keep, 0)


class Attention(nn.Module):
  """Multi-head attention of `x` over `context` (itself, when None).

  Where `intermediates` is mutable it keeps the mean of its heads' weights (b t s).
  """

  width: int  # Of the output.
  num_heads: int
  head_dim: int
  qkv_bias: bool = True
  dropout_rate: float = 0.0
  dtype: Dtype = jnp.float32
  kernel_init: Initializer = torch_linear()
  out_init: Initializer | None = None  # None: as `kernel_init`.

  def setup(self):
    def heads():
      return nn.DenseGeneral(
        (self.num_heads, self.head_dim),
        use_bias=self.qkv_bias,
        dtype=self.dtype,
        kernel_init=self.kernel_init,
      )

    self.query, self.key, self.value = heads(), heads(), heads()
    self.out = nn.DenseGeneral(
      self.width,
      axis=(-2, -1),
      dtype=self.dtype,
      kernel_init=self.out_init or self.kernel_init,
    )
    self.dropout = Dropout(self.dropout_rate)

  def keys_values(self, context: Float[Array, "b s c"]) -> tuple[Array, Array]:
    """The keys and values of a context, for decoding to keep: each b s h k."""
    return self.key(context), self.value(context)

  def read(
    self,
    x: Float[Array, "b t d"],
    key: Float[Array, "b s h k"],
    value: Float[Array, "b s h k"],
    *,
    mask: Bool[Array, "#b #h #t s"] | None = None,
    train: bool = False,
  ) -> Float[Array, "b t d"]:
    """Attention over keys and values that are there already."""
    query = constrain(self.query(x), "batch", "length", "heads", "head_dim")
    if self.is_mutable_collection("intermediates"):
      heads_first = (query * self.head_dim**-0.5).swapaxes(1, 2), key.swapaxes(1, 2)
      self.sow("intermediates", "weights", weigh(*heads_first, mask).mean(axis=1))
    dropout = None
    if train and self.dropout_rate:
      dropout = lambda weights: self.dropout(weights, deterministic=False)
    return self.out(attend(query, key, value, mask=mask, dropout=dropout))

  def __call__(
    self,
    x: Float[Array, "b t d"],
    context: Float[Array, "b s c"] | None = None,
    *,
    mask: Bool[Array, "#b #h #t s"] | None = None,
    train: bool = False,
  ) -> Float[Array, "b t d"]:
    key, value = self.keys_values(x if context is None else context)
    return self.read(x, key, value, mask=mask, train=train)


class Mlp(nn.Module):
  """Two-layer perceptron; its dropout is of the hidden layer."""

  width: int
  mlp_dim: int
  activation: Callable[[Array], Array] = gelu
  dtype: Dtype = jnp.float32
  kernel_init: Initializer = torch_linear()
  out_init: Initializer | None = None
  dropout_rate: float = 0.0

  @nn.compact
  def __call__(
    self, x: Float[Array, "b t c"], *, train: bool = False
  ) -> Float[Array, "b t d"]:
    x = nn.Dense(
      self.mlp_dim, dtype=self.dtype, kernel_init=self.kernel_init, name="wi"
    )(x)
    x = constrain(self.activation(x), "batch", "length", "mlp")
    x = Dropout(self.dropout_rate)(x, deterministic=not train)
    init = self.out_init or self.kernel_init
    return nn.Dense(self.width, dtype=self.dtype, kernel_init=init, name="wo")(x)


def read_memory(
  attention: Attention,
  x: Float[Array, "b t d"],
  memory: Float[Array, "b s c"],
  mask: Bool[Array, "b s"] | None,
  *,
  train: bool = False,
) -> Float[Array, "b t d"]:
  """What `attention` reads for `x` in a memory: exactly 0 in one that is all masked.

  Else a row without a memory would still get the bias of the output (spec eir 5.2).
  """
  if mask is None:
    return attention(x, memory, train=train)
  out = attention(x, memory, mask=mask[:, None, None, :], train=train)
  return jnp.where(mask.any(axis=1)[:, None, None], out, 0.0)


class Readout(nn.Module):
  """Learned queries, each with what it reads in a memory: LN(MHA(Q; M, M) + Q).

  The memory has any length, the output that of the queries (spec eir 5.1).
  """

  num_queries: int
  width: int
  num_heads: int
  dropout_rate: float = 0.0  # Of attention weights.
  init_std: float = 1.0
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    memory: Float[Array, "b s c"],
    mask: Bool[Array, "b s"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b n d"]:
    normal = nn.initializers.normal(self.init_std)
    queries = self.param("queries", normal, (self.num_queries, self.width))
    x = jnp.broadcast_to(queries, (memory.shape[0], *queries.shape))
    x = x.astype(self.dtype)
    attention = Attention(
      self.width,
      self.num_heads,
      self.width // self.num_heads,
      dropout_rate=self.dropout_rate,
      dtype=self.dtype,
      name="attention",
    )
    x = x + read_memory(attention, x, memory, mask, train=train)
    return layer_norm(dtype=self.dtype, name="norm")(x)


_groups: contextvars.ContextVar[int] = contextvars.ContextVar("groups", default=1)


@contextlib.contextmanager
def statistics_by(groups: int) -> Iterator[None]:
  """Within it each of so many runs of rows has batch statistics of its own.

  The running ones become the mean of what those of each would.
  """
  token = _groups.set(groups)
  try:
    yield
  finally:
    _groups.reset(token)


class BatchNorm(nn.Module):
  """Batch normalisation over the rows where `mask` is true, statistics in float32.

  As in PyTorch the running variance is the unbiased one, momentum .1. A batch
  without a single real row leaves the statistics alone and is normalised by them:
  by a variance of 0, a few layers in a row would overflow.
  The mask broadcasts against the input.
  """

  axis: int = -1  # Of the features.
  epsilon: float = 1e-5
  momentum: float = 0.9
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "..."],
    mask: Bool[Array, "..."] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "..."]:
    size = x.shape[self.axis]
    scale = self.param("scale", nn.initializers.ones, (size,))
    bias = self.param("bias", nn.initializers.zeros, (size,))
    running_mean = self.variable("batch_stats", "mean", jnp.zeros, (size,))
    running_var = self.variable("batch_stats", "var", jnp.ones, (size,))

    axes = tuple(i for i in range(x.ndim) if i != self.axis % x.ndim)
    spread = lambda v: jnp.expand_dims(v, axes)

    def shift_and_scale(y, mean, var):
      y = (y - spread(mean)) * spread(scale * jax.lax.rsqrt(var + self.epsilon))
      return (y + spread(bias)).astype(self.dtype)

    def by_its_own(y, real):
      """The rows, normalised; and what the running statistics become of theirs."""
      # What the mask does not tell apart is summed before it is applied.
      alike = tuple(i for i in axes if real.shape[i] == 1)
      rows = lambda z: jnp.sum(jnp.sum(z, alike, keepdims=True) * real, axes)
      count = real.sum().astype(y.dtype) * math.prod(y.shape[i] for i in alike)
      total = jnp.maximum(count, 1.0)
      mean = rows(y) / total
      # Without a gradient by the mean, which is 0: not to sum it saves a pass.
      var = rows(jnp.square(y - spread(jax.lax.stop_gradient(mean)))) / total
      old_mean, old_var = running_mean.value, running_var.value
      if not self.is_initializing():
        unbiased = var * (total / jnp.maximum(total - 1.0, 1.0))
        rate = jnp.where(count > 0, 1.0 - self.momentum, 0.0)
        old_mean += rate * (mean - old_mean)
        old_var += rate * (unbiased - old_var)
      mean = jnp.where(count > 0, mean, old_mean)
      var = jnp.where(count > 0, var, old_var)
      return shift_and_scale(y, mean, var), (old_mean, old_var)

    y = widen(x)
    if not train:
      return shift_and_scale(y, running_mean.value, running_var.value)
    every = (len(x), *(1,) * (x.ndim - 1))
    real = jnp.ones(every, bool) if mask is None else mask
    if (groups := _groups.get()) == 1:
      y, (running_mean.value, running_var.value) = by_its_own(y, real)
      return y
    cut = lambda z: z.reshape(groups, -1, *z.shape[1:])
    y, statistics = jax.vmap(by_its_own)(cut(y), cut(real))
    running_mean.value, running_var.value = (z.mean(axis=0) for z in statistics)
    return y.reshape(x.shape)
