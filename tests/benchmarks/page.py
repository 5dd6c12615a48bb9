"""How soon report.html can be used at 5,000 invented studies, in headless Chromium.

python tests/benchmarks/page.py [--studies=5000]

Every second study has a prior; all have films, a report of some 30 words and what each
word looked at. Prints the file's size, the seconds to write it, and in the browser
those until the first page of studies is there, and of a search through all of them.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import numpy as np
from PIL import Image

from jaxrg import attention, report
from jaxrg.metrics import scoring

TRUTHS = (
  "There is a small left pleural effusion, larger than before. The heart is enlarged.",
  "Moderate opacity in the right lower lobe, new. No pneumothorax or pleural effusion.",
  "The lungs are clear. The heart is normal in size. There is no pleural effusion.",
)
SIDE = 8  # Places that words look at, along a side.
SCRIPT = """<script>{
const there = performance.now();
const search = document.querySelector("input[type=search]");
search.value = "p4999"; search.dispatchEvent(new Event("input"));
const found = document.querySelectorAll("article").length;
document.title = [there, performance.now() - there, found].join(" ");
}</script></body>"""


def film(rng: np.random.Generator) -> np.ndarray:
  small = Image.fromarray(rng.integers(0, 255, (12, 12), np.uint8))
  return np.asarray(small.resize((128, 128), Image.Resampling.BICUBIC))[..., None]


def invent(count: int) -> tuple[list[dict], dict[str, dict]]:
  """Rows of predictions, and what the page shows of each."""
  rng, rows, records = np.random.default_rng(0), [], {}
  for i in range(count):
    row = {
      "id": f"p{i}_s1",
      "patient_id": f"p{i}",
      "has_prior": i % 2 == 1,
      "reference": " ".join(rng.choice(TRUTHS, 2)),
      "prediction": " ".join(rng.choice(TRUTHS, 2)),
    }
    words = len(row["prediction"].split())
    films = {"image": rng.random((words, SIDE, SIDE))}
    shown = {"image": film(rng), "view": "PA", "study_time": "2150-01-02T03:04:05"}
    if row["has_prior"]:
      films["prior_image"] = rng.random((words, SIDE, SIDE))
      shown["prior_image"] = film(rng)
    shown["looks"] = attention.Looks(films, ["indication and history 12%"] * words)
    rows.append(row)
    records[row["id"]] = shown
  return rows, records


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--studies", type=int, default=5000)
  count = parser.parse_args().studies
  chromium = shutil.which("chromium") or shutil.which("chromium-browser")
  if chromium is None:
    raise SystemExit("Chromium is not installed.")
  rows, records = invent(count)
  metrics = scoring.score(rows, resamples=10)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "report.html"
    start = time.perf_counter()
    report.write(path, rows, metrics, include_text=True, records=records)
    written = time.perf_counter() - start
    size = os.path.getsize(path) / 2**20
    path.write_text(path.read_text("utf-8").replace("</body>", SCRIPT), "utf-8")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu"]
    command += [f"--user-data-dir={folder}/profile", "--dump-dom", path.as_uri()]
    start = time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    whole = time.perf_counter() - start
  there, searched, found = re.search("<title>(.*?)</title>", run.stdout)[1].split()
  print(f"{count} studies: {size:.1f} MiB, written in {written:.1f} s")
  print(f"first page of studies there after {float(there) / 1000:.2f} s,")
  print(f"a search through all {float(searched) / 1000:.2f} s ({found} found);")
  print(f"Chromium from start to end {whole:.1f} s")


if __name__ == "__main__":
  main()
