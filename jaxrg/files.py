"""Small files of a run, written whole or not at all."""

import contextlib

from etils import epath


def write(path: epath.PathLike, text: str) -> None:
  """Replaces a file; where that fails, an OSError names it and it is as it was."""
  path = epath.Path(path)
  draft = path.parent / f"{path.name}.unfinished"
  try:
    draft.write_text(text)
    draft.replace(path)
  except OSError as error:
    with contextlib.suppress(OSError):
      draft.unlink(missing_ok=True)
    raise OSError(error.errno, error.strerror, str(path)) from error
