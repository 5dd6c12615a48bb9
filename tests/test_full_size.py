"""The published size, for real: `pytest -m slow tests/test_full_size.py`, 8 GB."""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import published
from jaxrg import convert, inputs, losses, models
from jaxrg.convert import backbones

pytestmark = pytest.mark.slow
PAD = 50257


def random_state(stage: int) -> dict[str, np.ndarray]:
  """Random numbers under every published key, of about the size of trained ones."""
  rng = np.random.default_rng(stage)
  state = {}
  for key, x in published.state(stage).items():
    if key.endswith("num_batches_tracked"):
      state[key] = np.array(7)
      continue
    value = rng.standard_normal(x.shape, np.float32)
    # Scales and variances lie about one.
    about_one = key.endswith(("running_var", "lambda1")) or (
      "norm" in key.lower() and key.endswith("weight")
    )
    state[key] = np.float32(1) + np.abs(value) / 10 if about_one else value / 50
  return state


@pytest.mark.parametrize("stage", [1, 2])
def test_a_published_checkpoint_goes_in_runs_and_comes_back(stage):
  state = random_state(stage)
  config, variables = convert.priorrg(state)
  dropped = convert.dropped(state)
  model = models.build(config)
  example = inputs.priorrg.example(image_size=518, context_length=24, report_length=24)
  batch = example | {"has_prior": example["has_prior"] | True}
  method = {1: "contrast", 2: "__call__"}[stage]
  output = jax.jit(functools.partial(model.apply, method=method))(variables, batch)
  shapes = [(1, 768), (1, 768), ()] if stage == 1 else [(1, 23, 50264)]
  assert [x.shape for x in jax.tree.leaves(output)] == shapes
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(output))
  back = convert.to_priorrg(variables, dropped)
  assert back.keys() == state.keys()
  for key in list(state):
    np.testing.assert_array_equal(back.pop(key), state.pop(key), strict=True)


def random_batch() -> dict[str, np.ndarray]:
  """Two studies, of which the first has a prior and the second is shorter."""
  rng = np.random.default_rng(0)
  batch = {
    name: np.repeat(np.asarray(x), 2, axis=0)
    for name, x in inputs.priorrg.example(
      image_size=518, context_length=40, report_length=30
    ).items()
  }
  for name in ("image", "prior_image"):
    batch[name] = rng.integers(0, 256, batch[name].shape, np.uint8)
  for name in inference.TEXTS:
    shape = batch[name].shape
    real = np.arange(shape[1]) < shape[1] - np.array([[0], [7]])
    tokens = np.where(real, rng.integers(0, 50256, shape), PAD)
    batch |= {name: tokens.astype(np.int32), f"{name}_mask": real}
  view, prior_view = np.array([[0, 2], [1, 0]], np.int32)
  return batch | dict(
    view=view, prior_view=prior_view, has_prior=np.array([True, False])
  )


def torch_model(stage: int):
  """PriorRG of torch's blocks, all parameters and statistics moved, in evaluation."""
  torch = pytest.importorskip("torch")
  sys.path.append(str(pathlib.Path(__file__).parent / "benchmarks"))
  import full_size_torch

  torch.manual_seed(0)
  model = full_size_torch.PriorRG(stage).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.add_(torch.randn_like(parameter), alpha=0.02)
    for name, buffer in model.named_buffers():
      if name.endswith("running_mean"):
        buffer.normal_(0, 0.3)
      elif name.endswith("running_var"):
        buffer.uniform_(0.5, 1.5)
  return model, full_size_torch.tensors


def authors_names(model) -> dict[str, np.ndarray]:
  """Its state dict as the authors' checkpoints have it."""
  image, decoder = "image_encoder.", "text_decoder."
  state = {}
  for key, value in model.state_dict().items():
    if key.startswith(image):
      key = image + next(iter(backbones.bare({key.removeprefix(image): value})))
    state[key.replace(decoder, f"{decoder}encoder_decoder.decoder.")] = value.numpy()
  return state


def relative_error(ours, theirs) -> float:
  ours, theirs = np.asarray(ours), theirs.detach().numpy()
  return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("stage", [1, 2])
def test_the_published_size_computes_what_torch_computes(stage):
  """The attention of 1370 tokens and the fusion of 12 layers included."""
  theirs, tensors = torch_model(stage)
  config, variables = convert.priorrg(authors_names(theirs))
  batch = random_batch()
  apply = models.build(config).apply
  run = lambda method: jax.jit(functools.partial(apply, method=method))
  given = tensors({k: v for k, v in batch.items() if k not in ("study", "patient")})
  ours = jax.tree.map(jnp.asarray, batch)
  if stage == 1:
    image, report, scale = run("contrast")(variables, ours)
    _, last = theirs.encode_image(given["image"])
    latents = theirs.over_context(theirs.over_time(last, given), given)
    texts = theirs.encode_text(given["report"], given["report_mask"])
    assert relative_error(image, sum(latents).mean(1) / 2) <= 1e-5
    assert relative_error(report, texts[:, 0]) <= 1e-5
    loss = losses.contrastive(image, report, scale, jnp.arange(2)[:, None])
    expected = theirs.contrastive_loss(given)
  else:
    memory = run("encode")(variables, ours)
    assert relative_error(memory, theirs.encode(given)) <= 1e-5
    logits = run("__call__")(variables, ours)
    weights = ours["tokens_mask"][:, 1:]
    loss = losses.next_token(logits, ours["tokens"][:, 1:], weights)
    expected = theirs.generation_loss(given)
  assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
