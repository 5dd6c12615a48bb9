"""From an image file to the encoder's pixels, exactly as the published processor.

A file becomes 8-bit grey once, here; the rest of the processor is geometry. Its last
part, `(pixels / 255 - MEAN) / STD`, is left to the device, so that a stored image
is one byte a pixel.
"""

import os

import numpy as np
from PIL import Image, ImageOps

from data_pipelines import dicom

MEAN, STD = 0.5307, 0.2583  # RAD-DINO's, of grey levels in 0..1.

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
MAX_ASPECT = 16  # Beyond it, the resized longer side would not fit in memory.


def read(path: str | os.PathLike, dicom_window: str = "display") -> np.ndarray:
  """The picture in a PNG, JPEG or DICOM file: uint8, (height, width).

  The kind is told by content. Colour becomes PIL's luma, transparency is dropped and
  EXIF orientation is honoured; `dicom_window` is as `dicom.read` takes it. Raises
  OSError where the file cannot be read and ValueError where it holds no usable picture;
  both name the file in one line.
  """
  path = os.fspath(path)
  if dicom.is_dicom(_head(path)):
    image = dicom.read(path, dicom_window)
  else:
    image = _read_raster(path)
  height, width = image.shape
  if max(height, width) > MAX_ASPECT * min(height, width):
    raise ValueError(f"{path}: {width} x {height} px is too narrow for a radiograph")
  return image


def view(path: str | os.PathLike) -> str:
  """The view that the file itself states, one of `records.VIEWS`; else empty."""
  path = os.fspath(path)
  return dicom.view(path) if dicom.is_dicom(_head(path)) else ""


def process(image: np.ndarray, size: int) -> np.ndarray:
  """A picture (height, width[, 1]) as the encoder sees it: uint8, (size, size, 1).

  The shorter side becomes `size`, the longer one is truncated to whole pixels;
  bicubic on uint8 as PIL does it, then the central square.
  """
  if image.dtype != np.uint8:
    raise ValueError(f"the processor takes uint8, not {image.dtype}")
  height, width = image.shape[:2]
  short = min(height, width)
  new_height, new_width = size * height // short, size * width // short
  resized = Image.fromarray(image.reshape(height, width)).resize(
    (new_width, new_height), Image.Resampling.BICUBIC
  )
  top, left = (new_height - size) // 2, (new_width - size) // 2
  square = resized.crop((left, top, left + size, top + size))
  return np.array(square)[..., None]


def _head(path: str) -> bytes:
  """The first bytes of a file, enough to tell its kind; never empty."""
  try:
    with open(path, "rb") as file:
      start = file.read(dicom.HEAD_BYTES)
  except OSError as error:
    raise type(error)(f"{path}: cannot be read ({error.strerror})") from None
  if not start:
    raise ValueError(f"{path}: is an empty file")
  return start


def _read_raster(path: str) -> np.ndarray:
  if not _head(path).startswith((PNG, JPEG)):
    raise ValueError(f"{path}: is neither PNG, JPEG nor DICOM")
  try:
    with Image.open(path, formats=("PNG", "JPEG")) as image:
      return _grey(ImageOps.exif_transpose(image))
  except Image.DecompressionBombError:
    raise ValueError(f"{path}: is too large to be a radiograph") from None
  except (OSError, SyntaxError, ValueError, EOFError):  # All of them are PIL's.
    raise ValueError(f"{path}: is a truncated or damaged PNG or JPEG file") from None


def _grey(image: Image.Image) -> np.ndarray:
  if image.mode.startswith("I"):  # 16-bit grey: PIL would clip it at 255.
    levels = np.asarray(image)
    # How many of the bits are used is written nowhere: the least that hold the
    # maximum. The 16-bit copy of an 8-bit picture comes back unchanged.
    bits = max(8, int(levels.max()).bit_length())
    return (levels * (255 / (2**bits - 1)) + 0.5).astype(np.uint8)
  if image.mode not in ("1", "L", "LA"):
    # By way of RGBA, or PIL warns of palettes with transparency.
    image = image.convert("RGBA").convert("RGB")
  return np.array(image.convert("L"))
