"""Invented reports in the spellings of MIMIC-CXR's, with what is in their findings."""

import zipfile

import numpy as np

ASKED = (
  "___ year old woman with cough and fever // eval for pneumonia",
  "___-year-old man with shortness of breath. Evaluate for edema.",
  "___F s/p line placement, check position",
  "Chest pain, rule out pneumothorax.",
  "___ year old man with weakness and a fall // fracture? infection?",
)
SEEN = (
  "The lungs are clear of focal consolidation.",
  "There is no pneumothorax or large pleural effusion.",
  "Heart size is mildly enlarged, similar to the film of ___.",
  "A small right pleural effusion has developed since the earlier study.",
  "Patchy opacity at the left base may be atelectasis or early infection.",
  "The endotracheal tube ends 4.2 cm above the carina.",
  "An enteric tube courses below the diaphragm, its tip out of view.",
  "Mild interstitial edema has improved.",
  "No acute fracture of the ribs is seen.",
  "The aorta is tortuous; the hilar contours are otherwise normal.",
  "A dual-lead pacer is in place, its leads unchanged.",
  "Low lung volumes crowd the bronchovascular markings.",
  "A 7 mm nodule projects over the right upper lobe.",
  "Old granulomatous disease is noted: calcified nodes, no active lesion.",
  "Surgical clips lie in the left axilla.",
  "Blunting of the left costophrenic angle persists, and is of no concern.",
)
MEANT = (
  "No acute cardiopulmonary process.",
  "Mild pulmonary edema, improved.",
  "1. Small right pleural effusion.\n 2. Tube in a standard place.",
  "Left basilar opacity; consider pneumonia in the right setting.",
  "Limited study without definite change.",
)
COMPARED = ("None.", "Chest radiograph ___.", "___ at 05:12", "CT of the chest, ___.")
DONE = ("CHEST (PA AND LAT)", "CHEST (PORTABLE AP)", "DX CHEST, 2 VIEWS")
FINDINGS = ("FINDINGS: ", "FINDINGS:", "Findings:", "FINDINGS :", "FINDING:")
IMPRESSION = ("IMPRESSION: ", "IMPRESSION:", "Impression:", "CONCLUSION:")
WANTED = ("INDICATION:", "REASON FOR EXAMINATION:", "HISTORY:", "CLINICAL INFORMATION:")
TITLE = " " * 33 + "FINAL REPORT"

KINDS = ("", "no findings", "empty findings", "no headers", "addendum", "both")


def report(rng: np.random.Generator, kind: str = "") -> tuple[str, str]:
  """A report and its findings, in one line; empty where it has no such section."""
  pick = lambda texts: texts[rng.integers(len(texts))]
  seen = [SEEN[i] for i in rng.permutation(len(SEEN))[: rng.integers(2, 6)]]
  body = "\n ".join(seen)  # Each sentence in a line of its own, indented by one.
  said = " ".join(seen)
  if kind == "no headers":
    return f"{TITLE}\n {body}\n", ""
  parts = [TITLE, f" EXAMINATION:  {pick(DONE)}\n", f" {pick(WANTED)}  {pick(ASKED)}\n"]
  if rng.random() < 0.5:
    parts.append(f" TECHNIQUE:  {pick(DONE).capitalize()}.\n")
  if rng.random() < 0.8:
    parts.append(f" COMPARISON:  {pick(COMPARED)}\n")
  if kind == "both":
    parts.append(f" FINDINGS AND IMPRESSION: \n \n {body}\n")
    return "\n".join(parts), said
  if kind == "empty findings":
    parts.append(" FINDINGS: \n")
  elif kind != "no findings":
    parts.append(f" {pick(FINDINGS)}\n \n {body}\n")
  parts.append(f" {pick(IMPRESSION)}\n \n {pick(MEANT)}\n")
  if kind == "addendum":
    parts.insert(0, f"ADDENDUM  The line was withdrawn by 2 cm.\n\n{'_' * 60}\n")
  return "\n".join(parts), "" if kind in ("no findings", "empty findings") else said


def write(root, rng, made, zipped: bool, odd) -> None:
  """Writes the reports of studies, sets their `findings` and counts the faults."""
  files = {}
  for study in made:
    kind = study.fault.removeprefix("report ")
    text, said = report(rng, kind if kind in KINDS else "")
    content = text.encode()
    match study.fault:
      case "report missing" | "report empty" | "report too large":
        said = ""
        content = {"report too large": b"x" * (2**20 + 1)}.get(study.fault, b"")
        empty = study.fault == "report empty"
        odd["empty report" if empty else study.fault] += 1
      case "report latin-1":
        content = text.replace("FINAL", "FINAL (caf\xe9)", 1).encode("latin-1")
        odd["report not UTF-8"] += 1
      case "report control characters":
        content = content.replace(b"\n", b"\r\n").replace(b". ", b".\x00\x07 ")
    study.findings = said
    if study.fault != "report missing":
      files[f"{study.folder}.txt"] = content
  if zipped:
    with zipfile.ZipFile(root / "mimic-cxr-reports.zip", "w", 8) as archive:
      for name, content in files.items():
        archive.writestr(name, content)
      archive.writestr("../files/p10/p10000000/s50000000.txt", "outside")
    odd["path outside the root"] += 1
    return
  for name, content in files.items():
    path = root / "mimic-cxr-reports" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
