import logging
import pathlib
import sys
import traceback
import warnings

import numpy as np
import pydicom
import pytest

from data_pipelines import dicom, images

DATA = pathlib.Path(__file__).parents[1] / "data" / "dicom"
FILES = sorted(path.name for path in DATA.glob("*.dcm"))
SECRETS = ("Invented", "Nobody", "4711", "1.2.3.4")


def edited(tmp_path, **elements) -> pathlib.Path:
  """The plain file with these elements; None deletes one."""
  dataset = pydicom.dcmread(DATA / "explicit_le.dcm")
  for keyword, value in elements.items():
    if value is None:
      del dataset[keyword]
    elif keyword.startswith("PixelPadding"):
      dataset.add_new(keyword, "SS", value)
    else:
      setattr(dataset, keyword, value)
  dataset.save_as(tmp_path / "film.dcm")
  return tmp_path / "film.dcm"


def stored(**elements) -> dict:
  """Elements that make the picture these 16-bit `pixels`, without a window."""
  pixels = np.asarray(elements.pop("pixels"))
  return {
    "Rows": pixels.shape[0],
    "Columns": pixels.shape[1],
    "PixelData": pixels.astype("<i2").tobytes(),
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "WindowCenter": None,
    "WindowWidth": None,
    **elements,
  }


def test_every_variant_is_the_same_picture():
  assert len(FILES) == 6
  pictures = [images.read(DATA / name).astype(int) for name in FILES]
  assert pictures[0].shape == (122, 115)
  assert (pictures[0].min(), pictures[0].max()) == (0, 255)
  for picture in pictures[1:]:
    assert np.abs(picture - pictures[0]).max() <= 1


def test_bone_is_bright_and_air_is_dark():
  picture = images.read(DATA / "explicit_le.dcm")
  spine, lung = picture[50:100, 54:60], picture[30:45, 85:95]
  assert spine.mean() > lung.mean() + 50


def test_full_range_without_a_window(tmp_path):
  path = edited(tmp_path, **stored(pixels=[[-100, 0], [100, 410]]))
  np.testing.assert_array_equal(images.read(path), [[0, 50], [100, 255]])


def test_rescale_precedes_the_window(tmp_path):
  elements = stored(
    pixels=[[0, 100], [200, 300]], RescaleSlope=2, RescaleIntercept=-100
  )
  path = edited(tmp_path, **{**elements, "WindowCenter": 200.5, "WindowWidth": 201})
  # Rescaled: -100, 100, 300, 500; the window runs from 100 to 300.
  np.testing.assert_array_equal(images.read(path), [[0, 0], [255, 255]])


def test_the_first_of_several_windows(tmp_path):
  elements = stored(pixels=[[0, 100], [200, 300]])
  windows = {"WindowCenter": [50.5, 200], "WindowWidth": [101, 1000]}
  path = edited(tmp_path, **{**elements, **windows})
  np.testing.assert_array_equal(images.read(path), [[0, 255], [255, 255]])


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_sets_no_range(tmp_path, photometric):
  elements = stored(pixels=[[-2000, -1990], [0, 255]], PixelPaddingValue=-2000)
  elements |= {
    "PixelPaddingRangeLimit": -1990,
    "PhotometricInterpretation": photometric,
  }
  tissue = [255, 0] if photometric == "MONOCHROME1" else [0, 255]
  path = edited(tmp_path, **elements)
  np.testing.assert_array_equal(images.read(path), [[0, 0], tissue])


def test_blank_is_no_error(tmp_path):
  path = edited(tmp_path, **stored(pixels=[[7, 7], [7, 7]]))
  assert images.read(path).max() == 0


def test_colour_is_luma(tmp_path):
  path = edited(
    tmp_path,
    Rows=1,
    Columns=2,
    SamplesPerPixel=3,
    PlanarConfiguration=0,
    PhotometricInterpretation="RGB",
    BitsAllocated=8,
    BitsStored=8,
    HighBit=7,
    PixelData=bytes([90, 90, 90, 255, 0, 0]),
  )
  np.testing.assert_array_equal(images.read(path), [[90, 76]])


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize(
  ("position", "orientation", "view"),
  [
    ("PA", ["L", "F"], "PA"),
    ("ap", ["L", "F"], "AP"),
    ("LL", ["P", "F"], "LL"),
    ("RL", ["A", "F"], "LATERAL"),
    ("", ["PL", "F"], "LATERAL"),
    ("", ["L", "F"], ""),
    ("Nobody", "", ""),
  ],
)
def test_stated_view(tmp_path, position, orientation, view):
  path = edited(tmp_path, ViewPosition=position, PatientOrientation=orientation)
  assert images.view(path) == view


def refusal(path, caplog) -> str:
  """The one-line text of the error, nothing of the patient in it or beside it."""
  with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG):
    warnings.simplefilter("always")
    with pytest.raises(ValueError) as caught:
      images.read(path)
  message = str(caught.value)
  assert str(path) in message
  assert "\n" not in message
  shown = "".join(traceback.format_exception(caught.value)) + caplog.text
  shown += "".join(str(warning.message) for warning in warned)
  shown = shown.replace(str(path), "")
  assert not [secret for secret in SECRETS if secret in shown]
  return message


@pytest.mark.parametrize(
  ("elements", "words"),
  [
    ({"PixelData": None}, "without an image"),
    ({"NumberOfFrames": 2}, "several frames"),
    ({"Rows": 500}, "cannot be decoded"),
    ({"PhotometricInterpretation": None}, "damaged"),
    ({"WindowWidth": -4}, "damaged"),
  ],
)
def test_unusable_files(tmp_path, caplog, elements, words):
  assert words in refusal(edited(tmp_path, **elements), caplog)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_truncated_files(tmp_path, caplog, name, share):
  content = (DATA / name).read_bytes()
  path = tmp_path / "cut.dcm"
  path.write_bytes(content[: max(140, int(share * len(content)))])
  message = refusal(path, caplog)
  assert "truncated" in message or "cut" in message


def test_damaged_values_are_not_quoted(tmp_path, caplog):
  content = (DATA / "explicit_le.dcm").read_bytes()
  # A number that is a name: pydicom's own error would print it.
  at = content.index(b"\x28\x00\x50\x10DS\x06\x00") + 8
  broken = content[:at] + b"Nobody" + content[at + 6 :]
  path = tmp_path / "film.dcm"
  path.write_bytes(broken)
  refusal(path, caplog)


def test_warnings_are_not_passed_on(tmp_path, caplog):
  content = (DATA / "explicit_le.dcm").read_bytes()
  path = tmp_path / "film.dcm"
  path.write_bytes(content.replace(b"ISO_IR 100", b"Nobody 100"))
  with pytest.warns(UserWarning, match="Nobody"):  # What has to be held back.
    pydicom.dcmread(path)
  assert "Nobody" in caplog.text
  caplog.clear()
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert images.view(path) == "PA"
    assert images.read(path).shape == (122, 115)
  assert caplog.text == ""


def test_unknown_transfer_syntax(tmp_path, caplog):
  dataset = pydicom.dcmread(DATA / "explicit_le.dcm")
  dataset.file_meta.TransferSyntaxUID = "1.2.3.4.99"
  path = tmp_path / "film.dcm"
  pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=True)
  assert "transfer syntax is not supported" in refusal(path, caplog)


def test_missing_extra_is_named(monkeypatch, caplog):
  monkeypatch.setitem(sys.modules, "pydicom", None)
  assert "pip install 'jaxrg[dicom]'" in refusal(DATA / "jpegls.dcm", caplog)


def test_missing_decoder_is_named(monkeypatch, caplog):
  from pydicom import pixels

  class Decoder:
    is_available = False

  monkeypatch.setattr(pixels, "get_decoder", lambda syntax: Decoder)
  message = refusal(DATA / "jpegls.dcm", caplog)
  assert "JPEG-LS" in message
  assert dicom.EXTRA in message
