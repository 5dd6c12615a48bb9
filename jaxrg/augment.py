"""Films as another positioning or exposure would have shown them; on the device."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

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


def radiographs(
  images: UInt8[Array, "b height width 1"],
  key: jax.Array,
  *,
  crop: tuple[float, float] = (0.5, 1.0),
  rotation: float = 10.0,
  contrast: float = 0.2,
  flip: bool = False,
  cutout: tuple[int, float] = (0, 0.0),
) -> Float[Array, "b height width 1"]:
  """Films as contrastive learning sees them, greys 0 to 255, each by itself.

  A part of a share of the area within `crop` is drawn, its sides at most 4:3 of one
  another for a square film, turned by up to `rotation` degrees, mirrored or not under
  `flip`, and resampled once, to the size of the film. Then brightness and contrast
  are multiplied by 1 +- `contrast`, contrast around the film's mean, and `cutout`
  squares (how many, side as a share of the film's) get that mean. The recipes of spec
  eir 2.5, without their steps that leave grey films as they are:

    mococxr   crop=(1, 1), contrast=0, flip=True
    c2l       crop=(.2, 1), contrast=.4, flip=True, cutout=(3, 1 / 7)
    ours      as the defaults
  """

  def change(key, film):
    place_key, grey_key, hole_key = jax.random.split(key, 3)
    film = film[..., 0].astype(jnp.float32)
    film = _resampled(film, *_places(place_key, film.shape, crop, rotation, flip))
    film = _exposed(grey_key, film, contrast)
    return _with_holes(hole_key, film, *cutout)[..., None]

  return jax.vmap(change)(jax.random.split(key, len(images)), images)


def _places(
  key: jax.Array,
  shape: tuple[int, int],
  crop: tuple[float, float],
  rotation: float,
  flip: bool,
) -> tuple[Float[Array, "height width"], Float[Array, "height width"]]:
  """Row and column of the film that each pixel shows."""
  area_key, ratio_key, corner_key, angle_key, flip_key = jax.random.split(key, 5)
  area = jax.random.uniform(area_key, minval=crop[0], maxval=crop[1])
  # No wider than the film itself; torchvision draws again until it is so.
  widest = jnp.minimum(jnp.log(4 / 3), -jnp.log(area))
  ratio = jnp.exp(widest * jax.random.uniform(ratio_key, minval=-1.0))
  share = jnp.minimum(jnp.sqrt(jnp.stack([area / ratio, area * ratio])), 1.0)
  corner = jax.random.uniform(corner_key, (2,)) * (1 - share)

  angle = jnp.deg2rad(rotation) * jax.random.uniform(angle_key, minval=-1.0)
  side = jnp.where(flip & jax.random.bernoulli(flip_key), -1.0, 1.0)
  height, width = shape
  row = (jnp.arange(height) + 0.5 - height / 2)[:, None]
  column = side * (jnp.arange(width) + 0.5 - width / 2)[None, :]
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  turned = cos * row - sin * column, sin * row + cos * column
  centre = corner + share / 2
  return tuple(
    size * centre[i] + share[i] * turned[i] - 0.5 for i, size in enumerate(shape)
  )


def _resampled(
  film: Float[Array, "height width"],
  row: Float[Array, "height width"],
  column: Float[Array, "height width"],
) -> Float[Array, "height width"]:
  """The film at the given places, bilinear; beyond its border that goes on.

  A black corner would tell by how much a film was turned.
  """
  height, width = film.shape
  row, column = jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)
  top, left = (jnp.floor(x).astype(jnp.int32) for x in (row, column))
  down, right = row - top, column - left
  below, beside = jnp.minimum(top + 1, height - 1), jnp.minimum(left + 1, width - 1)
  upper = film[top, left] * (1 - right) + film[top, beside] * right
  lower = film[below, left] * (1 - right) + film[below, beside] * right
  return upper * (1 - down) + lower * down


def _exposed(
  key: jax.Array, film: Float[Array, "height width"], contrast: float
) -> Float[Array, "height width"]:
  draws = jax.random.uniform(key, (2,), minval=1 - contrast, maxval=1 + contrast)
  mean = film.mean()
  return jnp.clip(draws[0] * (mean + draws[1] * (film - mean)), 0, 255)


def _with_holes(
  key: jax.Array, film: Float[Array, "height width"], count: int, share: float
) -> Float[Array, "height width"]:
  """The film with its mean grey in `count` squares, which then change it least."""
  height, width = film.shape
  side = round(share * min(height, width))
  corners = jax.random.uniform(key, (count, 2))
  top = jnp.floor(corners[:, :1] * (height - side + 1))
  left = jnp.floor(corners[:, 1:] * (width - side + 1))
  rows, columns = jnp.arange(height), jnp.arange(width)
  rows = (rows >= top) & (rows < top + side)
  columns = (columns >= left) & (columns < left + side)
  hole = (rows[:, :, None] & columns[:, None, :]).any(axis=0)
  return jnp.where(hole, film.mean(), film)
