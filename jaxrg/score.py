r"""Scores generated reports of any system; no model is needed, and no accelerator.

  python -m jaxrg.score FILE [--references=FILE] [--out=metrics.json] \
      [--require=bleu_4=.17]

FILE is CSV, JSON or JSONL with an id, a reference and a prediction, under the names of
any system that `jaxrg.metrics.layouts` knows; or of predictions alone, beside a file of
references. The exit status is 2 where a score is below what --require asks, 1 where
something could not be read or scored. --verbosity=1 shows where an error arose.
"""

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence

from absl import app, flags

from data_pipelines import cli
from jaxrg import worker
from jaxrg.metrics import (
  averages,
  clinical,
  coco,
  comparing,
  exporting,
  layouts,
  predictions,
  rendering,
  requirements,
  scoring,
  tables,
)

_REFERENCES = flags.DEFINE_string(
  "references", None, "A file of references, where FILE has none."
)
_PARTIAL = flags.DEFINE_bool(
  "partial", False, "Leave out ids that one of two files does not have."
)
_ENCODING = flags.DEFINE_string("encoding", "utf-8-sig", "Of the files.")
_AGAINST = flags.DEFINE_string(
  "against", None, "Another system's file, to compare with on the same reports."
)
_CHEXBERT = flags.DEFINE_string(
  "chexbert", None, "CheXbert's weights, a file of yours: chexbert.pth or safetensors."
)
_VOCABULARY = flags.DEFINE_string(
  "chexbert_vocab", None, "The vocab.txt of bert-base-uncased, to --chexbert."
)
_WORKER = flags.DEFINE_enum(
  "worker", None, [*worker.WORKERS], "A metric that has an environment of its own,"
)
_PYTHON = flags.DEFINE_string("python", None, "and the Python of that environment.")
_JAVA = flags.DEFINE_bool(
  "java", True, "Also score METEOR and protocol coco, where Java is there."
)
_EXPORT = flags.DEFINE_multi_string(
  "export", [], "Write the reports as FORMAT:PATH: csv, rexrank or radeval."
)
_REQUIRE = flags.DEFINE_multi_string(
  "require",
  [],
  "NAME=LEAST or NAME<=MOST of a score, by the end of its path in metrics.json.",
)
_OUT = flags.DEFINE_string("out", None, "Also write all scores to this JSON file.")
_UNCERTAIN = flags.DEFINE_enum(
  "uncertain", "positive", list(clinical.UNCERTAIN_AS), "How uncertain labels count."
)
_RESAMPLES = flags.DEFINE_integer(
  "resamples", 1000, "Resamples of the bootstrap intervals.", lower_bound=1
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the bootstrap intervals.")


def main(argv):
  if len(argv) != 2:
    raise app.UsageError("One file is needed: python -m jaxrg.score predictions.jsonl")
  _check_flags(argv[1])
  rows = _read(argv[1])
  others = _other_rows() if _AGAINST.value else None
  labeler = _labeler() if _CHEXBERT.value else None
  if (reason := coco.missing()) and _JAVA.value:
    print(f"METEOR and protocol coco are left out: {reason}.\n")
  metrics = scoring.score(
    rows,
    with_java=_JAVA.value and reason is None,
    uncertain=_UNCERTAIN.value,
    resamples=_RESAMPLES.value,
    seed=_SEED.value,
  )
  print(tables.text(metrics))
  for protocol, reason in metrics["failed"].items():
    print(f"error: protocol {protocol}: {reason}", file=sys.stderr)
  if labeler:
    metrics["chexbert"] = _by_chexbert(labeler, rows)
  if _WORKER.value:
    metrics["workers"] = {_WORKER.value: _by_worker(rows)}
  if others:
    metrics["against"] = _against(rows, others, argv[1])
  if _OUT.value:
    predictions.write_private(_OUT.value, json.dumps(metrics, indent=2) + "\n")
    print(f"\nAll scores: {_OUT.value}")
  for asked in _EXPORT.value:
    print(f"\nReports: {exporting.export(asked, rows)}")
  required = requirements.read(_REQUIRE.value, metrics)
  for requirement in required:
    print(requirement)
  workers = metrics.get("workers", {}).values()
  if metrics["failed"] or any("error" in told for told in workers):
    return 1
  return 0 if all(requirement.met for requirement in required) else 2


def _check_flags(path: str) -> None:
  """Raises what can be told of the flags before anything is scored."""
  requirements.check(_REQUIRE.value)
  if _WORKER.value and not _PYTHON.value:
    raise app.UsageError("--worker needs --python, that of its environment.")
  if _CHEXBERT.value and not _VOCABULARY.value:
    raise app.UsageError("--chexbert needs --chexbert_vocab, its vocab.txt.")
  read = [path, _REFERENCES.value, _AGAINST.value, _CHEXBERT.value, _VOCABULARY.value]
  taken = {os.path.realpath(name) for name in read if name}
  for written in filter(None, [_OUT.value, *map(exporting.target, _EXPORT.value)]):
    if not os.path.isdir(os.path.dirname(written) or "."):
      raise FileNotFoundError(errno.ENOENT, "there is no such folder", written)
    if os.path.realpath(written) in taken:
      raise ValueError(f"{written}: is read, or written twice; write to another file.")
    taken.add(os.path.realpath(written))


def _read(path: str) -> list[dict]:
  rows, names = layouts.read(
    path, _REFERENCES.value, partial=_PARTIAL.value, encoding=_ENCODING.value
  )
  if any(part != name for part, name in names.items()):
    told = ", ".join(f"{part}: column {name}" for part, name in names.items())
    print(f"{told}\n")
  if odd := layouts.oddities(rows):
    print("\n".join(odd) + "\n")
  return rows


def _labeler():
  """CheXbert, of a user's files."""
  from jaxrg import chexbert  # Flax, which no other score needs.

  if not os.path.exists(_CHEXBERT.value):  # Nor is a name of any hub meant.
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), _CHEXBERT.value)
  return chexbert.Labeler(_CHEXBERT.value, _VOCABULARY.value)


def _by_chexbert(labeler, rows: Sequence[Mapping]) -> dict:
  """Every average by CheXbert, read from both texts, and which files it was."""
  told = averages.all_averages(
    *(labeler.labels([row[key] for row in rows]) for key in ("prediction", "reference"))
  )
  files = "".join(f"\n{path}: sha256 {sha}" for path, sha in labeler.sha256.items())
  print(f"{files}\n\n{rendering.render(averages.table(told, 'CheXbert'))}")
  return {"sha256": labeler.sha256, **told}


def _by_worker(rows: Sequence[Mapping]) -> dict:
  """The scores of a metric that runs elsewhere, or why there are none."""
  try:
    told = worker.run(_WORKER.value, _PYTHON.value, rows, resamples=_RESAMPLES.value)
  except ValueError as error:  # The other scores stand.
    print(f"error: {error}", file=sys.stderr)
    return {"error": str(error)}
  print(f"\n{rendering.render(worker.table(_WORKER.value, told))}")
  return told


def _other_rows() -> list[dict]:
  """The reports of the other system."""
  return layouts.read(
    _AGAINST.value, _REFERENCES.value, partial=True, encoding=_ENCODING.value
  ).rows


def _against(rows: Sequence[Mapping], others: Sequence[Mapping], path: str) -> dict:
  """The reports of `path`, paired with those of the other system."""
  told = comparing.compare(rows, others, resamples=_RESAMPLES.value, seed=_SEED.value)
  names = (os.path.basename(path), os.path.basename(_AGAINST.value))
  if names[0] == names[1]:
    names = (path, _AGAINST.value)
  print(f"\n{rendering.render(comparing.table(told, *names))}")
  return told


if __name__ == "__main__":
  cli.run(main)
