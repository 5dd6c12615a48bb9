"""From a film on disk to a report, and every film that is none."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

import micro
from data_pipelines import cli, datasets
from jaxrg import reporting


@pytest.fixture(scope="module")
def film(tmp_path_factory):
  """A film of the training set, as PNG files: upright, turned, and cut short."""
  folder = tmp_path_factory.mktemp("films")
  records = datasets.load("thorax/tiny", "train")
  frontal = next(record for record in records if record["view"] == b"PA")
  pixels = frontal["image"][..., 0]
  Image.fromarray(pixels).save(folder / "film.png")
  noise = np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)
  Image.fromarray(noise).save(folder / "noise.png")
  data = (folder / "film.png").read_bytes()
  (folder / "truncated.png").write_bytes(data[: len(data) // 2])
  (folder / "empty.png").touch()
  (folder / "words.txt").write_text("Not a picture.")
  (folder / "folder").mkdir()
  dicom(folder / "report.dcm")
  return folder / "film.png"


def dicom(path):
  """A DICOM file without pixels, as a structured report is one."""
  pydicom = pytest.importorskip("pydicom")
  meta = pydicom.dataset.FileMetaDataset()
  meta.MediaStorageSOPClassUID = pydicom.uid.BasicTextSRStorage
  meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
  meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  dataset = pydicom.dataset.FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
  dataset.SOPClassUID = meta.MediaStorageSOPClassUID
  dataset.PatientName = "Doe^Jane"
  dataset.save_as(path, enforce_file_format=True)


def generate(finished, *arguments):
  return micro.verb("generate", f"--checkpoint={finished / 'export'}", *arguments)


def test_a_report_is_printed_alone(miniature, finished, film, capsys):
  assert generate(finished, film) == 0
  out, err = capsys.readouterr()
  expected = reporting.Reporter(finished / "export").report(film)
  assert out == expected.findings + "\n"
  assert err.strip() == expected.caution
  assert cli.INTENDED_USE in err
  assert "smoke test" in err


def test_prior_context_and_view_reach_the_model(miniature, finished, film, monkeypatch):
  """Each of them changes what the model is given, and nothing else does."""
  reporter = reporting.Reporter(finished / "export")
  batches = []
  generate = reporter._generate
  keep = lambda variables, batch: (batches.append(batch), generate(variables, batch))[1]
  monkeypatch.setattr(reporter, "_generate", keep)
  options = dict(
    prior=film, indication="Fever.", history="Smoker.", view="AP", prior_view="LATERAL"
  )
  reporter.report(film)
  reporter.report(film, **options)
  bare, full = batches
  assert not bare["has_prior"]
  assert not bare["prior_image"].any()
  assert full["has_prior"]
  np.testing.assert_array_equal(full["prior_image"], full["image"])
  np.testing.assert_array_equal(full["image"], bare["image"])
  assert (full["view"], full["prior_view"], bare["view"]) == (1, 2, 4)
  assert (full["context"] != bare["context"]).any()
  for name in ("report", "tokens"):  # Nothing of a report is given.
    np.testing.assert_array_equal(full[name], bare[name])


@pytest.mark.parametrize(
  ("part", "arguments"),
  [
    ("prior", ["--prior={film}"]),
    ("context", ["--indication=Fever."]),
    ("context", ["--history=Smoker."]),
  ],
)
def test_a_part_that_the_model_never_sees(
  miniature, finished, film, tmp_path, capsys, part, arguments
):
  shutil.copytree(finished / "export", tmp_path / "export")
  path = tmp_path / "export/config.json"
  facts = json.loads(path.read_text())
  facts["config"]["data"]["without"] = [part]
  path.write_text(json.dumps(facts))
  given = [argument.format(film=film) for argument in arguments]
  assert generate(tmp_path, film, *given) == 1
  assert f"trained without {part} (config.data.without)" in one_line(capsys)
  assert generate(tmp_path, film) == 0


def test_a_view_that_the_model_does_not_know(miniature, finished, tmp_path, capsys):
  """The user's is refused; the file's own becomes unk, and that is said."""
  pytest.importorskip("pydicom")
  film = pathlib.Path(__file__).parent / "data/dicom/explicit_le.dcm"  # PA, it says.
  arguments = (film, "--force", "--num_beams=1")
  unknown = "1 film has a view that is not in config.data.views and was read as unk"
  assert generate(finished, *arguments, "--prior_view=oblique") == 1
  assert "prior_view=oblique: the model knows PA, AP" in one_line(capsys)
  assert generate(finished, *arguments) == 0
  assert unknown not in capsys.readouterr().err
  shutil.copytree(finished / "export", tmp_path / "export")
  path = tmp_path / "export/config.json"
  facts = json.loads(path.read_text())
  facts["config"]["data"]["views"][0] = "POSTERIOR"
  path.write_text(json.dumps(facts))
  assert generate(tmp_path, *arguments) == 0
  assert f"{unknown}: PA (1)\n" in capsys.readouterr().err
  assert generate(tmp_path, *arguments, "--view=AP") == 0
  assert unknown not in capsys.readouterr().err


def test_sampling_is_by_its_seed(miniature, finished, film):
  options = {"temperature": 2.0, "top_p": 0.9}
  first, second = (
    reporting.Reporter(finished / "export", seed=seed, **options) for seed in (1, 2)
  )
  drawn = first.report(film).findings
  assert first.report(film).findings == drawn
  assert second.report(film).findings != drawn


def test_a_strange_picture_is_refused_unless_forced(miniature, finished, film, capsys):
  noise = film.with_name("noise.png")
  assert generate(finished, noise) == 1
  out, err = capsys.readouterr()
  assert out == ""
  refusal, error = err.splitlines()
  assert refusal.startswith(f"REFUSED: {noise} scores ")
  assert error.startswith("error: no report was written")
  assert generate(finished, noise, "--force") == 0
  out, err = capsys.readouterr()
  assert out.strip()
  assert err.startswith("REFUSED: ")


def test_a_strange_prior_is_refused_too(miniature, finished, film, capsys):
  assert generate(finished, film, f"--prior={film.with_name('noise.png')}") == 1
  out, err = capsys.readouterr()
  assert out == ""
  assert "noise.png scores" in err


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("missing.png", "cannot be read (No such file or directory)"),
    ("folder", "cannot be read (Is a directory)"),
    ("empty.png", "is an empty file"),
    ("truncated.png", "is a truncated or damaged PNG or JPEG file"),
    ("words.txt", "is neither PNG, JPEG nor DICOM"),
    ("report.dcm", "is a DICOM file without an image"),
  ],
)
def test_what_is_no_picture_is_named(miniature, finished, film, capsys, name, message):
  path = film.with_name(name)
  for arguments in ([path], [film, f"--prior={path}"]):
    assert generate(finished, *arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"error: {path}: ")
    assert message in err
    assert "Doe" not in err


def one_line(capsys):
  out, err = capsys.readouterr()
  assert out == ""
  assert err.startswith("error: ")
  assert err.count("\n") == 1
  return err


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "One image is needed"),
    (["a.png", "b.png"], "One image is needed"),
    (["a.png", "--view=oblique"], "view"),
    (["a.png", "--num_beams=0"], "num_beams"),
    (["a.png", "--temperature=-1"], "temperature"),
    (["a.png", "--top_p=2"], "top_p"),
    (["a.png", "--pryor=b.png"], "Unknown command line flag 'pryor'"),
    (["a.png", "--temperature=1", "--num_beams=3"], "set num_beams=1"),
  ],
)
def test_one_line_for_wrong_flags(miniature, finished, capsys, arguments, message):
  assert generate(finished, *arguments) == 1
  assert message in one_line(capsys)


def test_one_line_for_a_wrong_export(miniature, finished, film, tmp_path, capsys):
  verb = lambda *arguments: micro.verb("generate", *arguments)
  assert verb(film) == 1
  assert "--checkpoint" in one_line(capsys)
  assert verb(f"--checkpoint={tmp_path / 'none'}", film) == 1
  assert f"{tmp_path / 'none'} is no export" in one_line(capsys)
  assert verb(f"--checkpoint={finished / 'pretrain/export'}", film) == 1
  assert "cannot generate: stage 'pretrain'" in one_line(capsys)
  export = tmp_path / "export"
  shutil.copytree(finished / "export", export)
  for name in ("familiarity.npz", "tokenizer/tokenizer.json", "config.json"):
    (export / name).write_bytes((export / name).read_bytes()[:50])
    assert verb(f"--checkpoint={export}", film) == 1
    assert f"{export / name} is damaged" in one_line(capsys)
