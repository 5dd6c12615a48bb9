r"""Finds the similar cases of every study, by the images, and writes them to a file.

  python -m jaxrg.retrieve --checkpoint=RUN/pretrain/export --out=neighbours.npz \
      [--k=10] [--splits=train,validation,test]

Similar are studies of the training split and of other patients, nearest by the
embedding of the export's image encoder, whose checksum the file carries.
"""

from absl import app, flags
from etils import epath

from data_pipelines import cli
from jaxrg import indexing, neighbours

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The export of a first stage.")
_OUT = flags.DEFINE_string("out", None, "The npz to write.")
_K = flags.DEFINE_integer("k", 10, "Neighbours of each study.", lower_bound=1)
_SPLITS = flags.DEFINE_list(
  "splits", [*indexing.SPLITS], "Of which studies; train is always needed."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Films at once.", lower_bound=1)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data lie, if elsewhere.")


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  if neighbours.CORPUS not in _SPLITS.value:
    raise app.UsageError(f"--splits needs {neighbours.CORPUS}: neighbours are of it.")
  out = epath.Path(_OUT.value).resolve()
  out.parent.mkdir(parents=True, exist_ok=True)
  told = indexing.build(
    epath.Path(_CHECKPOINT.value).resolve(),
    out,
    k=_K.value,
    batch_size=_BATCH_SIZE.value,
    splits=_SPLITS.value,
    data_dir=_DATA_DIR.value,
  )
  print(f"{told}\nneighbours: {out}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["checkpoint", "out"])
  cli.run(main)
