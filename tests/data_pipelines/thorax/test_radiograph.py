import hashlib
import subprocess
import sys

import numpy as np
import pytest

from data_pipelines.thorax.finding import Finding
from data_pipelines.thorax.radiograph import LOBAR, NAMES, SIDELESS, compose

DEVICES = ("ett", "ngt", "central_line", "pacemaker", "chest_tube")
PATHOLOGY = tuple(name for name in NAMES if name not in DEVICES)
SIDED = [name for name in NAMES if name not in SIDELESS]
PATIENTS = range(4)
# Grey levels that the plainest tenth of a percent of the pixels differs by, at
# severity 1/2 on a frontal view of 128 px; noise reaches 3.
VISIBLE = {"pneumothorax": 14, "nodule": 40}


def difference(finding, patient=0, view="PA", study=0, size=128):
  """What the finding changes, in grey levels: the exposure's noise is the same."""
  with_it = compose(patient, [finding], view, study=study, size=size)
  without = compose(patient, [], view, study=study, size=size)
  return with_it.astype(float) - without.astype(float)


def make(name, side=None, severity=0.5, location="", seed=1):
  side = ("" if name in SIDELESS else "left") if side is None else side
  return Finding(name, side, location, severity, seed)


def test_bytes_do_not_depend_on_calls_before():
  findings = [make("edema"), make("effusion"), make("ett")]
  first = compose(5, findings, "AP", study=2, seed=3)
  compose(6, [make("nodule")], "LATERAL", study=0, size=64)
  again = compose(5, findings[::-1], "AP", study=2, seed=3)
  assert first.dtype == np.uint8
  assert first.shape == (128, 128)
  np.testing.assert_array_equal(first, again)


def test_bytes_are_those_of_another_process():
  code = (
    "import hashlib; from data_pipelines.thorax.radiograph import compose;"
    "from data_pipelines.thorax.finding import Finding;"
    "f = [Finding('consolidation', 'right', 'lower', .4, 9)];"
    "i = compose(1, f, 'PA', study=0, size=64);"
    "print(hashlib.sha256(i.tobytes()).hexdigest())"
  )
  there = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  ).stdout.strip()
  finding = Finding("consolidation", "right", "lower", 0.4, 9)
  here = compose(1, [finding], "PA", study=0, size=64)
  assert hashlib.sha256(here.tobytes()).hexdigest() == there


@pytest.mark.parametrize("view", ["PA", "AP", "LATERAL"])
@pytest.mark.parametrize("name", PATHOLOGY)
def test_severity_shows(name, view):
  change = np.zeros(5)
  for patient in PATIENTS:
    for i, severity in enumerate((0.0, 0.25, 0.5, 0.75, 1.0)):
      finding = make(name, severity=severity, seed=patient)
      change[i] += abs(difference(finding, patient, view, size=64)).mean()
  assert change[0] > 0
  assert np.all(np.diff(change) > 0.02 * change[-1]), change


@pytest.mark.parametrize("view", ["PA", "AP"])
@pytest.mark.parametrize("name", NAMES)
def test_half_severity_is_visible(name, view):
  for patient in PATIENTS:
    side = None if name in SIDELESS else ("left", "right")[patient % 2]
    change = abs(difference(make(name, side, seed=patient), patient, view))
    plainest = np.sort(change.ravel())[-16:].mean()
    assert plainest > VISIBLE.get(name, 20), (patient, plainest)


@pytest.mark.parametrize("name", [n for n in SIDED if n != "central_line"])
@pytest.mark.parametrize("view", ["PA", "AP"])
def test_left_is_on_the_viewers_right(name, view):
  for patient in PATIENTS:
    left = abs(difference(make(name, "left", seed=patient), patient, view))
    right = abs(difference(make(name, "right", seed=patient), patient, view))
    assert left[:, 64:].sum() > 1.5 * left[:, :64].sum()
    assert right[:, :64].sum() > 1.5 * right[:, 64:].sum()


@pytest.mark.parametrize("name", ["opacity", "consolidation", "nodule", "atelectasis"])
def test_upper_is_above_lower(name):
  rows = np.arange(128)
  for view in ("PA", "LATERAL"):
    for side in ("left", "right"):
      heights = []
      for location in ("upper", "lower"):
        finding = make(name, side, location=location)
        weight = np.clip(difference(finding, 2, view), 3, None).sum(1) - 3 * 128
        heights.append((weight * rows).sum() / weight.sum())
      assert heights[0] + 8 < heights[1], (view, side)


def test_a_nodule_grows_in_place():
  small = difference(make("nodule", severity=0.34), 7, study=0)
  large = difference(make("nodule", severity=0.9), 7, study=0)

  def middle(change):
    return np.argwhere(change > 0.5 * change.max()).mean(0)

  np.testing.assert_allclose(middle(small), middle(large), atol=1.5)
  other = difference(make("nodule", severity=0.9, seed=2), 7, study=0)
  assert np.hypot(*(middle(other) - middle(large))) > 3


@pytest.mark.parametrize("patient", PATIENTS)
def test_a_nodule_is_as_wide_as_its_severity_says(patient):
  """Moderate begins at 15 mm; a pixel is 322 / 128 mm."""
  change = difference(make("nodule", severity=1 / 3, seed=patient), patient)
  area = (change > 5).sum() * (322 / 128) ** 2
  assert 15 < 2 * np.sqrt(area / np.pi) < 28


def test_studies_of_one_patient_are_alike_and_not_the_same():
  def unlike(a, b):
    return abs(a.astype(float) - b.astype(float)).mean()

  first, second = (compose(3, [], "PA", study=s) for s in (0, 1))
  others = [compose(p, [], "PA", study=0) for p in (4, 5, 6)]
  assert unlike(first, second) > 1
  assert unlike(first, second) < 0.8 * np.mean([unlike(first, o) for o in others])
  assert min(unlike(first, o) for o in others) > 2


def test_ap_is_noisier():
  def noise(view):
    image = compose(1, [], view, study=0, size=256).astype(float)
    abdomen = image[225:245, 40:90]
    return abs(np.diff(abdomen, axis=1)).mean()

  assert noise("AP") > 1.3 * noise("PA")


@pytest.mark.parametrize("view", ["PA", "AP"])
def test_cardiomegaly_widens_the_heart_to_both_sides(view):
  """The lung beside the heart turns white, more of it the larger the heart."""
  wide = []
  for severity in (0.2, 0.5, 0.9):
    change = difference(make("cardiomegaly", severity=severity), 3, view)
    assert change.min() > -12
    band = change[64:90].mean(0)  # Rows of the ventricles.
    white = np.flatnonzero(band > 8)
    assert white[0] < 56
    assert white[-1] > 80
    wide.append((band > 12).sum())
  assert wide[0] < wide[1] < wide[2]


@pytest.mark.parametrize("size", [64, 518])
def test_sizes(size):
  image = compose(0, [make("pacemaker")], "PA", study=0, size=size)
  assert image.shape == (size, size)
  assert image.max() > 200
  assert 60 < image.mean() < 150


@pytest.mark.parametrize(
  ("finding", "message"),
  [
    (Finding("effusoin", "left"), "finding 'effusoin' is not one of"),
    (Finding("effusion", "both"), "effusion: side 'both'"),
    (Finding("edema", "left"), "edema: side 'left'"),
    (Finding("nodule", "left", "middle"), "nodule left: no location 'middle'"),
    (Finding("effusion", "left", "upper"), "effusion left: no location 'upper'"),
    (Finding("edema", severity=1.5), "edema: severity 1.5"),
  ],
)
def test_bad_findings(finding, message):
  with pytest.raises(ValueError, match=message) as error:
    compose(0, [finding], "PA", study=0)
  assert "\n" not in str(error.value)


def test_bad_view():
  with pytest.raises(ValueError, match="view 'pa' is not one of PA, AP, LATERAL"):
    compose(0, [], "pa", study=0)


@pytest.mark.parametrize("name", LOBAR)
def test_every_lobe_can_be_drawn(name):
  for side, lobes in {"left": ("upper", "lower", ""), "right": ("middle", "")}.items():
    for location in lobes:
      change = difference(make(name, side, location=location), size=64)
      assert abs(change).max() > 10
