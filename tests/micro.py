"""The smallest runs: a micro config, a model that compiles at once, few records."""

import contextlib
import functools
import json
import pathlib
import runpy
import sys
import threading

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from absl import flags, logging
from flax import struct, traverse_util
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import AxisType

from configs import priorrg
from data_pipelines import datasets
from jaxrg import attention, checkpoint, models, sharding
from jaxrg.models.layers import BatchNorm

COUNTS = {"train": 48, "validation": 16, "test": 12}
BATCH = 16
STEPS = 6  # Of each stage: two epochs of three.


def get_config(changes: dict | None = None) -> ml_collections.ConfigDict:
  """`tiny` with every size shrunk, and `changes` by dotted path."""
  config = priorrg.get_config("tiny")
  width = 16
  small = dict(num_layers=1, num_heads=2, mlp_dim=width)
  config.model.update(width=width, bottleneck=8)
  config.model.vision.update(small, num_layers=4, width=width)
  config.model.vision.stem = dict(name="patch", patch_size=16)
  config.model.text.update(small, width=width, max_length=24)
  config.model.temporal.update(small, head_dim=8)
  config.model.perceiver.update(small, head_dim=8, num_latents=4)
  config.model.decoder.update(num_layers=1, num_heads=2, width=width, max_length=24)
  config.text = dict(context_length=12, report_length=16)
  config.tokenizer.vocab_size = 400
  for stage in config.stages:
    config[stage].update(batch_size=BATCH, num_epochs=2, context_length=12)
    config[stage].optim.warmup_steps = 1
  config.finetune.validation_studies = 8
  config.decode.update(num_beams=2, batch_size=16)
  config.checkpoint.every = 2
  config.log_every = 1
  config.update_from_flattened_dict(changes or {})
  return config


@struct.dataclass
class Memory:
  """A cache of nothing: the next word depends on the last one and the study."""

  rows: jax.Array  # b d

  def reorder(self, parents):
    del parents
    return self


class Miniature(nn.Module):
  """What a run asks of PriorRG, with a matrix or two in place of each part.

  It has batch statistics and dropout, reads image, prior, context and report, and
  its stage 1 has a part of the parameters of its stage 2, and one that learns
  in stage 1 alone.
  """

  vocab_size: int
  width: int = 8

  def setup(self):
    self.words = nn.Embed(self.vocab_size, self.width)
    self.patch = nn.Dense(self.width)
    self.batch_norm = BatchNorm()
    self.logit_scale = self.param("logit_scale", nn.initializers.ones, ())
    self.wo = nn.Dense(self.vocab_size)
    self.dropout = nn.Dropout(0.2)

  def image(self, batch, *, train):
    both = jnp.stack([batch["image"], batch["prior_image"]], axis=1)
    thumbnails = both[:, :, ::8, ::8].reshape(len(both), -1).astype(jnp.float32)
    x = self.patch(thumbnails / 255)
    x = self.batch_norm(x, batch["has_prior"][:, None] | True, train=train)
    return self.dropout(x, deterministic=not train) + self.text(batch, "context")

  def text(self, batch, name):
    return (self.words(batch[name]) * batch[f"{name}_mask"][..., None]).mean(axis=1)

  def contrast(self, batch, *, train=False):
    x = self.image(batch, train=train)
    return x, self.text(batch, "report"), jnp.exp(self.logit_scale)

  def __call__(self, batch, *, train=False):
    memory = self.image(batch, train=train)
    words = self.words(batch["tokens"][:, :-1])
    return self.wo(nn.tanh(words + memory[:, None]))

  def start(self, batch, num_hypotheses, max_length):
    del num_hypotheses, max_length
    return Memory(self.image(batch, train=False))

  def step(self, tokens, cache):
    return self.wo(nn.tanh(self.words(tokens) + cache.rows[:, None])), cache


@contextlib.contextmanager
def miniature(compiled: pathlib.Path):
  """Runs are of the miniature, on few records and one device."""
  with few(compiled), pytest.MonkeyPatch.context() as patch:
    build = lambda config: Miniature(config["decoder"]["vocab_size"])
    patch.setattr(models, "build", build)
    patch.setattr(attention, "make_attend", lambda model, paper: _look_everywhere)
    yield


def _look_everywhere(variables, batch, ids):
  """In place of what `attention.make_attend` makes: the miniature has no attention."""
  del variables
  maps = jnp.full((len(ids), ids.shape[1] - 1, 2, 2), 0.25)
  prior = maps * batch["has_prior"][:, None, None, None]
  return maps, prior, jnp.zeros(maps.shape[:2])


@contextlib.contextmanager
def few(compiled: pathlib.Path):
  """Runs are on few records and one device.

  `compiled` keeps programs: most of a small run's time goes into compiling them.
  """
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(datasets, "load", _first_records(datasets.load))
    patch.setattr(sharding, "make_mesh", one_device)
    with _compilation_cache(compiled):
      yield


def _first_records(load):
  # Priors lie before their records, so that the beginning of a split is whole.
  @functools.cache
  def first(name, split, data_dir=None):
    source = load(name, split, data_dir)
    return [source[i] for i in range(COUNTS[split])]

  return first


def one_device(shape):
  """In place of `sharding.make_mesh`: programs for one device compile sooner."""
  del shape
  axis_types = (AxisType.Auto,) * 3
  return jax.make_mesh(
    (1, 1, 1), sharding.MESH_AXES, axis_types=axis_types, devices=jax.devices()[:1]
  )


@contextlib.contextmanager
def _compilation_cache(directory: pathlib.Path):
  options = {
    "jax_compilation_cache_dir": str(directory),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
  }
  before = {name: getattr(jax.config, name) for name in options}

  def use(values):
    for name, value in values.items():
      jax.config.update(name, value)
    compilation_cache.reset_cache()  # Or the new place is not looked at.

  use(options)
  try:
    yield
  finally:
    use(before)


def leaves(export: pathlib.Path) -> dict[str, np.ndarray]:
  """Every variable of an export, by path."""
  return traverse_util.flatten_dict(checkpoint.load_arrays(export), sep="/")


def rows(stage: pathlib.Path) -> list[dict]:
  """The lines of a stage's metrics.jsonl."""
  return list(map(json.loads, (stage / "metrics.jsonl").read_text().splitlines()))


def steps(stage: pathlib.Path) -> int:
  """How many lines that file has, if it is there yet."""
  path = stage / "metrics.jsonl"
  return path.read_text().count("\n") if path.exists() else 0


def verb(name: str, *arguments: object) -> int:
  """Exit status of `python -m jaxrg.NAME ARGUMENTS`, run in this process."""
  before, verbosity = set(flags.FLAGS), logging.get_verbosity()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, "argv", [name, *map(str, arguments)])
    for module, hook in ((threading, "excepthook"), (sys, "unraisablehook")):
      patch.setattr(module, hook, getattr(module, hook))  # To be given back.
    try:
      with pytest.raises(SystemExit) as end:
        runpy.run_module(f"jaxrg.{name}", run_name="__main__")
    finally:  # A test may have killed it.
      for flag in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, flag)
      logging.set_verbosity(verbosity)
  return int(end.value.code or 0)
