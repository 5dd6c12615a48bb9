r"""Makes of a raw download what training reads, and an audit of it.

  python -m data_pipelines.prepare mimic_cxr --root=DOWNLOAD [--out=DATA] \
      [--preset=ours] [--size=518] [--dry_run]

The data set is mimic_cxr, mimic_abn or iu_xray. --dry_run reads tables and reports,
prints the audit and writes nothing. A run that was stopped is simply started again.
The presets differ in which studies they choose; the films are stored once for all.
"""

import os

from absl import app, flags
from etils import epath

from data_pipelines import building, cli, dicom, film_store, prepared, records
from data_pipelines.raw import (
  audit_tables,
  mimic_cxr,
  preparation,
  priors,
  rules,
  shards,
  splits,
)

_ROOT = flags.DEFINE_string("root", None, "The folder of the download.")
_OUT = flags.DEFINE_string(
  "out", None, "Where the data sets go; else TFDS_DATA_DIR, or ~/tensorflow_datasets."
)
_PRESET = flags.DEFINE_string("preset", "ours", "Rules by which studies are chosen.")
_SIZE = flags.DEFINE_integer("size", 518, "Pixels, the encoder's.", 16, 4096)
_ENCODING = flags.DEFINE_enum(
  "encoding", "packed", [*film_store.ENCODINGS], "Of films: packed is without loss."
)
_WINDOW = flags.DEFINE_enum(
  *("dicom_window", "mimic_jpg", dicom.WINDOWS),
  "Of DICOM files: as MIMIC-CXR-JPG was made, or as a display shows them.",
)
_WORKERS = flags.DEFINE_integer("workers", None, "Processes; else one a core.", 1)
_RETRY = flags.DEFINE_bool("retry", False, "Try films again that could not be read.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the audit and write nothing.")
_TEXT = flags.DEFINE_bool("include_text", False, "Show reports in the audit's samples.")

_REPORTS = flags.DEFINE_string(
  "reports", None, "MIMIC-CXR's reports, zip or folder, if not in --root."
)
_TABLES = flags.DEFINE_string(
  "tables", None, "The folder of MIMIC-CXR-JPG's tables, if not --root."
)
_LABELS = flags.DEFINE_enum("labels", "chexpert", mimic_cxr.LABELERS, "Whose labels.")
_ANNOTATION = flags.DEFINE_string(
  "annotation", None, "A published annotation file, in place of tables and rules."
)
_IDS = flags.DEFINE_string("ids", None, "MIMIC-ABN's list of images or studies.")

_NAME = flags.DEFINE_string("name", None, "Of the data set; else the rules' own.")
# Each in place of what the preset says.
_FILTERS = {
  "views": flags.DEFINE_list("views", None, "Usable views, best first."),
  "split": flags.DEFINE_enum("split", None, [*splits.KINDS], "How studies are split."),
  "required": flags.DEFINE_enum(
    "required", None, rules.SECTIONS, "The section that a report must have."
  ),
  "sections": flags.DEFINE_list("sections", None, "What is to be written, in order."),
  "min_words": flags.DEFINE_integer("min_words", None, "Of what is to be written.", 1),
  "films": flags.DEFINE_enum(
    "films", None, rules.FILMS, "All of a study, or that of the best view."
  ),
  "exact_films": flags.DEFINE_integer("exact_films", None, "How many of a study.", 1),
  "prior_order": flags.DEFINE_enum(
    "prior_order", None, priors.ORDERS, "study_id is as published, and often wrong."
  ),
}


def main(argv):
  dataset = _dataset(argv)
  out = prepared.home(_OUT.value)
  rule = _rules(dataset)
  name = f"{_NAME.value or rule.name}_{_SIZE.value}"
  found = preparation.read(
    preparation.Origin(
      dataset=dataset,
      root=os.path.abspath(_ROOT.value),
      reports=_REPORTS.value,
      tables=_TABLES.value,
      labels=_LABELS.value,
      annotation=_ANNOTATION.value,
      ids=_IDS.value,
    )
  )
  recipe = shards.Recipe(_SIZE.value, _ENCODING.value, _WINDOW.value)
  print(_need(len(found.sources), recipe, out), flush=True)
  if _DRY_RUN.value:
    chosen = preparation.choose(found, rule, unreadable=None, include_text=_TEXT.value)
    print(audit_tables.summary(chosen.audit), end="")
    return 1 if chosen.audit["problems"] else 0
  store, films = preparation.store_films(
    found, out, recipe, workers=_WORKERS.value or building.cores(), retry=_RETRY.value
  )
  chosen = preparation.choose(
    found, rule, unreadable=films.unreadable, include_text=_TEXT.value
  )
  print(audit_tables.summary(chosen.audit))
  folder = preparation.write(chosen, rule, store, films.numbers, out, name)
  print(
    f"records: {folder}\naudit: {folder / 'audit.html'}\nto train on them: "
    f"--config.data.name={dataset}/{name} --config.data.data_dir={out}"
  )
  return 0


def _dataset(argv) -> str:
  known = ", ".join(prepared.NAMES)
  if len(argv) != 2 or argv[1] not in prepared.NAMES:
    given = " ".join(argv[1:]) or "nothing"
    raise app.UsageError(f"Say which data set: one of {known}, not {given}.")
  if not os.path.isdir(_ROOT.value):
    raise app.UsageError(f"--root={_ROOT.value}: there is no such folder.")
  return argv[1]


def _rules(dataset: str) -> rules.Rules:
  """The preset's, or an annotation file's, but for what flags say."""
  if _ANNOTATION.value:
    name = preparation.annotation_name(_ANNOTATION.value)
    rule = rules.Rules(name, records.VIEWS, "official", prior_order=priors.GIVEN)
  else:
    rule = rules.preset(dataset, _PRESET.value)
  own = {
    field: tuple(flag.value) if isinstance(flag.value, list) else flag.value
    for field, flag in _FILTERS.items()
    if flag.value is not None
  }
  if _ANNOTATION.value and "prior_order" in own:
    raise app.UsageError("--prior_order: an annotation file names its priors itself.")
  return rules.changed(rule, own)


def _need(count: int, recipe: shards.Recipe, out: epath.Path) -> str:
  """What is to be stored, before it is; what is there already is not counted off."""
  return (
    f"{count:,} films at {recipe.size} px, {recipe.encoding}: about "
    f"{shards.bytes_needed(count, recipe) / 1e9:.3g} GB in {out}, where "
    f"{building.free_bytes(out) / 1e9:.3g} GB are free"
  )


if __name__ == "__main__":
  flags.mark_flags_as_required(["root"])
  cli.run(main)
