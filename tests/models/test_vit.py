import jax
import jax.numpy as jnp
import numpy as np

from jaxrg.models.vit import ConvStem, PatchStem, ViT


def make(stem):
  return ViT(stem=stem, num_layers=2, num_heads=2, width=8, mlp_dim=16)


def test_every_block_is_returned_and_the_last_one_normalised():
  vit = make(PatchStem(width=8, patch_size=4))
  image = jax.random.normal(jax.random.key(0), (2, 8, 12, 1))
  (states, last), _ = jax.jit(vit.init_with_output)(jax.random.key(1), image)
  assert states.shape == (2, 2, 1 + 2 * 3, 8)
  final = np.asarray(states[:, -1], np.float64)
  centred = final - final.mean(-1, keepdims=True)
  expected = centred / np.sqrt(final.var(-1, keepdims=True) + 1e-6)
  np.testing.assert_allclose(last, expected, rtol=1e-4, atol=1e-5)


def test_patches_are_read_row_by_row_behind_the_class_token():
  stem = PatchStem(width=3, patch_size=2)
  image = jnp.arange(4.0).repeat(2).reshape(1, 1, 8, 1).repeat(2, axis=1)
  image = jnp.concatenate([image, image + 10], axis=1)  # 2 x 4 patches.
  kernel = jnp.zeros((2, 2, 3, 3)).at[0, 0, 0].set(1.0)  # The patch's first pixel.
  params = {"patch": {"kernel": kernel, "bias": jnp.zeros(3)}, "cls": jnp.full(3, -1.0)}
  tokens = stem.apply({"params": params}, image)
  assert tokens[0, :, 0].tolist() == [-1, 0, 1, 2, 3, 10, 11, 12, 13]


def test_the_grey_image_is_seen_three_times():
  stem = PatchStem(width=3, patch_size=2)
  image = jax.random.normal(jax.random.key(0), (1, 4, 4, 1))
  variables = stem.init(jax.random.key(1), image)
  np.testing.assert_array_equal(
    stem.apply(variables, image), stem.apply(variables, image.repeat(3, axis=-1))
  )


def test_convolutional_stem_keeps_places():
  """A token sees its surroundings, and nothing at the other end of the image."""
  stem = ConvStem(width=8, block=4, channels=(4, 8))
  image = jnp.zeros((1, 64, 64, 1))
  variables = jax.jit(stem.init)(jax.random.key(0), image)
  apply = jax.jit(stem.apply)
  assert apply(variables, image).shape == (1, 16, 8)
  changed = apply(variables, image.at[0, 40, 24].set(5.0)) - apply(variables, image)
  moved = np.abs(np.asarray(changed)).max(-1).reshape(4, 4)
  assert moved[2, 1] > 0
  assert (moved[0] == 0).all()
  assert (moved[:, 3] == 0).all()


def test_images_that_are_not_there_do_not_move_the_stem_s_statistics():
  stem = ConvStem(width=8, block=4, channels=(4,), depth=1)
  # Of two images each place's statistics would be little but their signs.
  image = jax.random.normal(jax.random.key(0), (32, 16, 16, 1))
  mask = jnp.arange(32) % 2 == 0
  variables = stem.init(jax.random.key(1), image)
  apply = lambda image, mask: stem.apply(
    variables, image, mask, train=True, mutable=["batch_stats"]
  )
  tokens, masked = apply(image, mask)
  real, alone = apply(image[::2], None)
  np.testing.assert_allclose(tokens[::2], real, rtol=1e-5, atol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), masked, alone)
  assert jax.tree.map(jnp.shape, masked) == jax.tree.map(
    jnp.shape, {"batch_stats": variables["batch_stats"]}
  )
  _, unmoved = apply(image, jnp.zeros(32, bool))
  jax.tree.map(
    np.testing.assert_array_equal, unmoved["batch_stats"], variables["batch_stats"]
  )


def test_a_batch_without_one_image_that_is_there_stays_finite():
  """As of prior images in a small batch; the normalisations come one after another."""
  stem = ConvStem(width=8, block=4, channels=(4, 8), depth=4)
  image = jnp.zeros((3, 32, 32, 1)).at[:, 0].set(1.0)
  variables = stem.init(jax.random.key(1), image)

  def total(params):
    tokens, _ = stem.apply(
      variables | {"params": params},
      image,
      jnp.zeros(3, bool),
      train=True,
      mutable=["batch_stats"],
    )
    return jnp.square(tokens).sum()

  value, gradient = jax.jit(jax.value_and_grad(total))(variables["params"])
  assert value < 1e6
  assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_a_mean_over_places_tells_them_apart():
  """The same shadow elsewhere is another finding, to a reader that sees no places."""
  stem = ConvStem(width=8, block=4, channels=(4,))
  image = jnp.zeros((1, 32, 32, 1))
  variables = stem.init(jax.random.key(0), image)
  shadow = jnp.ones((8, 8))
  here = image.at[0, 12:20, 8:16, 0].set(shadow)
  there = image.at[0, 12:20, 16:24, 0].set(shadow)
  mean = lambda image: stem.apply(variables, image).mean(axis=1)
  assert jnp.abs(mean(here) - mean(there)).max() > 0.05 * jnp.abs(mean(here)).max()
