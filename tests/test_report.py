"""The page: what is in it, what must not be, and that a browser can use it."""

import base64
import html
import io
import json
import re
import shutil
import stat
import subprocess

import numpy as np
import pytest
from PIL import Image

from jaxrg import cli, report
from jaxrg.metrics import scoring

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECRET = "Zebra"  # In every text of the studies.


class Reader:
  """Every text claims edema if it says so, and nothing else."""

  def labels(self, text):
    labels = np.full(14, -2, np.int8)
    labels[4] = 1 if "edema" in text.lower() else -2
    return labels

  def changes(self, text, among=()):
    return frozenset({("Edema", "", "new")} if "new edema" in text.lower() else ())


def picture(seed, side=128):
  rng = np.random.default_rng(seed)
  small = Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8))
  smooth = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))
  noise = rng.integers(-6, 6, smooth.shape)
  return np.clip(smooth + noise, 0, 255).astype(np.uint8)[..., None]


def study(i, *, prediction):
  return {
    "id": f"p{i}_s1_i1",
    "patient_id": f"p{i}",
    "view": "PA",
    "has_prior": i % 2 == 1,
    "reference": f"{SECRET} lungs with new edema.",
    "prediction": prediction,
    "prior_report": f"{SECRET} lungs.",
  }


def record(i):
  return {
    "image": picture(2 * i),
    "view": "PA",
    "study_time": "2150-02-03T10:11:12",
    "prior_image": picture(2 * i - 1) if i % 2 else None,
    "prior_view": "AP",
    "prior_time": "2150-01-02T03:04:05",
    "indication": f"{SECRET} & <fever>",
    "history": "",
  }


def make(tmp_path, rows, include_text=True, **more):
  path = tmp_path / "report.html"
  metrics = scoring.score(rows, reader=Reader(), resamples=20)
  records = {row["id"]: record(i) for i, row in enumerate(rows)}
  report.write(
    path,
    rows,
    metrics,
    include_text=include_text,
    records=records,
    reader=Reader(),
    **more,
  )
  return path


def data_of(page):
  return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


@pytest.fixture
def rows():
  texts = [
    f"{SECRET} lungs with new edema.",
    f"{SECRET} lungs. </script><script>alert(1)</script>",
    "",
  ]
  return [study(i, prediction=text) for i, text in enumerate(texts)]


def test_what_is_in_it(tmp_path, rows):
  path = make(tmp_path, rows, title="A & B", notes=["Split: test."])
  page = path.read_text("utf-8")
  assert stat.S_IMODE(path.stat().st_mode) == 0o600
  for words in ("A & B", cli.INTENDED_USE, "Split: test.", "Language, protocol raw"):
    assert html.escape(words) in page
  data = data_of(page)
  first, second, third = data["studies"]
  assert [s["wrong"] for s in data["studies"]] == [False, True, True]
  assert [s["prior"] for s in data["studies"]] == [False, True, False]
  assert first["chips"][0][:2] == ["Edema", "right"]
  assert second["chips"][1][:2] == ["Edema new", "missed"]
  assert second["context"] == [["Indication", f"{SECRET} & <fever>"]]
  assert (second["facts"], second["prior_caption"]) == (
    "PA, 2150-02-03 10:11",
    "AP, 2150-01-02",
  )
  assert third["generated"] == []
  assert third["reference"][0]["mark"] == "missed"


def test_images_are_the_films(tmp_path, rows):
  data = data_of(make(tmp_path, rows).read_text("utf-8"))
  second = data["studies"][1]
  assert len(data["images"]) == 4  # Three current ones and a prior.
  png = base64.b64decode(data["images"][second["image"]].partition(",")[2])
  found = np.asarray(Image.open(io.BytesIO(png)))
  np.testing.assert_array_equal(found, picture(2)[..., 0])


def test_what_a_report_was_written_from(tmp_path, rows):
  told = {"like": "s1 (0.98)", "graph": "data:image/svg+xml;base64,PHN2Zy8+"}
  path = tmp_path / "report.html"
  metrics = scoring.score(rows, reader=Reader(), resamples=20)
  known = {rows[0]["id"]: record(0) | told}
  write = lambda include_text: report.write(
    path, rows, metrics, include_text=include_text, records=known, reader=Reader()
  )
  write(True)
  data = data_of(path.read_text("utf-8"))
  first, second, _ = data["studies"]
  assert ["Like", "s1 (0.98)"] in first["context"]
  assert data["images"][first["graph"]] == told["graph"]
  assert second["graph"] == ""
  write(False)
  assert "s1 (0.98)" not in path.read_text("utf-8")
  assert "svg+xml" not in path.read_text("utf-8")


def test_a_prior_that_is_another_current_image_is_stored_once():
  images = [{"image": picture(0)}, {"image": picture(1), "prior_image": picture(0)}]
  album = report.Album(images)
  keys = [album.add(image.get(key)) for image in images for key in image]
  assert keys[0] == keys[2] != keys[1]
  assert len(album.images) == 2
  assert album.add(None) == ""


def test_text_cannot_end_the_script(tmp_path, rows):
  page = make(tmp_path, rows).read_text("utf-8")
  assert "alert(1)" in page
  assert "<script>alert" not in page
  assert page.count("</script>") == 2


def test_it_fetches_nothing(tmp_path, rows):
  page = make(tmp_path, rows).read_text("utf-8")
  assert "default-src 'none'" in page
  assert not re.search(r"https?://|@import|url\(", page)
  assert not re.search(r'(src|href)="(?!data:)', page)


def test_credentialed_text_and_images_stay_out(tmp_path, rows):
  page = make(tmp_path, rows, include_text=False).read_text("utf-8")
  for secret in (SECRET, "fever", "2150", "data:image", "lungs"):
    assert secret not in page
  assert report.WITHHELD in html.unescape(page)
  data = data_of(page)
  assert data["images"] == {}
  assert [s["id"] for s in data["studies"]] == [row["id"] for row in rows]
  assert data["studies"][1]["chips"][0][:2] == ["Edema", "missed"]


def test_images_shrink_to_the_size_allowed(monkeypatch):
  images = [{"image": picture(i, side=256)} for i in range(40)]
  whole = sum(len(report._png(image["image"], 256)) for image in images)
  monkeypatch.setattr(report, "IMAGE_BYTES", whole // 3)
  album = report.Album(images)
  for image in images:
    album.add(image["image"])
  size = sum(len(data) * 3 / 4 for data in album.images.values())
  assert whole / 12 < size < 1.1 * whole / 3


BROWSE = """<script>{
const seen = [location.protocol];
const radio = (name) => document.querySelector(`input[value=${name}]`).click();
const count = () => document.getElementById("count").textContent;
const press = (key) => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", {key, bubbles: true}));
seen.push(count());
radio("wrong"); seen.push(count());
radio("prior"); seen.push(count());
radio("all"); press("j"); press("j"); press("j"); press("k");
seen.push(document.activeElement.id);
press("/"); seen.push(document.activeElement.type);
const search = document.querySelector("input[type=search]");
search.value = "P2_s1"; search.dispatchEvent(new Event("input")); seen.push(count());
document.title = seen.join("|");
}</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_can_use_it(tmp_path, rows):
  path = make(tmp_path, rows)
  path.write_text(path.read_text("utf-8").replace("</body>", BROWSE), "utf-8")
  command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"]
  command += ["--disable-background-networking", "--enable-logging=stderr"]
  command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
  run = subprocess.run(command, capture_output=True, text=True, timeout=60)
  assert "CONSOLE" not in run.stderr
  title = re.search("<title>(.*?)</title>", run.stdout)[1]
  assert title == (
    "file:|3 of 3 studies|2 of 3 studies|1 of 3 studies|p1_s1_i1|search|1 of 3 studies"
  )
  assert len(re.findall("<article", run.stdout)) == 3
