r"""Serialises what an export computes, to run where jaxrg is not installed.

  python -m jaxrg.stablehlo --checkpoint=runs/priorrg-thorax/export --out=FOLDER

FOLDER then holds StableHLO programs for CPU, CUDA and TPU, of any number of studies:
`encode` (to what the decoder reads), `greedy` and `beam` (to ids of tokens), their
variables, and `run.py`, which runs them with jax alone. Of its example:

  python FOLDER/run.py greedy FOLDER/example.npz ids.npy

jax reads serialised programs for about six months after the version that wrote them.
"""

from absl import app, flags
from etils import epath

from data_pipelines import cli
from jaxrg import exports, programs

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The export of a run.")
_OUT = flags.DEFINE_string("out", None, "The folder to write.")
_PLATFORMS = flags.DEFINE_list(
  "platforms", list(programs.PLATFORMS), "What the programs shall run on."
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  out = epath.Path(_OUT.value).expanduser().absolute()
  print(programs.write(exports.read(_CHECKPOINT.value), out, _PLATFORMS.value))


if __name__ == "__main__":
  flags.mark_flags_as_required(["checkpoint", "out"])
  cli.run(main)
