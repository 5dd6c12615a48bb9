"""The data sets of raw downloads, as `data_pipelines.prepare` leaves them.

Under the data's folder, `mimic_cxr/films-518` holds the films of the download, once,
and `mimic_cxr/ours_518` the records of one choice of its studies, a tfds data set,
whose feature `image` is the number of a film. Reading joins them.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from data_pipelines import building
from data_pipelines.film_store import FilmStore

VERSION = "1.0.0"
# Of a split the examples come first; what follows are films that are a prior only.
Splits = Mapping[str, Sequence[Mapping[str, Any]]]


class _Prepared(tfds.core.GeneratorBasedBuilder):
  """Records that are at hand, written in their order."""

  VERSION = tfds.core.Version(VERSION)
  url_infos = None  # Nothing is downloaded, so that tfds need not look for checksums.

  def __init__(self, *, splits: Splits, metadata: Mapping[str, Any], **kwargs):
    self._splits, self._metadata = splits, metadata
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description="Prepared from a raw download; `image` is a film's number.",
      features=building.features(image=np.int64),
      metadata=tfds.core.MetadataDict(self._metadata),
      # `prior` counts records, so they must stay in order.
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # Nothing is downloaded.
    return {split: self._generate_examples(split) for split in self._splits}

  def _generate_examples(self, split: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    yield from enumerate(self._splits[split])


class MimicCxr(_Prepared):
  """MIMIC-CXR, from PhysioNet's folders."""

  BUILDER_CONFIGS: ClassVar = []


class MimicAbn(_Prepared):
  """MIMIC-ABN: the studies of MIMIC-CXR that lists of ids name."""

  BUILDER_CONFIGS: ClassVar = []


class IuXray(_Prepared):
  """Open-I's chest films of Indiana University."""

  BUILDER_CONFIGS: ClassVar = []


_BUILDERS = {"mimic_cxr": MimicCxr, "mimic_abn": MimicAbn, "iu_xray": IuXray}
NAMES = tuple(_BUILDERS)


class Joined(Sequence):
  """The examples of a split: records with their films.

  `texts` are the same with a film's number in place of it, and quicker to read. Beyond
  the last example are the films that are a prior only, read by index all the same.
  """

  def __init__(self, texts: Sequence[Any], films: FilmStore, count: int):
    self.texts, self._films, self._count = texts, films, count

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, index: int) -> dict[str, Any]:
    record = self.texts[index]
    return record | {"image": self._films[int(record["image"])]}


def home(data_dir: os.PathLike | None = None) -> epath.Path:
  """The folder of data sets: this one, else TFDS_DATA_DIR, else that of tfds."""
  root = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
  return epath.Path(root).expanduser()


def films_folder(data_dir: os.PathLike, name: str, size: int) -> epath.Path:
  """Where the films of the download `name` lie; several data sets may share them."""
  return epath.Path(data_dir) / name / f"films-{size}"


def write(
  data_dir: os.PathLike,
  dataset: str,
  config_name: str,
  splits: Splits,
  counts: Mapping[str, int],
  films: FilmStore,
) -> epath.Path:
  """Writes the records of all splits, each with `counts` examples; gives the folder.

  What is there already and the same stays; what is there and differs is replaced.
  """
  metadata = {
    "films": os.fspath(films.folder.relative_to(data_dir)),
    "films_digest": films.digest,
    "examples": dict(counts),
    "digest": _digest(splits),
  }
  config = tfds.core.BuilderConfig(name=config_name, version=VERSION)

  def make_builder() -> _Prepared:
    with _without_warnings():  # That the configuration is none of the class's own.
      return _BUILDERS[dataset](
        config=config, data_dir=data_dir, splits=splits, metadata=metadata
      )

  builder = make_builder()
  folder = epath.Path(builder.data_path)
  if building.is_built(builder):
    if _metadata(folder) == metadata:
      return folder
    folder.rmtree()
    builder = make_builder()
  building.prepare(builder)
  return folder


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
  level = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  finally:
    logging.set_verbosity(level)


def _digest(splits: Splits) -> str:
  digest = hashlib.sha256()
  for split, rows in sorted(splits.items()):
    digest.update(split.encode())
    for row in rows:
      digest.update(json.dumps(row, default=np.ndarray.tolist).encode())
  return digest.hexdigest()


def _metadata(folder: epath.Path) -> dict[str, Any]:
  return json.loads((folder / "metadata.json").read_text())


def load(
  dataset: str, config_name: str, split: str, data_dir: os.PathLike | None = None
) -> Joined:
  """A split as records with their films, read where `prepare` has put it.

  `data_dir` is as `home` takes it. Raises ValueError where the data set is not
  prepared, has no such split, or its films are another preparation's.
  """
  root = home(data_dir)
  parent = root / dataset
  folder = parent / config_name / VERSION
  if not config_name or not (folder / "dataset_info.json").exists():
    found = sorted(p.parent.name for p in parent.glob(f"*/{VERSION}"))
    known = f"prepared there: {', '.join(found)}" if found else "nothing is prepared"
    raise ValueError(
      f"{dataset}/{config_name} is not in {parent} ({known}); run `python -m "
      f"data_pipelines.prepare {dataset} --root=... --out={root}`."
    )
  metadata = _metadata(folder)
  if split not in metadata["examples"]:
    raise ValueError(
      f"{dataset}/{config_name} has no split {split!r}: one of "
      f"{', '.join(metadata['examples'])}."
    )
  films = FilmStore(parent.parent / metadata["films"])
  if films.digest != metadata["films_digest"]:
    raise ValueError(
      f"{films.folder} was prepared again since {config_name} was; run `python -m "
      f"data_pipelines.prepare {dataset}` with the preset of {config_name}, too."
    )
  texts = tfds.builder_from_directory(folder).as_data_source(split=split)
  return Joined(texts, films, metadata["examples"][split])
