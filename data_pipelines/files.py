"""Small files of a run, written whole or not at all."""

import contextlib

from etils import epath


def write(path: epath.PathLike, data: str | bytes) -> None:
  """Replaces a file; where that fails, an OSError names it and it is as it was."""
  path = epath.Path(path)
  draft = path.parent / f"{path.name}.unfinished"
  try:
    draft.write_bytes(data if isinstance(data, bytes) else data.encode())
    draft.replace(path)
  except OSError as error:
    with contextlib.suppress(OSError):
      draft.unlink(missing_ok=True)
    raise OSError(error.errno, error.strerror, str(path)) from error
