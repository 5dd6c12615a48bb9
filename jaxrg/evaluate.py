r"""Decodes and scores a split from an export.

  python -m jaxrg.evaluate --checkpoint=runs/priorrg-thorax/export [--split=test]

Writes predictions.jsonl, metrics.json and report.html, by default to the folder
`eval` beside the export.
"""

from absl import app, flags
from etils import epath

from data_pipelines import cli
from jaxrg import evaluation

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The export to evaluate.")
_SPLIT = flags.DEFINE_string("split", "test", "The split to decode.")
_OUT = flags.DEFINE_string("out", None, "Where to write; by default beside the export.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data lie, if elsewhere.")
_BEAMS = flags.DEFINE_integer(
  "num_beams", None, "Beams; by default the config's.", lower_bound=1
)
_INCLUDE_TEXT = flags.DEFINE_bool(
  "include_text",
  None,
  "Put report text and images on the page; by default for composed data only.",
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  directory = epath.Path(_CHECKPOINT.value).resolve()
  # The training run's own evaluation is of `test`, and keeps its name.
  name = "eval" if _SPLIT.value == "test" else f"eval_{_SPLIT.value}"
  out = epath.Path(_OUT.value or directory.parent / name).resolve()
  text = evaluation.evaluate(
    directory,
    _SPLIT.value,
    out,
    data_dir=_DATA_DIR.value,
    num_beams=_BEAMS.value,
    include_text=_INCLUDE_TEXT.value,
  )
  print(f"{text}\n\nreport: {out / 'report.html'}\nscores: {out / 'metrics.json'}")


if __name__ == "__main__":
  flags.mark_flag_as_required("checkpoint")
  cli.run(main)
