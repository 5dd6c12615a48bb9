"""The tables of a fake download, and what their faults are to be counted as.

Every function returns or writes rows, and adds to `odd` what it has planted in them.
"""

import csv
import gzip
import io

from data_pipelines import records

STATED = ("ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime")
METADATA = ("dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription")
RECORDS = ("subject_id", "study_id", "dicom_id", "path")
SPLITS = ("train", "validate", "test")


def write(path, rows, gzipped: bool) -> None:
  """Rows as CSV; a row that is a string is a line that is written as it is."""
  file = io.StringIO()
  table = csv.writer(file, lineterminator="\n")
  for row in rows:
    if isinstance(row, str):
      file.write(f"{row}\n")
    else:
      table.writerow(row)
  content = file.getvalue().encode()
  if gzipped:
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content, 1))
  else:
    path.write_bytes(content)


def images(made, layout: str, planted: bool, odd) -> list:
  """The metadata of JPG, or the record list of DICOM; with extra rows if `planted`."""
  row = _metadata_row if layout == "jpg" else _record_row
  rows = [METADATA + STATED if layout == "jpg" else RECORDS]
  for study in made:
    for film in study.films:
      rows.append(row(study.patient, study.id, film.id, film.view, study))
    if planted and study.fault == "image twice":
      rows.append(row(study.patient, study.id, study.films[0].id, "AP", study))
      odd["duplicate image id"] += 1
  if planted:
    study, other = made[0], made[-1]
    extra = lambda patient, study_id, film_id: rows.append(
      row(patient, study_id, film_id, "AP", study)
    )
    extra(study.patient, "", "aaaaaaaa-bbbbbbbb")
    extra("", study.id, "aaaaaaaa-cccccccc")
    odd["image without study"] += 2
    extra(study.patient, study.id, "../../../etc/passwd")
    extra(f"../{study.patient}", study.id, "aaaaaaaa-dddddddd")
    odd["path outside the root"] += 2
    extra(other.patient, study.id, "aaaaaaaa-eeeeeeee")
    odd["study of two patients"] += 1
    rows += ["aaaaaaaa-ffffffff,10000032", '"aaaaaaaa-00000000,' + "," * len(rows[0])]
    extra("p10000032", study.id, "aaaaaaaa-11111111")
    odd["line damaged"] += 3
  return rows


def _metadata_row(patient, study_id, film_id, view, study) -> tuple:
  done = "CHEST (PA AND LAT), 2 VIEWS"
  return film_id, patient, study_id, done, view, 3056, 2544, study.date, study.time


def _record_row(patient, study_id, film_id, view, study) -> tuple:
  path = f"files/p{patient[:2]}/p{patient}/s{study_id}/{film_id}.dcm"
  return patient, study_id, film_id, path


def listed(made) -> list:
  """MIMIC-CXR's list of studies."""
  return [
    ("subject_id", "study_id", "path"),
    *((study.patient, study.id, f"{study.folder}.txt") for study in made),
  ]


def split(made, planted: bool, odd) -> list:
  """The split of each film; some have none, or one that nobody knows."""
  rows = [("dicom_id", "study_id", "subject_id", "split")]
  homes = {}
  for study in made:
    for film in study.films:
      if film.split == "damaged":
        rows.append(f"{film.id},{study.id}")
        odd["line damaged"] += 1
      elif film.split:
        rows.append((film.id, study.id, study.patient, film.split))
      if film.split in SPLITS:
        homes.setdefault(study.patient, set()).add(film.split)
      else:
        odd["split unknown" if film.split == "holdout" else "split missing"] += 1
  odd["patient in two splits"] += sum(len(found) > 1 for found in homes.values())
  if planted:
    rows.append(("bbbbbbbb-cccccccc", made[0].id, made[0].patient, "train"))
    odd["image without study"] += 1
  return rows


def labels(rng, made, planted: bool, odd) -> list:
  """The classes of each study in alphabetical order, as CheXpert's labeller writes."""
  rows = [("subject_id", "study_id", *sorted(records.LABELS))]
  values = rng.choice(
    ["1.0", "0.0", "-1.0", ""], (len(made), 14), p=(0.2, 0.1, 0.1, 0.6)
  )
  for study, row in zip(made, values.tolist()):
    if study.fault == "labels damaged":
      row[3] = "2.0"
      odd.update(("line damaged", "labels missing"))
    if study.fault == "labels missing":
      odd["labels missing"] += 1
    else:
      rows.append((study.patient, study.id, *row))
  if planted:
    rows.append((made[0].patient, "59999999", *values[0]))
    odd["labels without study"] += 1
  return rows


def count_stated(made, odd) -> None:
  """Counts the faults of what the metadata state."""
  for study in made:
    if study.fault.startswith(("date ", "time ")):
      odd[study.fault] += 1
    odd["unknown view"] += sum(film.view not in records.VIEWS for film in study.films)
