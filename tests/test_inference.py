"""Embeddings of a split: as stage 1 contrasts them, whole and in order."""

import jax
import numpy as np
import pytest

import tiny
from jaxrg import inference, losses, models, sharding


@pytest.fixture(scope="module")
def model():
  return models.build(tiny.model_config())


def test_embeddings_are_those_that_are_contrasted(model):
  variables, batch = tiny.variables(model, ("contrast",)), tiny.batch(4)
  image, report = inference.make_embed(model)(variables, batch)
  expected = jax.jit(lambda v, b: model.apply(v, b, method="contrast"))(
    variables, batch
  )
  for found, raw in zip((image, report), expected):
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found, losses.unit(raw), rtol=1e-5, atol=1e-6)


def test_all_of_a_split_in_order_and_no_padding():
  mesh = sharding.make_mesh((-1, 1, 1))
  ids = np.arange(24)
  rows = [ids[:8], ids[8:16], np.where(ids[16:] < 19, ids[16:], 18)]
  valid = [np.ones(8, bool), np.ones(8, bool), ids[16:] < 19]
  batches = [{"index": i, "valid": v} for i, v in zip(rows, valid)]
  embed = lambda scale, batch: (scale * batch["index"][:, None], -batch["index"])
  image, report = inference.embed_all(embed, 2, batches, mesh)
  np.testing.assert_array_equal(image[:, 0], 2 * ids[:19])
  np.testing.assert_array_equal(report, -ids[:19])
