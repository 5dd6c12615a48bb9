"""All of a preparation: from a raw download to films, records and the audit of both."""

import dataclasses
import io
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath
from PIL import Image

from data_pipelines import building, files, prepared
from data_pipelines.film_store import FilmStore
from data_pipelines.raw import (
  annotations,
  assembly,
  audit,
  audit_page,
  iu_xray,
  mimic_abn,
  mimic_cxr,
  priors,
  rules,
  shards,
)
from data_pipelines.raw.studies import Download, Oddity, Study

THUMBNAIL = 240  # Pixels of a film on the page.

Links = Mapping[str, priors.Prior]


@dataclasses.dataclass(frozen=True)
class Origin:
  """Where a download lies; None of its files: where they come with it."""

  dataset: str  # One of prepared.NAMES.
  root: str
  reports: str | None = None
  tables: str | None = None
  labels: str = "chexpert"  # One of mimic_cxr.LABELERS.
  annotation: str | None = None  # A published annotation file, in place of all tables.
  ids: str | None = None  # MIMIC-ABN's list.


@dataclasses.dataclass(frozen=True)
class Found:
  """A download as it was read, and its images."""

  download: Download
  sources: Sequence[shards.Source]  # Of all films, whatever rules may choose.
  store: str  # Of which download the store is, by name.
  missing: Collection[str]  # Films without a file.
  given: Links | None = None  # The priors that the download itself names.


@dataclasses.dataclass(frozen=True)
class Chosen:
  """What rules make of a download."""

  choice: rules.Choice
  links: Links
  audit: Mapping[str, Any]


def read(origin: Origin) -> Found:
  """Everything but the images themselves, for which their folders are listed.

  Raises OSError or ValueError where the download is not what it should be.
  """
  if origin.annotation:
    return _read_annotation(origin)
  if origin.dataset == "iu_xray":
    whole = iu_xray.read(origin.root, progress=building.progress)
  else:
    whole = mimic_cxr.read(
      origin.root,
      reports=origin.reports,
      tables=origin.tables,
      labels=origin.labels,
      progress=building.progress,
    )
  # MIMIC-ABN's films are MIMIC-CXR's, and stored but once.
  found = _found(whole, whole.studies, whole.name)
  if origin.dataset == "mimic_abn":
    if not origin.ids:
      raise ValueError(
        "mimic_abn is a choice of MIMIC-CXR's studies: say which by --ids=FILE (a list "
        "of ids) or --annotation=FILE."
      )
    chosen = mimic_abn.restrict(found.download, origin.ids)
    found = dataclasses.replace(found, download=chosen)
  return found


def _read_annotation(origin: Origin) -> Found:
  name = annotation_name(origin.annotation)
  root = _image_root(Path(origin.root))
  annotated = annotations.read(origin.annotation, root, name=origin.dataset)
  # A prior that is no example is known by its example only.
  extra = {prior.film.id: prior for prior in annotated.priors.values()}
  for study in annotated.download.studies:
    for film in study.films:
      extra.pop(film.id, None)
  others = [
    dataclasses.replace(prior.study, films=(prior.film,)) for prior in extra.values()
  ]
  whole = (*annotated.download.studies, *others)
  found = _found(annotated.download, whole, f"{origin.dataset}/{name}")
  return dataclasses.replace(found, given=annotated.priors)


def annotation_name(path: str) -> str:
  """What a data set that an annotation file chose is called: as the file is."""
  return re.sub(r"[^0-9A-Za-z]+", "_", Path(path).stem).strip("_") or "annotation"


def _image_root(root: Path) -> Path:
  """The folder that an annotation's paths begin in."""
  inner = (root / name for name in ("files", "images"))
  return next((folder for folder in inner if folder.is_dir()), root)


def _found(download: Download, whole: Sequence[Study], store: str) -> Found:
  sources = [(film.id, film.path) for study in whole for film in study.films]
  gone = shards.missing(sources, download.image_root)
  if len(gone) == len(sources) and sources:
    path = os.path.join(download.image_root, sources[0][1])
    raise FileNotFoundError(
      f"{path} was expected, as were {len(sources) - 1} more: of the images none is "
      "there. Is --root the right folder, and are they downloaded?"
    )
  paths = dict(sources)
  odd = (Oddity("image file missing", paths[film]) for film in gone)
  download = dataclasses.replace(download, oddities=(*download.oddities, *odd))
  return Found(download, sources, store, frozenset(gone))


def choose(
  found: Found,
  rule: rules.Rules,
  *,
  unreadable: Mapping[str, str] | None,
  include_text: bool,
) -> Chosen:
  """What the rules choose; `unreadable` is why films are, or None if nobody tried."""
  bad = found.missing if unreadable is None else unreadable.keys()
  choice = rules.choose(found.download, rule, bad)
  if found.given is None:
    links = priors.link(
      found.download.studies, order=rule.prior_order, views=rule.views, unreadable=bad
    )
  else:
    links = {
      id_: prior for id_, prior in found.given.items() if prior.film.id not in bad
    }
  told = audit.audit(
    found.download,
    choice,
    links,
    rules=rule,
    quarantine=unreadable,
    include_text=include_text,
  )
  return Chosen(choice, links, told)


def store_films(
  found: Found,
  out: os.PathLike,
  recipe: shards.Recipe,
  *,
  workers: int,
  retry: bool = False,
) -> tuple[FilmStore, shards.Films]:
  """All films of the download, at the encoder's size; what is there already stays."""
  folder = prepared.films_folder(out, found.store, recipe.size)
  films = shards.prepare(
    found.sources,
    found.download.image_root,
    folder,
    recipe,
    workers=workers,
    retry=retry,
  )
  return FilmStore(folder), films


def write(
  chosen: Chosen,
  rule: rules.Rules,
  store: FilmStore,
  numbers: Mapping[str, int],
  out: os.PathLike,
  name: str,
) -> epath.Path:
  """Writes audit.json, audit.html and the records; gives the folder they are in.

  Raises ValueError for what must not be trained on, and writes the audit only.
  """
  dataset = chosen.audit["dataset"]
  folder = epath.Path(out) / dataset / name
  folder.mkdir(parents=True, exist_ok=True)
  files.write(folder / "audit.json", json.dumps(chosen.audit, indent=1) + "\n")
  pictures = _pictures(chosen.audit, store, numbers)
  files.write(folder / "audit.html", audit_page.page(chosen.audit, pictures))
  if problems := chosen.audit["problems"]:
    raise ValueError(f"{'; '.join(problems)}: see {folder / 'audit.html'}.")
  splits, counts = assembly.assemble(
    chosen.choice.kept, chosen.links, numbers, rule.target
  )
  prepared.write(out, dataset, name, splits, counts, store)
  return folder


def _pictures(
  told: Mapping[str, Any], store: FilmStore, numbers: Mapping[str, int]
) -> dict[str, bytes]:
  shown = {
    film
    for sample in told["samples"]
    for film in (sample["film"], sample["prior_film"])
    if film is not None
  }
  return {film: _png(store[numbers[film]]) for film in sorted(shown)}


def _png(film) -> bytes:
  picture = Image.fromarray(film[..., 0])
  picture.thumbnail((THUMBNAIL, THUMBNAIL))
  with io.BytesIO() as file:
    picture.save(file, "PNG")
    return file.getvalue()
