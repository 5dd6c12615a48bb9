"""Small image files, good ones and every kind of odd one, as bytes."""

import io

import numpy as np
from PIL import Image

UNREADABLE = ("truncated", "empty", "missing", "web page")
KINDS = (*UNREADABLE, "16-bit PNG", "palette PNG")


def contents(layout: str, size: tuple[int, int]) -> dict[str, tuple[bytes, ...]]:
  """Files by kind, some of each; a good one is JPEG or DICOM, by the layout."""
  height, width = size
  slopes = [np.linspace(a, b, width) for a in (0, 40, 90) for b in (160, 250)]
  pictures = [np.tile(s, (height, 1)).astype(np.uint8) for s in slopes]
  write = _jpeg if layout == "jpg" else _dicom
  good = tuple(write(picture) for picture in pictures)
  return {
    "good": good,
    "truncated": tuple(content[: len(content) // 2] for content in good),
    "empty": (b"",),
    "web page": (b"<!DOCTYPE html><title>401 Unauthorized</title>",),
    "16-bit PNG": tuple(_png(Image.fromarray(p.astype(np.uint16))) for p in pictures),
    "palette PNG": tuple(_png(Image.fromarray(p).convert("P")) for p in pictures),
  }


def _png(image: Image.Image) -> bytes:
  file = io.BytesIO()
  image.save(file, "PNG")
  return file.getvalue()


def _jpeg(picture: np.ndarray) -> bytes:
  file = io.BytesIO()
  Image.fromarray(picture).save(file, "JPEG", quality=95)
  return file.getvalue()


def _dicom(picture: np.ndarray) -> bytes:
  from pydicom.dataset import Dataset, FileMetaDataset
  from pydicom.uid import ExplicitVRLittleEndian, generate_uid

  meta = FileMetaDataset()
  meta.TransferSyntaxUID = ExplicitVRLittleEndian
  meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
  meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["a fake film"])
  film = Dataset()
  film.file_meta = meta
  film.SOPClassUID = meta.MediaStorageSOPClassUID
  film.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
  film.Modality = "DX"
  film.Rows, film.Columns = picture.shape
  film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
  film.BitsAllocated, film.BitsStored, film.HighBit = 16, 12, 11
  film.PixelRepresentation = 0
  film.PixelData = (picture.astype("<u2") * 16).tobytes()
  file = io.BytesIO()
  film.save_as(file, enforce_file_format=True)
  return file.getvalue()
