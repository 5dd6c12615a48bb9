"""What words looked at: known answers of uniform attention, and of planted weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import tiny
import tiny_eir
from jaxrg import attention, models
from jaxrg.models.layers import Attention, weigh

ROWS = 4


def without_queries(variables):
  """Each query is 0, so that all that may be read is read alike."""
  flat = traverse_util.flatten_dict(variables)
  flat = {k: v * ("query" not in k) for k, v in flat.items()}
  return traverse_util.unflatten_dict(flat)


def test_weights_are_those_that_values_are_read_by():
  rng = np.random.default_rng(0)
  layer = Attention(width=6, num_heads=2, head_dim=3)
  x, context = (jnp.array(rng.normal(size=(2, n, 6)), jnp.float32) for n in (3, 5))
  mask = jnp.array(rng.random((2, 1, 3, 5)) < 0.7)
  variables = layer.init(jax.random.key(0), x, context)
  assert variables.keys() == {"params"}
  out, kept = layer.apply(variables, x, context, mask=mask, mutable=["intermediates"])
  (weights,) = kept["intermediates"]["weights"]
  assert weights.shape == (2, 3, 5)
  assert (np.asarray(weights)[~np.asarray(mask)[:, 0]] == 0).all()
  np.testing.assert_array_equal(out, layer.apply(variables, x, context, mask=mask))
  query, key = (
    jnp.einsum("btd,dhk->bhtk", part, variables["params"][name]["kernel"])
    for name, part in (("query", x), ("key", context))
  )
  expected = weigh(query * 3**-0.5, key, mask).mean(axis=1)
  np.testing.assert_allclose(weights, expected, rtol=1e-5)


@pytest.fixture(scope="module")
def priorrg():
  model = models.build(tiny.model_config())
  return model, tiny.variables(model), tiny.batch(ROWS)


@pytest.fixture(scope="module")
def attend(priorrg):
  return attention.make_attend(priorrg[0], "priorrg")


def test_priorrg_s_words_look_along_every_path_there_is(priorrg, attend):
  model, variables, batch = priorrg
  looked = attend(variables, batch, batch["tokens"])
  image, prior, context = (np.asarray(x, np.float64) for x in looked)
  given = {**batch, "tokens_mask": jnp.ones(batch["tokens"].shape, bool)}
  _, kept = model.apply(variables, given, mutable=["intermediates"])
  layer = lambda part, name: kept["intermediates"][part]["layer_0"][name]["weights"]
  (words,) = layer("decoder", "cross_attention")
  _, of_time, of_joint = layer("perceiver", "cross_attention")
  (over_time,) = layer("temporal", "attention")
  latents = of_time.shape[1]
  assert words.shape[2] == 3 * latents
  for b in range(ROWS):
    for t in range(words.shape[1]):
      first, second, third = np.split(np.asarray(words[b, t]), 3)
      here = first.sum()
      np.testing.assert_allclose(context[b, t], here, rtol=1e-5)
      time, joint = second @ of_time[b], third @ of_joint[b]
      # The first token of a film is of no place.
      np.testing.assert_allclose(
        image[b, t].ravel(), (time + joint)[1:], rtol=2e-3, atol=1e-6
      )
      before = (time @ over_time[b])[1:] * batch["has_prior"][b]
      np.testing.assert_allclose(prior[b, t].ravel(), before, rtol=2e-3, atol=1e-6)


def test_without_queries_every_place_is_read_alike(priorrg, attend):
  _, variables, batch = priorrg
  image, prior, context = attend(without_queries(variables), batch, batch["tokens"])
  # A third of the latents is of the context; of a film there are five tokens.
  np.testing.assert_allclose(context, 1 / 3, rtol=1e-5)
  np.testing.assert_allclose(image, 2 / 3 / 5, rtol=1e-3)
  has_prior = np.asarray(batch["has_prior"])
  np.testing.assert_allclose(prior[has_prior], 1 / 3 / 5, rtol=1e-3)
  assert not prior[~has_prior].any()


def test_eir_s_words_read_topics_and_the_words_before():
  model, batch = tiny_eir.model(), tiny_eir.batch(ROWS)
  variables = model.init(jax.random.key(0), batch)
  variables = without_queries(variables)
  (topics,) = attention.make_attend(model, "eir")(variables, batch, batch["tokens"])
  n, t = topics.shape[2], topics.shape[1]
  assert t == batch["tokens"].shape[1] - 1
  seen = 1 / (n + 1 + np.arange(t))  # The topics, and the words up to this one.
  np.testing.assert_allclose(topics, np.tile(seen[:, None], (ROWS, 1, n)), rtol=1e-4)


class Pieces:
  """A tokenizer of a few pieces; decoding joins them."""

  bos, eos, pad = 0, 0, 1
  PIECES = ("", "", " no", " pleur", "al", " effusion", ".")

  def decode(self, ids):
    return "".join(self.PIECES[i] for i in ids).strip()


def test_pieces_are_of_their_words():
  ids = np.array([0, 2, 3, 4, 5, 6, 0, 1])
  assert attention.words_of(ids, Pieces()) == [0, 1, 1, 2, 2]
  assert attention.words_of(ids[:1], Pieces()) == []
  assert attention.words_of(ids[:4], Pieces()) == [0, 1, 1]


def test_a_word_looked_where_its_pieces_did():
  ids = np.array([0, 2, 3, 4, 0])
  places = np.zeros((4, 2, 2))
  places[0, 0, 0], places[1, 0, 1], places[2, 1, 1] = 1.0, 0.5, 0.25
  looks = attention.of_words(
    {"image": places, "prior_image": 0 * places, "context": np.array([0, 0.5, 0.7, 1])},
    ids,
    Pieces(),
  )
  assert looks.films.keys() == {"image"}
  expected = [[[1, 0], [0, 0]], [[0, 0.25], [0, 0.125]]]
  np.testing.assert_allclose(looks.films["image"], expected)
  assert looks.notes == ["indication and history 0%", "indication and history 60%"]
  topics = {"topics": np.array([[0.1, 0.6, 0.3, 0.0]] * 4)}
  looks = attention.of_words(topics, ids, Pieces(), ("a", "b", "c", "d"))
  assert looks.notes == ["b 60%, c 30%, a 10%"] * 2
