import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from data_pipelines import images

DATA = pathlib.Path(__file__).parents[1] / "data"


def gradient(height: int, width: int) -> np.ndarray:
  rng = np.random.default_rng([height, width])
  coarse = Image.fromarray(rng.integers(0, 256, (6, 5), dtype=np.uint8))
  return np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))


def write(path: pathlib.Path, image: Image.Image, **options) -> pathlib.Path:
  image.save(path, **options)
  return path


def test_equals_published_processor():
  golden = np.load(DATA / "processor.npz")
  pixels = images.process(images.read(DATA / "processor.png"), 518)
  assert pixels.shape == (518, 518, 1)
  assert pixels.dtype == np.uint8
  scaled = pixels[..., 0].astype(np.float32) * np.float32(1 / 255)
  standardised = (scaled - np.float32(images.MEAN)) / np.float32(images.STD)
  for channel in golden["samples"]:
    np.testing.assert_allclose(standardised[::37, ::41], channel, rtol=0, atol=3e-7)
  total = 3 * standardised.sum(dtype=np.float64)
  # The golden sum ran in float32 over 804,972 values.
  np.testing.assert_allclose(total, golden["sum"], rtol=2e-6)


def test_longer_side_is_truncated_and_centre_is_kept():
  image = gradient(10, 17)  # At 4 px, 17 * 4 / 10 = 6.8 is 6, not 7.
  resized = Image.fromarray(image).resize((6, 4), Image.Resampling.BICUBIC)
  expected = np.array(resized)[:, 1:5]
  np.testing.assert_array_equal(images.process(image, 4)[..., 0], expected)
  upright = Image.fromarray(image.T).resize((4, 6), Image.Resampling.BICUBIC)
  expected = np.array(upright)[1:5]
  np.testing.assert_array_equal(images.process(image.T, 4)[..., 0], expected)


def test_process_is_identity_at_its_own_size():
  image = gradient(32, 32)
  np.testing.assert_array_equal(images.process(image[..., None], 32)[..., 0], image)


def test_kind_is_told_by_content(tmp_path):
  image = gradient(40, 30)
  path = write(tmp_path / "film.dcm", Image.fromarray(image), format="PNG")
  np.testing.assert_array_equal(images.read(path), image)
  assert images.view(path) == ""


def test_jpeg(tmp_path):
  image = gradient(40, 30)
  path = write(tmp_path / "film", Image.fromarray(image), format="JPEG", quality=95)
  assert np.abs(images.read(path).astype(int) - image).max() <= 6


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_in_other_modes_is_the_same_grey(tmp_path, mode):
  image = gradient(40, 30)
  path = write(tmp_path / "film.png", Image.fromarray(image).convert(mode))
  np.testing.assert_array_equal(images.read(path), image)


@pytest.mark.filterwarnings("error")
def test_palette_with_transparency_keeps_its_colours(tmp_path):
  image = Image.new("P", (2, 1))
  image.putpalette([0, 0, 0, 250, 100, 50])
  image.putdata([0, 1])
  path = write(tmp_path / "film.png", image, transparency=b"\x80\xff")
  luma = (250 * 299 + 100 * 587 + 50 * 114) / 1000
  np.testing.assert_allclose(images.read(path), [[0, luma]], atol=1)


@pytest.mark.parametrize("factor", [257, 16, 1])  # 16 bits used, 12 bits, 8 bits.
def test_deep_png_is_scaled_not_clipped(tmp_path, factor):
  image = gradient(40, 30)
  image[0, 0] = 255
  deep = image.astype(np.uint16) * factor
  path = write(tmp_path / "film.png", Image.fromarray(deep))
  assert np.abs(images.read(path).astype(int) - image).max() <= (factor == 16)


def test_exif_orientation_is_honoured(tmp_path):
  image = gradient(40, 30)
  exif = Image.Exif()
  exif[0x0112] = 6  # To be turned by a quarter, clockwise.
  path = write(tmp_path / "film.png", Image.fromarray(image), exif=exif)
  np.testing.assert_array_equal(images.read(path), np.rot90(image, -1))


def encoded(kind: str) -> bytes:
  buffer = io.BytesIO()
  Image.fromarray(gradient(200, 150)).save(buffer, kind)
  return buffer.getvalue()


@pytest.mark.parametrize(
  ("content", "words"),
  [
    (b"", "empty file"),
    (b"The lungs are clear.", "neither PNG, JPEG nor DICOM"),
    (encoded("BMP"), "neither PNG, JPEG nor DICOM"),
    (encoded("PNG")[:900], "truncated"),
    (encoded("PNG")[:20], "truncated"),
    (encoded("JPEG")[:900], "truncated"),
    (encoded("JPEG")[:20], "truncated"),
  ],
)
def test_bad_content_is_named_in_one_line(tmp_path, content, words):
  path = tmp_path / "film.png"
  path.write_bytes(content)
  with pytest.raises(ValueError) as caught:
    images.read(path)
  message = str(caught.value)
  assert str(path) in message
  assert words in message
  assert "\n" not in message


def test_missing_file_and_directory(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"none\.png: cannot be read \(No such"):
    images.read(tmp_path / "none.png")
  with pytest.raises(IsADirectoryError, match="cannot be read"):
    images.read(tmp_path)


def test_a_strip_is_refused(tmp_path):
  strip = Image.fromarray(np.zeros((2, 50), np.uint8))
  path = write(tmp_path / "strip.png", strip)
  with pytest.raises(ValueError, match=r"strip\.png: 50 x 2 px is too narrow"):
    images.read(path)


def test_only_uint8_is_processed():
  with pytest.raises(ValueError, match="uint16"):
    images.process(np.zeros((4, 4), np.uint16), 2)
