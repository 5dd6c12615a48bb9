"""The tfds builder `thorax`: composed, not downloaded, and written as ArrayRecord."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines import building
from data_pipelines.thorax import examples

RETRIEVAL_CLASSES = (  # CheXpert's competition classes.
  "atelectasis",
  "cardiomegaly",
  "consolidation",
  "edema",
  "effusion",
)
RETRIEVAL_COUNT = 200


@dataclasses.dataclass(eq=False, kw_only=True)
class ThoraxConfig(tfds.core.BuilderConfig):
  """A set: how many patients in each split, from which number on, at which size.

  A patient's number seeds body and story, so that sets whose numbers are disjoint
  share nobody.
  """

  patients: dict[str, int]
  first_patient: int
  size: int = 128
  seed: int = 0
  findings: tuple[str, ...] = ()  # Of single-finding studies, in turns.

  def jobs(self, split: str) -> list[examples.Job]:
    start = self.first_patient
    for name, count in self.patients.items():
      if name == split:
        break
      start += count
    finding = lambda i: self.findings[i % len(self.findings)] if self.findings else ""
    return [
      examples.Job(start + i, self.size, self.seed, finding(i)) for i in range(count)
    ]


_CONFIGS = (
  ThoraxConfig(
    name="default",
    description="About 10,000 studies at 128 px.",
    patients={"train": 3200, "validation": 133, "test": 134},
    first_patient=400_000,
  ),
  ThoraxConfig(
    name="tiny",
    description="About 240 studies at 64 px, for tests and first looks.",
    patients={"train": 51, "validation": 15, "test": 11},
    first_patient=100_000,
    size=64,
  ),
  ThoraxConfig(
    name="long",
    description="About 30,000 studies at 128 px.",
    patients={"train": 9600, "validation": 200, "test": 400},
    first_patient=200_000,
  ),
  ThoraxConfig(
    name="retrieval",
    description="200 single-finding studies of each of five classes, at 128 px.",
    patients={"retrieval": RETRIEVAL_COUNT * len(RETRIEVAL_CLASSES)},
    first_patient=300_000,
    findings=RETRIEVAL_CLASSES,
  ),
)


class Thorax(tfds.core.GeneratorBasedBuilder):
  """Chest radiographs composed from the layers of one CT, with reports and truth."""

  # To be raised with every change of any byte: what was built stays where it is.
  VERSION = tfds.core.Version("1.3.0")
  BUILDER_CONFIGS: ClassVar = list(_CONFIGS)
  url_infos = None  # Nothing is downloaded, so that tfds need not look for checksums.

  def __init__(self, *, num_workers: int | None = None, **kwargs):
    """`num_workers` processes compose, by default one a core; it changes no byte."""
    self._num_workers = num_workers or building.cores()
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    size = self.builder_config.size
    # zlib reads three times as fast as PNG, for 14 against 8 kB an image of 128 px.
    image = tfds.features.Tensor(shape=(size, size, 1), dtype=np.uint8, encoding="zlib")
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.builder_config.description,
      features=building.features(image=image),
      # `prior` counts records, so they must stay in order.
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # Nothing is downloaded.
    return {
      split: self._generate_examples(split) for split in self.builder_config.patients
    }

  def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
    jobs = self.builder_config.jobs(split)
    count = 0
    made = examples.generate(jobs, self._num_workers)
    with contextlib.closing(made):
      name = f"thorax/{self.builder_config.name} {split}"
      for patient in building.progress(made, len(jobs), name, "patient"):
        first = count
        for record in patient:
          if record["prior"] >= 0:
            record["prior"] += first
          yield count, record
          count += 1


def load(
  config_name: str,
  split: str,
  data_dir: str | os.PathLike | None = None,
  num_workers: int | None = None,
):
  """A split as a random-access source of raw records; builds the set on first use.

  `data_dir` defaults to TFDS_DATA_DIR, else ~/tensorflow_datasets. Raises ValueError
  for an unknown set or split, OSError where it cannot be written.
  """
  names = {config.name: config for config in _CONFIGS}
  if config_name not in names:
    raise ValueError(f"thorax has no set {config_name!r}: one of {', '.join(names)}")
  if split not in names[config_name].patients:
    splits = ", ".join(names[config_name].patients)
    raise ValueError(f"thorax/{config_name} has no split {split!r}: one of {splits}")
  builder = Thorax(config=config_name, data_dir=data_dir, num_workers=num_workers)
  if not building.is_built(builder):
    building.prepare(builder)
    builder = Thorax(config=config_name, data_dir=data_dir)  # Reads what is there.
  return builder.as_data_source(split=split)
