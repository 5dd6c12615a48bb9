"""New films find the training studies that they look like, by what a file holds."""

import flax.linen as nn
import numpy as np
import pytest

from jaxrg import embedding, retriever

WIDTH = 12
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), np.uint8)
STUDIES = np.array([f"s{i:02d}" for i in range(len(IMAGES))])
# An export has more than embeds: the text's words stay behind.
VARIABLES = {
  "params": {"vision": {"scale": np.float32([0.5])}, "words": np.ones(3)},
  "batch_stats": {"vision": {"mean": np.zeros(1, np.float32)}},
}


class Greys(nn.Module):
  """An image encoder whose features are the greys, scaled."""

  def features(self, image, mask=None, *, train=False):
    scale = self.get_variable("params", "vision")["scale"]
    return scale * image.reshape(len(image), -1)


@pytest.fixture(scope="module")
def embed():
  return embedding.make_embed(Greys(), "features")


@pytest.fixture
def written(embed, tmp_path):
  features = 0.5 * IMAGES.reshape(len(IMAGES), -1)
  ready = VARIABLES | {embedding.WHITENING: embedding.whitening(features, WIDTH)}
  rows = np.asarray(embed(ready, {"image": IMAGES}))
  corpus = embedding.Embedded(STUDIES, STUDIES, rows)
  path = tmp_path / "retriever.npz"
  path.write_bytes(retriever.make(ready, corpus).to_bytes())
  return path


def test_a_film_of_the_corpus_finds_its_own_study(embed, written):
  found = retriever.read(written)
  for i in (0, 7):
    (study, score), (_, second), _ = found.similar(embed, IMAGES[i], 3)
    assert study == STUDIES[i]
    assert score == pytest.approx(1, abs=1e-4)
    assert second < 0.9


def test_it_holds_what_embeds_and_nothing_else(written):
  found = retriever.read(written)
  assert found.variables.keys() == {"params", "batch_stats", "whitening"}
  assert found.variables["params"].keys() == {"vision"}
  assert found.variables["whitening"]["axes"].shape == (16, WIDTH)


def test_a_damaged_file_is_named(written):
  written.write_bytes(written.read_bytes()[:200])
  with pytest.raises(ValueError, match=r"retriever\.npz is damaged"):
    retriever.read(written)
