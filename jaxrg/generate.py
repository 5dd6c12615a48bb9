r"""Writes a report for a film: PNG, JPEG or DICOM.

  python -m jaxrg.generate --checkpoint=runs/priorrg-thorax/export film.dcm \
      [--prior=earlier.png] [--indication="Fever."] [--history=...] [--view=PA]

The picture goes through the preprocessing of training. One that does not look like the
films that the model was trained on is refused, or the report is printed with a doubt.
"""

import sys

from absl import app, flags

from data_pipelines import cli, familiarity
from jaxrg import reporting

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The export of a run.")
_PRIOR = flags.DEFINE_string("prior", None, "The latest earlier film, if there is one.")
_INDICATION = flags.DEFINE_string("indication", "", "Why the study was asked for.")
_HISTORY = flags.DEFINE_string("history", "", "Clinical history.")
_VIEW = flags.DEFINE_string(
  "view", None, "The film's view (PA, LATERAL, unk); by default what the file says."
)
_PRIOR_VIEW = flags.DEFINE_string(
  "prior_view", None, "The earlier film's view, likewise."
)
_BEAMS = flags.DEFINE_integer(
  "num_beams", None, "Beams; by default the config's.", lower_bound=1
)
_TEMPERATURE = flags.DEFINE_float(
  "temperature", 0.0, "Above 0: sample, one beam.", lower_bound=0.0
)
_TOP_P = flags.DEFINE_float(
  "top_p", 1.0, "Sample from this share of probability.", 0.0, 1.0
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the sampling.", lower_bound=0)
_FORCE = flags.DEFINE_bool("force", False, "Report on a refused picture all the same.")


def main(argv):
  if len(argv) != 2:
    raise app.UsageError("One image is needed: python -m jaxrg.generate ... IMAGE")
  reporter = reporting.Reporter(
    _CHECKPOINT.value,
    num_beams=_BEAMS.value,
    temperature=_TEMPERATURE.value,
    top_p=_TOP_P.value,
    seed=_SEED.value,
  )
  report = reporter.report(
    argv[1],
    prior=_PRIOR.value,
    indication=_INDICATION.value,
    history=_HISTORY.value,
    view=_VIEW.value,
    prior_view=_PRIOR_VIEW.value,
    force=_FORCE.value,
  )
  for name, judgement in report.judgements.items():
    if judgement.verdict != familiarity.FAMILIAR:
      verdict = judgement.verdict.upper()
      print(
        f"{verdict}: {name} scores {judgement.score:.2f}: {judgement.reason}.",
        file=sys.stderr,
      )
  for warning in report.warnings:
    print(warning, file=sys.stderr)
  if report.findings is None:
    raise ValueError(
      "no report was written, because the picture was refused; --force writes one."
    )
  print(report.findings)
  if report.evidence is not None:
    print(f"\n{report.evidence}", file=sys.stderr)
  print(f"\n{report.caution}", file=sys.stderr)


if __name__ == "__main__":
  flags.mark_flag_as_required("checkpoint")
  cli.run(main)
