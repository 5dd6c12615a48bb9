"""The smallest PriorRG with every part in it, and batches for it."""

import types

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

VOCAB_SIZE, PAD, CONTEXT_LENGTH, REPORT_LENGTH, IMAGE_SIZE = 24, 23, 6, 7, 16


def model_config(width: int = 16) -> dict:
  """The `model` section; sizes divide by 2, for meshes."""
  text = dict(vocab_size=VOCAB_SIZE, num_heads=2, width=width, max_length=8)
  small = dict(num_heads=2, head_dim=8, mlp_dim=width)
  return dict(
    name="priorrg",
    dtype="float32",
    width=width,
    bottleneck=width // 2,
    num_views=3,
    pixel_mean=0.5,
    pixel_std=0.25,
    mask_padding=True,
    mask_statistics=True,
    prior_gradient=True,
    order=("context", "time", "joint"),
    seeded=True,
    fusion=dict(name="attention"),
    embedding_std=1.0,
    vision=dict(
      stem=dict(name="patch", patch_size=8),
      num_layers=4,
      num_heads=2,
      width=width,
      mlp_dim=width,
    ),
    text=dict(text, num_layers=1, mlp_dim=width, dropout_rate=0.1),
    temporal=dict(small, num_layers=1),
    perceiver=dict(small, num_layers=1, num_latents=4),
    decoder=dict(text, num_layers=1, dropout_rate=0.1),
  )


def batch(rows: int, seed: int = 0) -> dict[str, jax.Array]:
  """Random studies; every second one has a prior, the first two are one study."""
  rng = np.random.default_rng(seed)
  image = lambda: rng.integers(0, 256, (rows, IMAGE_SIZE, IMAGE_SIZE, 1), np.uint8)
  view = lambda: rng.integers(0, 3, rows).astype(np.int32)
  out = dict(
    image=image(),
    prior_image=image(),
    view=view(),
    prior_view=view(),
    has_prior=np.arange(rows) % 2 == 0,
    patient=np.zeros((rows, 2), np.uint32),
    study=np.repeat(np.maximum(np.arange(rows) - 1, 0), 2).reshape(rows, 2),
    index=np.arange(rows, dtype=np.int32),
  )
  out["study"] = out["study"].astype(np.uint32)
  lengths = dict(context=CONTEXT_LENGTH, report=REPORT_LENGTH, tokens=REPORT_LENGTH)
  for name, length in lengths.items():
    real = np.arange(length) < rng.integers(2, length + 1, (rows, 1))
    tokens = rng.integers(0, PAD, (rows, length))
    out[name] = np.where(real, tokens, PAD).astype(np.int32)
    out[f"{name}_mask"] = real
  return jax.tree.map(jnp.asarray, out)


def variables(model, methods: tuple[str, ...] = ("contrast", "__call__")) -> dict:
  """Random variables of the given methods; drawn, as compiling `init` takes seconds."""
  rng = np.random.default_rng(0)
  shapes = {}
  for method in methods:
    init = lambda key: model.init(key, batch(2), method=method)  # noqa: B023
    shapes |= traverse_util.flatten_dict(jax.eval_shape(init, jax.random.key(0)))

  def draw(path, x):
    if path[-1] in ("scale", "var"):
      return jnp.asarray(rng.uniform(0.5, 1.5, x.shape), jnp.float32)
    return jnp.asarray(rng.normal(0, 0.3, x.shape), jnp.float32)

  return traverse_util.unflatten_dict({k: draw(k, x) for k, x in shapes.items()})


def recipe(**changes):
  """An `optim` section that does nothing but step: no decay, no clipping."""
  fields = dict(
    schedule="constant",
    learning_rate=0.1,
    warmup_steps=0,
    groups=(),
    weight_decay=0.0,
    decay_all=False,
    grad_clip=0.0,
    skip_unused=(),
    b1=0.9,
    b2=0.999,
  )
  return types.SimpleNamespace(**fields | changes)
