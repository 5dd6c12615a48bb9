"""The reference numbers of tests/golden, and our model with the authors' weights.

The records of `mixed6` are two views of one study with a prior, the patient's other
study without prior and context, and three more with parts missing; `noprior3` are
those without a prior.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxrg import convert, models
from jaxrg.convert import authors
from jaxrg.convert.table import Table

FOLDER = pathlib.Path(__file__).parent / "golden"
HEADS = dict(image_heads=4, text_heads=4, gpt_heads=4)
BOS, PAD = 0, 360
SUBSET = [2, 3, 5]  # The rows of mixed6 that noprior3 is made of.

ROWS, CONTEXT_LENGTH = 6, 33  # Of mixed6.

LARGE, STRIDE = 1024, 7  # Of arrays beyond so many entries, every STRIDE-th is kept.
STEP_ENTRIES = 16


def thin(x: np.ndarray) -> np.ndarray:
  """The entries of `x` that are kept, in a row."""
  return x.ravel()[::STRIDE] if x.size > LARGE else x.ravel()


def spread(kept: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """`kept` where `thin` took it from an array of `shape`; NaN elsewhere."""
  full = np.full(shape, np.nan, np.float32)
  where = thin(np.arange(full.size))[: len(kept)]
  full.flat[where] = kept
  return full


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
  """The arrays of golden/NAME.npz, those that it shares with another file included."""
  arrays = dict(np.load(FOLDER / f"{name}.npz"))
  for key, (other, source, subset) in json.loads(
    str(arrays.pop("links", "{}"))
  ).items():
    value = load(other)[source]
    arrays[key] = value[SUBSET] if subset else value
  return arrays


@functools.cache
def state(stage: int) -> dict[str, np.ndarray]:
  """The state dict under the authors' names."""
  names = ("shared/", f"stage{stage}/")
  return {
    key.split("/", 1)[1]: value
    for key, value in load("weights").items()
    if key.startswith(names)
  }


def table(stage: int) -> Table:
  """The authors' names and ours."""
  return authors.table(stage, **(authors.HEADS | HEADS))


@functools.cache
def model(stage: int, dtype=jnp.float32):
  """(model, variables) of a stage; the goldens were made without dropout."""
  config, variables = convert.priorrg(state(stage), **HEADS)
  config["dtype"] = jnp.dtype(dtype).name
  config["text"]["dropout_rate"] = config["decoder"]["dropout_rate"] = 0.0
  return models.build(config), jax.tree.map(jnp.asarray, variables)


def batch(stage: int, case: str) -> dict[str, jax.Array]:
  """The inputs of a case as our model takes them.

  Both cases have the shapes of the larger: the padding beyond a batch's longest text
  must change nothing, and one compiled program serves both.
  """
  arrays = load(f"stage{stage}_{case}")
  given = {k[3:]: v for k, v in arrays.items() if k.startswith("in/")}
  rows = len(given["cur_pixels"])
  prior_image = np.zeros_like(given["cur_pixels"])
  prior_view, has_prior = np.zeros(rows, np.int32), np.zeros(rows, bool)
  if "pri_idx" in given:
    prior_image[given["pri_idx"]] = given["pri_pixels"]
    prior_view[given["pri_idx"]] = given["pri_view_ids"]
    has_prior[given["pri_idx"]] = True
  channels_last = lambda x: x.transpose(0, 2, 3, 1)
  out = dict(
    image=channels_last(given["cur_pixels"]),
    prior_image=channels_last(prior_image),
    view=given["cur_view_ids"].astype(np.int32),
    prior_view=prior_view,
    has_prior=has_prior,
  )
  names = dict(context="context", tokens="reference", report="report")
  for ours, theirs in names.items():
    if f"{theirs}_ids" in given:
      wider = ((0, 0), (0, CONTEXT_LENGTH - given["context_ids"].shape[1]))
      wider = wider if ours == "context" else 0
      ids = given[f"{theirs}_ids"].astype(np.int32)
      out[ours] = np.pad(ids, wider, constant_values=PAD)
      out[f"{ours}_mask"] = np.pad(given[f"{theirs}_mask"] > 0, wider)
  if stage == 1:
    codes = given["study_codes"].astype(np.uint32)
    out["study"] = np.stack([codes, codes], axis=1)
  repeated = np.arange(ROWS) % rows
  return {name: jnp.asarray(x[repeated]) for name, x in out.items()}


@functools.cache
def _program(stage: int):
  method = {1: "contrast", 2: "__call__"}[stage]
  return jax.jit(
    functools.partial(
      model(stage)[0].apply,
      method=method,
      capture_intermediates=True,
      mutable=["intermediates"],
    )
  )


@functools.cache
def forward(stage: int, case: str):
  """Our output of a case, and every module's outputs by path, one a call."""
  output, captured = _program(stage)(model(stage)[1], batch(stage, case))
  flat = traverse_util.flatten_dict(captured["intermediates"], sep="/")
  suffix = "/__call__"
  return output, {
    path.removesuffix(suffix): calls
    for path, calls in flat.items()
    if path.endswith(suffix)
  }


def relative_error(a, b) -> float:
  """max|a - b| / max|b|."""
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  assert a.shape == b.shape, (a.shape, b.shape)
  return float(np.abs(a - b).max() / np.abs(b).max())
