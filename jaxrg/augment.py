"""Films as another positioning or exposure would have shown them; on the device."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt8

FILMS = ("image", "prior_image")


def films(
  batch: Mapping[str, Array], key: jax.Array, *, shift: int, contrast: float
) -> dict[str, Array]:
  """The batch with its films moved and their greys stretched, each film by itself.

  A film moves by up to `shift` pixels along either axis, its border continued. Its
  greys are scaled around the middle by exp(contrast * n), and moved by contrast / 2 of
  their range times n', with n and n' standard normal.
  """
  changed = {}
  for name, film_key in zip(FILMS, jax.random.split(key, len(FILMS))):
    keys = jax.random.split(film_key, len(batch[name]))
    move = lambda key, film: _film(key, film, shift, contrast)
    changed[name] = jax.vmap(move)(keys, batch[name])
  return {**batch, **changed}


def _film(
  key: jax.Array, film: UInt8[Array, "height width 1"], shift: int, contrast: float
) -> UInt8[Array, "height width 1"]:
  place_key, scale_key, offset_key = jax.random.split(key, 3)
  padded = jnp.pad(film, ((shift, shift), (shift, shift), (0, 0)), mode="edge")
  top, left = jax.random.randint(place_key, (2,), 0, 2 * shift + 1)
  moved = jax.lax.dynamic_slice(padded, (top, left, 0), film.shape).astype(jnp.float32)
  scale = jnp.exp(contrast * jax.random.normal(scale_key))
  offset = 255 * contrast / 2 * jax.random.normal(offset_key)
  greys = (moved - 127.5) * scale + 127.5 + offset
  return jnp.round(jnp.clip(greys, 0, 255)).astype(jnp.uint8)
