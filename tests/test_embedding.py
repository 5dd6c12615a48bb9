"""From films to studies: the mean direction of each one's views."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from data_pipelines import datasets, records
from jaxrg import embedding, exports, neighbours, sharding


class Thumbnail(nn.Module):
  """An image encoder of one matrix, with the head's output not of length one."""

  @nn.compact
  def embed(self, image, mask=None, *, train=False):
    del mask, train
    return nn.Dense(3, name="head")(image.reshape(len(image), -1) / 255.0)

  def features(self, image, mask=None, *, train=False):
    return image.reshape(len(image), -1) / 255.0


def test_films_in_order_and_no_padding():
  model, mesh = Thumbnail(), sharding.make_mesh((-1, 1, 1))
  images = np.random.default_rng(0).integers(0, 256, (19, 4, 4, 1), np.uint8)
  variables = model.init(jax.random.key(0), images[:1], method="embed")
  rows = [np.minimum(np.arange(8) + start, 18) for start in (0, 8, 16)]
  batches = [
    {
      "image": images[index],
      "index": index,
      "valid": np.arange(start, start + 8) < 19,
      "indication": "read by nobody here",
    }
    for start, index in zip((0, 8, 16), rows)
  ]
  embed = embedding.make_embed(model, "head")
  found = embedding.embed_films(embed, variables, batches, mesh)
  raw = model.apply(variables, jnp.asarray(images), method="embed")
  expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_study_lies_between_its_views():
  """Two at a right angle, then one longer than the other: means are of directions."""
  films = np.array([[0, 1], [0.6, 0.8], [1, 0], [0.8, -0.6]], np.float32)
  names, rows = embedding.study_means(films, ["s9", "s10", "s9", "s2"])
  assert names.tolist() == ["s10", "s2", "s9"]
  np.testing.assert_allclose(rows, [[0.6, 0.8], [0.8, -0.6], [0.5**0.5] * 2], rtol=1e-6)
  assert rows.dtype == np.float32


def test_the_order_of_films_is_irrelevant():
  rng = np.random.default_rng(1)
  films, studies = rng.normal(size=(30, 5)), rng.integers(8, size=30).astype(str)
  order = rng.permutation(30)
  expected = embedding.study_means(films, studies)
  found = embedding.study_means(films[order], studies[order])
  np.testing.assert_array_equal(found[0], expected[0])
  np.testing.assert_allclose(found[1], expected[1], rtol=1e-6, atol=1e-7)


def test_views_that_point_against_each_other_are_nowhere():
  _, rows = embedding.study_means(np.array([[0, 1.0], [0, -1.0]]), ["s", "s"])
  np.testing.assert_array_equal(rows, [[0, 0]])


def test_a_study_has_its_patient():
  studies = ["s3", "s1", "s3", "s2"]
  found = embedding.of_studies(np.eye(4), studies, ["p1", "p2", "p1", "p1"])
  assert found.study_ids.tolist() == ["s1", "s2", "s3"]
  assert found.patient_ids.tolist() == ["p2", "p1", "p1"]
  with pytest.raises(ValueError, match="Study s3 is of several patients: p1, p7"):
    embedding.of_studies(np.eye(4), studies, ["p1", "p2", "p7", "p1"])


def test_a_diverged_encoder_is_named():
  films = np.eye(3)
  films[1, 0] = np.inf
  with pytest.raises(ValueError, match=r"study b .* not finite"):
    embedding.study_means(films, ["a", "b", "a"])


def test_whitened_features_are_uncorrelated_and_of_variance_one():
  """However they lie; of what does not vary there is no axis."""
  rng = np.random.default_rng(3)
  x = rng.normal(size=(500, 3)) * [10, 1, 0.1] @ rng.normal(size=(3, 5)) + 7
  found = embedding.whitening(x.astype(np.float32), width=8)
  assert found["axes"].shape == (5, 3)
  rows = (x - found["mean"]) @ found["axes"]
  np.testing.assert_allclose(rows.T @ rows / len(rows), np.eye(3), atol=0.05)
  widest = embedding.whitening(x, width=1)["axes"][:, 0]
  assert abs(np.corrcoef((x - x.mean(0)) @ widest, rows[:, 0])[0, 1]) > 0.999


@pytest.mark.parametrize(
  ("features", "message"),
  [
    (np.full((4, 3), np.nan), "not finite; the encoder diverged"),
    (np.full((4, 3), 0.25), "sees all films alike; the encoder diverged"),
  ],
)
def test_features_that_cannot_be_whitened(features, message):
  with pytest.raises(ValueError, match=message):
    embedding.whitening(features, 2)


def record(patient, study, film, prior, image):
  """As a builder stores it: texts are bytes."""
  empty = {name: b"" for name, (dtype, _) in records.FIELDS.items() if dtype is str}
  names = {"patient_id": patient, "study_id": study, "id": f"{study}_{film}"}
  labels = np.full(len(records.LABELS), records.UNMENTIONED)
  return (
    empty
    | {name: value.encode() for name, value in names.items()}
    | {"findings": b"clear", "view": b"PA"}
    | {"image": image, "prior": prior, "labels": labels}
  )


def whitened(x, width):
  """By the singular values of all rows, as the covariance is never made."""
  centred = x - x.mean(axis=0)
  left, _, _ = np.linalg.svd(centred, full_matrices=False)
  return left[:, :width]  # Of equal lengths: the scale is irrelevant.


@pytest.mark.parametrize("vectors", neighbours.VECTORS)
def test_a_split_is_embedded_by_its_export(monkeypatch, vectors):
  """Eleven films of five studies, the last batch part full, priors left alone."""
  images = np.random.default_rng(2).integers(0, 256, (11, 4, 4, 1), np.uint8)
  studies = [f"s{4 - i // 2 % 5}" for i in range(11)]
  patients = [f"p{study[1:]}" for study in studies]
  source = [
    record(patients[i], studies[i], i, 10**6 if i else -1, images[i]) for i in range(11)
  ]
  asked = []
  monkeypatch.setattr(datasets, "load", lambda *args: asked.append(args) or source)
  data = {"name": "thorax/none", "data_dir": "here", "image_size": 4}
  data |= {"views": ("PA", "unk"), "in_memory": False, "skip_damaged": False}
  recipe = {"vectors": vectors, "width": 4}
  config = ml_collections.ConfigDict({"data": data, "retrieve": recipe})
  model, mesh = Thumbnail(), sharding.make_mesh((-1, 1, 1))
  variables = model.init(jax.random.key(0), images[:1], method="embed")
  export = exports.Export(config, model, variables, None, "pretrain", 1, None)
  added = embedding.prepare(export, "train", mesh, batch_size=8)
  assert [args[1] for args in asked] == ["train"] * (vectors == "features")
  found = embedding.embed_split(export, added, "test", mesh, batch_size=8)
  assert asked[-1] == ("thorax/none", "test", "here")
  assert found.study_ids.tolist() == ["s0", "s1", "s2", "s3", "s4"]
  assert found.patient_ids.tolist() == ["p0", "p1", "p2", "p3", "p4"]
  if vectors == "head":
    raw = np.asarray(model.apply(variables, jnp.asarray(images), method="embed"))
  else:
    raw = whitened(images.reshape(11, -1) / 255.0, 4)
  films = raw / np.linalg.norm(raw, axis=1, keepdims=True)
  means = np.stack(
    [films[[s == study for s in studies]].mean(axis=0) for study in found.study_ids]
  )
  means /= np.linalg.norm(means, axis=1, keepdims=True)
  # Axes have no sign, but angles between studies are what they are.
  np.testing.assert_allclose(
    found.rows @ found.rows.T, means @ means.T, rtol=1e-4, atol=2e-5
  )

  with pytest.raises(ValueError, match=r"retrieve\.batch_size=6 does not divide"):
    embedding.embed_split(export, added, "test", mesh, batch_size=6)
