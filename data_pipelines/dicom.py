"""DICOM radiographs: pixels as a display would show them, and nothing of the patient.

The only importer of pydicom, which comes with the extra `dicom`. Error texts are
our own throughout, because pydicom's quote the values of elements.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image

from data_pipelines import records

HEAD_BYTES = 132  # A preamble of 128 bytes, then "DICM".
MAX_PIXELS = 2**27
WINDOWS = ("display", "mimic_jpg")
EXTRA = "pip install 'jaxrg[dicom]'"


def is_dicom(head: bytes) -> bool:
  """Whether a file that begins with these bytes is DICOM (PS3.10, 7.1)."""
  return head[128:132] == b"DICM"


class DicomError(ValueError):
  """What is wrong with a file, in our own words."""


def read(path: str, window: str = "display") -> np.ndarray:
  """The one frame of a DICOM file: uint8, (height, width), dense tissue bright.

  By the window "display": rescale, then the VOI look-up table or the first window
  (PS3.3 C.11.2), then the range that remains, from least to greatest, onto 0..255;
  without either table or window that is the full range. MONOCHROME1 is inverted,
  padding is black. By "mimic_jpg", what is recalled of how MIMIC-CXR-JPG was made: the
  stored range, from least to greatest, onto 0..255, MONOCHROME1 inverted, then the
  histogram equalised. Raises ValueError, one line, without any value of an element.
  """
  if window not in WINDOWS:
    raise ValueError(f"Unknown DICOM window {window!r}; known: {', '.join(WINDOWS)}.")
  with _discretion(path):
    dataset = _load(path)
    if "PixelData" not in dataset:
      raise DicomError(
        f"{path}: is a DICOM file without an image, or cut off before it"
      )
    if int(dataset.get("NumberOfFrames") or 1) > 1:
      raise DicomError(f"{path}: is a DICOM file of several frames, not a radiograph")
    if dataset.Rows * dataset.Columns > MAX_PIXELS:
      raise DicomError(f"{path}: is too large to be a radiograph")
    pixels = _decode(path, dataset)
    if dataset.PhotometricInterpretation.startswith("MONOCHROME"):
      if window == "mimic_jpg":
        return equalised(_scaled(pixels, dataset))
      return _displayed(pixels, dataset)
    return _luma(pixels, dataset)


def view(path: str) -> str:
  """The view a DICOM file states, one of `records.VIEWS`; empty where it does not."""
  with _discretion(path):
    dataset = _load(path, stop_before_pixels=True)
    position = str(dataset.get("ViewPosition") or "").strip().upper()
    rows_run_to = str((dataset.get("PatientOrientation") or [""])[0])
  if position in records.VIEWS:
    return position
  if position in ("RL", "LAT") or rows_run_to[:1] in ("A", "P"):
    return "LATERAL"
  return ""


def _load(path: str, **options):
  try:
    import pydicom
  except ImportError:
    raise DicomError(f"{path}: to read DICOM, {EXTRA}") from None
  return pydicom.dcmread(path, **options)


def _decode(path: str, dataset) -> np.ndarray:
  from pydicom import pixels

  syntax = dataset.file_meta.TransferSyntaxUID
  try:
    decoder = pixels.get_decoder(syntax)
  except NotImplementedError:
    raise DicomError(f"{path}: its DICOM transfer syntax is not supported") from None
  if not decoder.is_available:
    raise DicomError(f"{path}: to decode {syntax.name}, {EXTRA}")
  try:
    return pixels.pixel_array(dataset)
  except Exception:  # Whatever the decoder that was chosen likes to raise.
    raise DicomError(
      f"{path}: its pixels cannot be decoded: truncated, damaged, or an unsupported "
      f"kind of {syntax.name}"
    ) from None


def _displayed(stored: np.ndarray, dataset) -> np.ndarray:
  from pydicom.pixels import apply_modality_lut, apply_voi_lut

  levels = apply_voi_lut(apply_modality_lut(stored, dataset), dataset)
  real = ~_padding(stored, dataset)
  return np.where(real, _scaled(levels, dataset, real), 0)


def _scaled(levels: np.ndarray, dataset, real: np.ndarray | None = None) -> np.ndarray:
  """Levels from the least to the greatest of the `real` ones onto 0..255, bright up."""
  some = levels if real is None else levels[real]
  low, high = (some.min(), some.max()) if some.size else (0, 0)
  scaled = (levels.astype(np.float64) - low) / max(float(high) - float(low), 1e-9)
  if dataset.PhotometricInterpretation == "MONOCHROME1":
    scaled = 1 - scaled
  return (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)


def equalised(image: np.ndarray) -> np.ndarray:
  """Greys, uint8, as even over 0..255 as whole levels can be, in the same order."""
  counts = np.bincount(image.ravel(), minlength=256)
  below = np.cumsum(counts)
  first = counts[image.min()]
  if below[-1] == first:  # Of one grey.
    return image
  table = (below - first) / (below[-1] - first) * 255
  return np.rint(np.clip(table, 0, 255)).astype(np.uint8)[image]


def _padding(stored: np.ndarray, dataset) -> np.ndarray:
  """Where there is no radiograph (PS3.3 C.7.5.1.1.2): boolean, as `stored`."""
  first = dataset.get("PixelPaddingValue")
  if first is None:
    return np.zeros(stored.shape, bool)
  last = dataset.get("PixelPaddingRangeLimit", first)
  return (stored >= min(first, last)) & (stored <= max(first, last))


def _luma(stored: np.ndarray, dataset) -> np.ndarray:
  """PIL's luma of a colour image, as of a PNG."""
  from pydicom.pixels import apply_color_lut

  bits = dataset.BitsStored
  if dataset.PhotometricInterpretation == "PALETTE COLOR":
    stored = apply_color_lut(stored, dataset)
    bits = 8 * stored.dtype.itemsize
  rgb = (stored[..., :3] >> max(bits - 8, 0)).astype(np.uint8)
  return np.array(Image.fromarray(rgb).convert("L"))


@contextlib.contextmanager
def _discretion(path: str) -> Iterator[None]:
  """Holds back whatever pydicom says, and makes its errors ours."""
  logger = logging.getLogger("pydicom")
  level = logger.level
  logger.setLevel(logging.CRITICAL + 1)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      yield
  except DicomError:
    raise
  except Exception:  # pydicom raises anything at all on a damaged file.
    raise DicomError(f"{path}: is a truncated or damaged DICOM file") from None
  finally:
    logger.setLevel(level)
