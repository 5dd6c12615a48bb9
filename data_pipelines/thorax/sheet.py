"""A labelled contact sheet of what `radiograph` draws.

python -m data_pipelines.thorax.sheet OUT.png [--size=128]
"""

import argparse
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from data_pipelines.thorax.finding import Finding
from data_pipelines.thorax.radiograph import compose

COLUMNS = 9
LABEL_PX = 13
GREYS = 64  # As many as the eye tells apart in a thumbnail; halves the file.
MODERATE = 0.5
MODERATE_ONES = (
  "effusion left",
  "effusion right",
  "cardiomegaly",
  "consolidation right lower",
  "consolidation left upper",
  "opacity right middle",
  "opacity left lower",
  "atelectasis left lower",
  "edema",
  "pneumothorax left",
  "pneumothorax right",
  "nodule left upper",
  "nodule right lower",
  "fracture right",
  "fracture left",
  "mediastinum",
  "pleural_thickening left",
  "pleural_thickening right upper",
  "ett",
  "ngt",
  "central_line right",
  "central_line left",
  "pacemaker left",
  "pacemaker right",
  "chest_tube left",
  "chest_tube right",
  "atelectasis right upper",
)
LATERAL_ONES = (
  "effusion left",
  "cardiomegaly",
  "consolidation right lower",
  "opacity left upper",
  "edema",
  "nodule left lower",
  "pneumothorax left",
  "ett",
  "pacemaker left",
)
Cell = tuple[str, int, Sequence[Finding], str, int]  # label, patient, ..., view, study


def _finding(text: str, severity: float = MODERATE, seed: int = 1) -> Finding:
  """`name side location`, as the labels below have it."""
  name, side, location = (*text.split(), "", "")[:3]
  return Finding(name, side.strip("-"), location, severity, seed)


def _single(text: str, patient: int, view: str = "PA") -> Cell:
  label = text.removeprefix("pleural_")  # Too long for a column.
  return label, patient, [_finding(text)], view, 0


def _grades(text: str, patient: int) -> list[Cell]:
  grades = {"mild": 0.2, "moderate": 0.5, "severe": 0.85}
  return [
    (f"{text.split()[0]} {grade}", patient, [_finding(text, severity)], "PA", 0)
    for grade, severity in grades.items()
  ]


def _pair(text: str, before: float, after: float, patient: int) -> list[Cell]:
  label = " ".join(text.split()[:2])
  return [
    (f"{time} {label}", patient, [_finding(text, severity)], "AP", study)
    for study, (time, severity) in enumerate([("prior", before), ("now", after)])
  ]


def rows() -> list[list[Cell]]:
  """The sheet, row by row."""
  views = ("PA", "AP", "LATERAL")
  singles = [_single(text, 20 + i) for i, text in enumerate(MODERATE_ONES)]
  return [
    [(f"normal {view}", p, [], view, 0) for view in views for p in (1, 2, 3)],
    *(singles[i : i + COLUMNS] for i in range(0, len(singles), COLUMNS)),
    [*_grades("effusion right", 60), *_grades("pneumothorax left", 61)]
    + _grades("nodule right upper", 62),
    [*_grades("cardiomegaly", 63), *_grades("edema", 64)]
    + _grades("opacity left upper", 65),
    [
      *_pair("effusion left", 0.2, 0.7, 70),
      *_pair("consolidation right upper", 0.8, 0.3, 71),
      *_pair("nodule left upper", 0.3, 0.8, 72),
      *_pair("pneumothorax right", 0.7, 0.2, 73),
      ("same, PA", 73, [_finding("pneumothorax right", 0.2)], "PA", 1),
    ],
    [_single(text, 80 + i, "LATERAL") for i, text in enumerate(LATERAL_ONES)],
  ]


def draw(size: int) -> Image.Image:
  """The sheet as a picture of few greys."""
  table = rows()
  tall = size + LABEL_PX
  sheet = Image.new("L", (COLUMNS * size, len(table) * tall))
  pen = ImageDraw.Draw(sheet)
  for i, row in enumerate(table):
    for j, (label, patient, findings, view, study) in enumerate(row):
      image = compose(patient, findings, view, study=study, size=size)
      sheet.paste(Image.fromarray(image), (j * size, i * tall + LABEL_PX))
      pen.text((j * size + 2, i * tall + 1), label.replace("_", " "), 255)
  step = 256 / GREYS
  few = (np.asarray(sheet) // step * step).astype(np.uint8)
  return Image.fromarray(few).quantize(GREYS)


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description="draw a contact sheet of radiographs")
  parser.add_argument("out", metavar="OUT.png")
  parser.add_argument("--size", type=int, default=128, help="pixels a side")
  args = parser.parse_args(argv)
  draw(args.size).save(args.out, optimize=True)


if __name__ == "__main__":
  main()
