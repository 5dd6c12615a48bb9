"""Runs a worker: rows in, scores out, one JSON a line.

  python serving.py SCRIPT

This folder runs in other Python environments than jaxrg's, and imports nothing of it. A
script defines `score(predictions, references)`, a list of {name: number}. A row is
`{"id", "reference", "prediction"}`, its answer `{"id", "scores"}`. Whatever else a
library prints goes to stderr.
"""

import json
import os
import runpy
import sys

BATCH_SIZE = 32


def serve(script):
  answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
  os.dup2(2, 1)
  score = runpy.run_path(script)["score"]
  rows = [json.loads(line) for line in sys.stdin if line.strip()]
  for start in range(0, len(rows), BATCH_SIZE):
    batch = rows[start : start + BATCH_SIZE]
    found = score(
      [row["prediction"] for row in batch], [row["reference"] for row in batch]
    )
    for row, scores in zip(batch, found):
      told = {"id": row["id"], "scores": {k: float(v) for k, v in scores.items()}}
      answers.write(json.dumps(told) + "\n")
    answers.flush()


if __name__ == "__main__":
  serve(sys.argv[1])
