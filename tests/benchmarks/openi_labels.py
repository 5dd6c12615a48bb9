"""The rule labeler beside the people who indexed the Open-I reports by MeSH terms.

pip install --no-deps torchxrayvision==1.5.7
python tests/benchmarks/openi_labels.py [--disagreements=Fracture | --sample=50]

An indexer chose the terms of what a report says is there, of findings and impression;
reports that were not indexed are left out, and so are labels without a term of theirs.
What is uncertain counts as present, as an indexer takes it. Reports are read in place:
--disagreements and --sample print them to the terminal, and nothing is written.
"""

import argparse
import pathlib
import sys
import tarfile
import time
from xml.etree import ElementTree

import numpy as np

from data_pipelines import findings
from data_pipelines.records import LABELS, PRESENT, UNCERTAIN

sys.path.append(str(pathlib.Path(__file__).parents[1]))
import openi

# By label the terms that mean it, each "HEADING" or "HEADING/one of its qualifiers".
TERMS = {
  "Enlarged Cardiomediastinum": ("Mediastinum/enlarged", "Mediastinum/prominent"),
  "Cardiomegaly": ("Cardiomegaly", "Cardiac Shadow/enlarged", "Heart/enlarged"),
  "Lung Opacity": ("Opacity", "Infiltrate", "Airspace Disease", "Consolidation"),
  "Lung Lesion": ("Nodule", "Mass", "Granuloma", "Calcified Granuloma"),
  "Edema": ("Pulmonary Edema", "Pulmonary Congestion", "Heart Failure"),
  "Consolidation": ("Consolidation",),
  "Pneumonia": ("Pneumonia",),
  "Atelectasis": ("Pulmonary Atelectasis",),
  "Pneumothorax": ("Pneumothorax", "Hydropneumothorax", "Hemopneumothorax"),
  "Pleural Effusion": (
    *("Pleural Effusion", "Hydropneumothorax", "Hemopneumothorax", "Hemothorax"),
  ),
  "Pleural Other": ("Thickening/pleura", "Cicatrix/pleura", "Calcinosis/pleura"),
  "Fracture": ("Fractures, Bone",),
  "Support Devices": (
    *("Catheters, Indwelling", "Implanted Medical Device", "Tube, Inserted"),
    "Medical Device",
  ),
}
NOT_INDEXED = "No Indexing"


def terms(path: pathlib.Path) -> dict[str, list[list[str]]]:
  """The terms of each report that was indexed: heading and qualifiers."""
  found = {}
  with tarfile.open(path) as files:
    for file in files:
      if file.name.endswith(".xml"):
        root = ElementTree.parse(files.extractfile(file)).getroot()
        given = [term.text.strip().split("/") for term in root.iter("major")]
        if given and [NOT_INDEXED] not in given:
          found[pathlib.PurePosixPath(file.name).stem] = given
  return found


def means(label: str, term: list[str]) -> bool:
  """Whether a term says that a label is present."""
  heading, *qualifiers = term
  return any(
    heading == wanted and (not qualifier or qualifier in qualifiers)
    for wanted, _, qualifier in (known.partition("/") for known in TERMS[label])
  )


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--disagreements", choices=TERMS)
  parser.add_argument("--sample", type=int, default=0, help="So many of all, to read.")
  options = parser.parse_args()
  archive = openi.archive()
  if archive is None:
    raise SystemExit("There is no torchxrayvision here: pip install --no-deps it.")
  indexed, reports = terms(archive), openi.reports(archive)
  names = sorted(indexed.keys() & reports.keys())
  began = time.perf_counter()
  read = np.array([findings.labels(reports[name]) for name in names])
  seconds = time.perf_counter() - began
  claimed = (read == PRESENT) | (read == UNCERTAIN)
  print(f"{len(names)} reports, {len(names) / seconds:,.0f} a second")
  print(f"{'label':28}{'n':>5}{'read':>6}{'precision':>11}{'recall':>8}{'F1':>7}")
  apart = []
  for label in TERMS:
    truth = np.array([any(means(label, t) for t in indexed[name]) for name in names])
    said = claimed[:, LABELS.index(label)]
    both = (truth & said).sum()
    precision, recall = both / max(said.sum(), 1), both / max(truth.sum(), 1)
    f1 = 2 * both / max(truth.sum() + said.sum(), 1)
    print(
      f"{label:28}{truth.sum():5}{said.sum():6}{precision:11.3f}{recall:8.3f}{f1:7.3f}"
    )
    differ = np.flatnonzero(truth != said)
    apart += [(label, truth[i], names[i]) for i in differ]
    if label == options.disagreements:
      for i in differ:
        show(label, truth[i], indexed[names[i]], reports[names[i]])
  print(f"{len(apart)} disagreements")
  order = np.random.default_rng(0).permutation(len(apart))[: options.sample]
  for place, i in enumerate(sorted(order), 1):
    label, is_true, name = apart[i]
    print(f"{place}. {name}")
    show(label, is_true, indexed[name], reports[name])


def show(label: str, is_true: bool, given: list[list[str]], report: str) -> None:
  """A disagreement, for a reader."""
  print(f"  {label} {'missed' if is_true else 'claimed'}: {given}")
  print(f"    {' '.join(report.split())}")


if __name__ == "__main__":
  main()
