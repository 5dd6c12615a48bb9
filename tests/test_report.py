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

from data_pipelines import cli
from data_pipelines.records import Fact
from jaxrg import attention, report
from jaxrg.metrics import scoring

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is missing")
SECRET = "Zebra"  # In every text of the studies.


class Reader:
  """Every text claims edema if it says so, and nothing else."""

  def labels(self, text):
    labels = np.full(14, -2, np.int8)
    labels[4] = 1 if "edema" in text.lower() else -2
    return labels

  def read(self, text):
    change = "new" if "new edema" in text.lower() else ""
    return [Fact("Edema", "present", change=change)] if "edema" in text.lower() else []

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


def make(tmp_path, rows, include_text=True, more_of=None, **more):
  path = tmp_path / "report.html"
  metrics = scoring.score(rows, reader=Reader(), resamples=20)
  known = more_of or {}
  records = {
    row["id"]: record(int(row["patient_id"][1:])) | known.get(row["id"], {})
    for row in rows
  }
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


STUDY = """
const seen = [location.protocol];
const count = () => document.getElementById("count").textContent;
const press = (key) => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
"""


def browse(path, script):
  """What the script has `seen`, as the page's title, and the page after it.

  Nothing was complained of on the way.
  """
  script = f'{STUDY}{script}document.title = seen.join("|");'
  script = f"<script>{{{script}}}</script></body>"
  path.write_text(path.read_text("utf-8").replace("</body>", script), "utf-8")
  command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"]
  command += ["--disable-background-networking", "--enable-logging=stderr"]
  profile = path.with_name("profile")
  command += [f"--user-data-dir={profile}", "--dump-dom", path.as_uri()]
  run = subprocess.run(command, capture_output=True, text=True, timeout=60)
  assert "CONSOLE" not in run.stderr
  return html.unescape(re.search("<title>(.*?)</title>", run.stdout)[1]), run.stdout


BROWSE = """
const radio = (name) => document.querySelector(`input[value=${name}]`).click();
seen.push(count());
radio("wrong"); seen.push(count());
radio("prior"); seen.push(count());
radio("all"); press("j"); press("j"); press("j"); press("k");
seen.push(document.activeElement.id);
press("/"); seen.push(document.activeElement.type);
const search = document.querySelector("input[type=search]");
search.value = "P2_s1"; search.dispatchEvent(new Event("input")); seen.push(count());
"""


@needs_chromium
def test_a_browser_can_use_it(tmp_path, rows):
  path = make(tmp_path, rows)
  title, page = browse(path, BROWSE)
  assert title == (
    "file:|3 studies|2 studies (3 in all)|1 study (3 in all)|p1_s1_i1|search|"
    "1 study (3 in all)"
  )
  assert len(re.findall("<article", page)) == 1


TURN = """
const ids = () => [...document.querySelectorAll("article")].map((a) => a.id);
const pick = (id, value) => {
  document.getElementById(id).value = value;
  document.getElementById(id).dispatchEvent(new Event("change", {bubbles: true}));
};
seen.push(ids().length, ids()[0], count());
document.getElementById("on").click(); seen.push(ids()[0], count());
press("j"); press("k"); seen.push(document.activeElement.id, ids()[0]);
document.getElementById("on").click();
seen.push(ids().length, document.getElementById("on").disabled);
pick("order", "worst"); seen.push(ids()[0]);
pick("finding", "Edema"); pick("order", "best"); seen.push(ids()[0], count());
pick("finding", "Fracture"); seen.push(ids().length);
"""


@needs_chromium
def test_many_studies_come_by_pages(tmp_path):
  texts = ["new edema.", "clear.", "edema."]
  rows = [study(i, prediction=texts[i % 3]) for i in range(120)]
  path = make(tmp_path, rows)
  seen = browse(path, TURN)[0].split("|")
  assert seen[1:4] == ["50", "p0_s1_i1", "1\N{EN DASH}50 of 120 studies"]
  assert seen[4:6] == ["p50_s1_i1", "51\N{EN DASH}100 of 120 studies"]
  # One back from the first of a page is the last of the page before.
  assert seen[6:8] == ["p49_s1_i1", "p0_s1_i1"]
  assert seen[8:10] == ["50", "false"]
  assert seen[10:13] == ["p1_s1_i1", "p0_s1_i1", "1\N{EN DASH}50 of 120 studies"]
  assert seen[13] == "0"


LOOK = """
const report = document.querySelector("p[tabindex]");
report.focus();
const told = () => document.querySelector(".looks").textContent;
const heat = (name) => {
  const canvas = document.querySelector(`img[data-film=${name}] + canvas`);
  if (!canvas) return "none";
  const side = canvas.width;
  const {data} = canvas.getContext("2d").getImageData(0, 0, side, side);
  return [0, 1, 2, 3].map((i) => data[4 * i + 3]).join(" ");
};
press("ArrowRight"); seen.push(told(), heat("image"), heat("prior_image"));
press("ArrowRight"); seen.push(told(), heat("image"), heat("prior_image"));
press("ArrowLeft"); seen.push(heat("image"));
const words = document.querySelectorAll(".w");
words[2].dispatchEvent(new Event("mouseover", {bubbles: true}));
seen.push(document.querySelector(".w.on").textContent, words.length);
"""


@needs_chromium
def test_a_word_shows_what_it_looked_at(tmp_path, rows):
  maps = np.zeros((5, 2, 2))
  maps[0, 0, 1], maps[1], maps[2] = 0.4, [[0.1, 0.2], [0, 0]], 1
  prior = np.zeros((5, 2, 2))
  prior[1, 1, 1] = 0.05
  notes = [f"context {i}%" for i in range(5)]
  looks = attention.Looks({"image": maps, "prior_image": prior}, notes)
  rows = rows[:2][::-1]
  rows[0]["prediction"] = f"{SECRET} lungs with new edema."
  path = make(tmp_path, rows, more_of={rows[0]["id"]: {"looks": looks}})
  title, _ = browse(path, LOOK)
  _, *seen = title.split("|")
  assert seen[0].startswith(f"\N{LEFT DOUBLE QUOTATION MARK}{SECRET}")
  assert "looked at: context 0%, the shaded places" in seen[0]
  assert seen[1:3] == ["0 189 0 0", "0 0 0 0"]
  assert "context 1%" in seen[3]
  assert seen[4:6] == ["96 189 0 0", "0 0 0 48"]
  assert seen[6:] == ["0 189 0 0", "with", "5"]


def test_what_words_looked_at_stays_out_with_the_text(tmp_path, rows, monkeypatch):
  looks = attention.Looks({"image": np.ones((5, 2, 2))}, [f"{SECRET} 3%"] * 5)
  more = {row["id"]: {"looks": looks} for row in rows}
  with_text = data_of(make(tmp_path, rows, more_of=more).read_text("utf-8"))
  assert with_text["studies"][0]["looks"]["films"]["image"] == "/" * 20
  bare = make(tmp_path, rows, include_text=False, more_of=more)
  assert SECRET not in bare.read_text("utf-8")
  # Of as many studies as there is room for.
  monkeypatch.setattr(report, "LOOKS_BYTES", 50)
  some = data_of(make(tmp_path, rows, more_of=more).read_text("utf-8"))
  assert ["looks" in study for study in some["studies"]] == [True, True, False]
