"""Which study is in which split: as the download says, or as a paper drew them."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from data_pipelines.raw.studies import SPLITS, Study

Splits = Mapping[str, str]  # By study; a study that is not in it has none.


def official(studies: Sequence[Study]) -> Splits:
  """The splits that the download itself states."""
  return {study.study_id: study.split for study in studies if study.split}


def nguyen_mimic(studies: Sequence[Study]) -> Splits:
  """72 % of the patients for training, 8 % for validation, 20 % for the test.

  Published: patients drawn 80 to 20 with numpy's seed 0, then studies 90 to 10, so that
  a patient could be in training and in validation. Here both cuts are of patients.
  """
  patients = sorted({study.patient_id for study in studies})
  seen = len(patients) * 8 // 10
  cuts = (seen * 9 // 10, seen)
  homes = _cut(np.random.RandomState(0).permutation(patients).tolist(), cuts)
  return {study.study_id: homes[study.patient_id] for study in studies}


def nguyen_open_i(studies: Sequence[Study]) -> Splits:
  """70, 10 and 20 % of the studies, drawn with numpy's seed 123 from the sorted ids.

  Of Open-I's 3,337 usable studies these are 2,335, 334 and 668, as published. In which
  order the published code drew from is not known, so that the members may differ.
  """
  ids = sorted(study.study_id for study in studies)
  cuts = (len(ids) * 7 // 10, len(ids) * 8 // 10)
  return _cut(np.random.RandomState(123).permutation(ids).tolist(), cuts)


def r2gen_open_i(studies: Sequence[Study]) -> Splits:
  """70, 10 and 20 % of the studies, as R2Gen's splits, but with other members.

  Its 2,069, 296 and 590 studies were drawn at random once, and only its annotation file
  says which they are; a download that is read from it states them.
  """
  ids = sorted(study.study_id for study in studies)
  training, validation = (len(ids) * 7 + 5) // 10, (len(ids) + 5) // 10
  cuts = (training, training + validation)
  return _cut(np.random.RandomState(0).permutation(ids).tolist(), cuts)


KINDS: Mapping[str, Callable[[Sequence[Study]], Splits]] = {
  "official": official,
  "nguyen_mimic": nguyen_mimic,
  "nguyen_open_i": nguyen_open_i,
  "r2gen_open_i": r2gen_open_i,
}


def straddling(studies: Sequence[Study]) -> dict[str, Collection[str]]:
  """The patients who have studies in several splits, and in which."""
  found: dict[str, set[str]] = {}
  for study in studies:
    if study.split:
      found.setdefault(study.patient_id, set()).add(study.split)
  return {patient: homes for patient, homes in found.items() if len(homes) > 1}


def _cut(ids: Sequence[str], cuts: tuple[int, int]) -> Splits:
  parts = (ids[: cuts[0]], ids[cuts[0] : cuts[1]], ids[cuts[1] :])
  return {name: split for split, part in zip(SPLITS, parts) for name in part}
