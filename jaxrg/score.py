r"""Scores generated reports; no model is needed, and no accelerator.

  python -m jaxrg.score predictions.jsonl [--out=metrics.json]

Each line of the file is a JSON object with `id`, `reference` and `prediction`;
`jaxrg.metrics.predictions` lists what else it may hold. --verbosity=1 shows where
an error arose.
"""

import json

from absl import app, flags

from jaxrg import cli
from jaxrg.metrics import clinical, predictions, scoring, tables

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
  rows = predictions.read(argv[1])
  metrics = scoring.score(
    rows,
    uncertain=_UNCERTAIN.value,
    resamples=_RESAMPLES.value,
    seed=_SEED.value,
  )
  print(tables.text(metrics))
  if _OUT.value:
    predictions.write_private(_OUT.value, json.dumps(metrics, indent=2) + "\n")
    print(f"\nAll scores: {_OUT.value}")


if __name__ == "__main__":
  cli.run(main)
