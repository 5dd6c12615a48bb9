import pathlib

import data_store
import numpy as np
import pytest
from PIL import Image

from data_pipelines import familiarity, images
from data_pipelines.familiarity import DOUBTFUL, FAMILIAR, REFUSED
from data_pipelines.thorax import radiograph
from data_pipelines.thorax.finding import Finding

SIZE = 64
VIEWS = ("PA", "AP", "LATERAL")
FINDINGS = (
  (),
  (Finding("effusion", "left", severity=0.6),),
  (Finding("cardiomegaly", severity=0.7), Finding("pacemaker", "left", severity=0.5)),
  (Finding("pneumothorax", "right", severity=0.5),),
  (Finding("consolidation", "right", "lower", 0.8),),
)


def film(patient: int, view: str) -> np.ndarray:
  findings = FINDINGS[patient % len(FINDINGS)]
  return radiograph.compose(patient, findings, view, study=0, size=SIZE)


@pytest.fixture(scope="module")
def statistics():
  views = [VIEWS[patient % 3] for patient in range(60)]
  return familiarity.measure([film(*pair) for pair in enumerate(views)], views)


def sample(name: str) -> np.ndarray:
  """A DICOM file of pydicom-data, processed."""
  path = pathlib.Path(data_store.__file__).parent / "data" / name
  return images.process(images.read(path), SIZE)


@pytest.fixture(scope="module")
def real_film():
  return sample("RG1_UNCR.dcm")


@pytest.mark.parametrize("view", VIEWS)
def test_new_patients_are_no_strangers(statistics, view):
  verdicts = [familiarity.judge(film(p, view), statistics) for p in range(900, 908)]
  assert REFUSED not in [judgement.verdict for judgement in verdicts]
  assert sum(judgement.verdict == FAMILIAR for judgement in verdicts) >= 6
  frontal = view != "LATERAL"
  assert all((judgement.view != "LATERAL") == frontal for judgement in verdicts)


def test_a_real_film_passes(statistics, real_film):
  judgement = familiarity.judge(real_film, statistics)
  assert judgement.verdict in (FAMILIAR, DOUBTFUL)
  assert judgement.view in ("PA", "AP")
  # In the middle of the gap, not at its edge.
  assert judgement.score > statistics.refused + 0.1


def test_exposure_does_not_matter(statistics, real_film):
  darker = (255 * (real_film / 255.0) ** 3).astype(np.uint8)
  before, after = (familiarity.score(x, statistics) for x in (real_film, darker))
  assert abs(before - after) < 0.02


def test_padding_does_not_matter(statistics, real_film):
  inside = Image.fromarray(real_film[..., 0]).resize((SIZE - 16, SIZE - 16))
  padded = np.pad(np.array(inside), 8)
  before, after = (familiarity.score(x, statistics) for x in (real_film, padded))
  assert abs(before - after) < 0.1


def test_a_lateral_film_may_face_either_way(statistics):
  image = film(901, "LATERAL")
  before, after = (familiarity.score(x, statistics) for x in (image, image[:, ::-1]))
  assert abs(before - after) < 0.01


@pytest.mark.parametrize(
  "name",
  [
    "RG3_UNCR.dcm",  # A tibia.
    "JPGLosslessP14SV1_1s_1f_8b.dcm",  # An echocardiogram.
    "MR2_UNCR.dcm",  # A shoulder.
    "bad_sequence.dcm",  # A vertebra, axial.
    "US1_UNCR.dcm",
  ],
)
def test_other_pictures_are_refused(statistics, name):
  assert familiarity.judge(sample(name), statistics).verdict == REFUSED


def test_blank_and_noise_are_refused(statistics):
  noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
  nearly_blank = 100 + noise % 5
  for image in (noise, nearly_blank, np.zeros_like(noise)):
    assert familiarity.judge(image, statistics).verdict == REFUSED
  assert familiarity.score(nearly_blank, statistics) == 0


@pytest.mark.parametrize("view", ["PA", "LATERAL"])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_film_is_noticed(statistics, view, quarters):
  judgement = familiarity.judge(np.rot90(film(901, view), quarters), statistics)
  assert judgement.verdict in (DOUBTFUL, REFUSED)
  assert f"turned by {360 - 90 * quarters} degrees" in judgement.reason


def test_an_inverted_film_is_noticed(statistics, real_film):
  assert familiarity.judge(255 - real_film, statistics).verdict == REFUSED
  judgement = familiarity.judge(255 - film(901, "PA"), statistics)
  assert judgement.verdict == REFUSED
  assert "inverted" in judgement.reason


def test_statistics_survive_a_file(statistics, real_film):
  assert len(statistics.to_bytes()) < 8000
  loaded = familiarity.Statistics.from_bytes(statistics.to_bytes())
  before, after = (familiarity.judge(real_film, s) for s in (statistics, loaded))
  assert before == after


def test_no_mean_of_a_few_films():
  films = [film(patient, "PA") for patient in range(12)]
  views = ["PA"] * 10 + ["LATERAL"] * 2
  assert familiarity.measure(films, views).views == ("PA",)
  with pytest.raises(ValueError, match="no view has the 10 films"):
    familiarity.measure(films[:4], views[:4])
