"""How every verb ends: 0, or one line that says what was wrong and status 1."""

import logging as python_logging
import os
import sys
import threading
from collections.abc import Callable, Sequence

from absl import app, flags, logging

INTENDED_USE = "Research only: not a medical device, not for patient care."


def run(main: Callable[[Sequence[str]], int | None]) -> None:
  """`app.run`, with errors a user can mend as one line; --verbosity=1 shows where."""
  _ask_for_huge_pages()

  def guarded(argv):
    if logging.get_verbosity() < logging.DEBUG:
      _leave_errors_to_main()
    try:
      return main(argv)
    except BrokenPipeError:  # Whoever read stdout has enough, as `head` has.
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      return 1
    except (ValueError, OSError, app.UsageError) as error:
      if logging.get_verbosity() >= logging.DEBUG:
        raise
      print(f"error: {_line(error)}", file=sys.stderr)
      return 1
    except KeyboardInterrupt:
      print("interrupted", file=sys.stderr)
      return 130

  app.run(guarded, flags_parser=_parse)


def _ask_for_huge_pages() -> None:
  """Starts the program anew, the same process, with memory in pages of 2 MB.

  XLA on CPUs asks the system for its buffers anew in every step, and in pages of 4 kB
  a quarter of a small model's step is spent on that. glibc reads this setting but once,
  before the first line of Python. A verb that another program runs, a test's or a
  notebook's, leaves that program alone.
  """
  is_program = sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[2].startswith("jaxrg.")
  if sys.platform == "linux" and is_program and "GLIBC_TUNABLES" not in os.environ:
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _parse(argv: Sequence[str]) -> list[str]:
  """The flags parsed; a config is read here, so its errors are the user's too."""
  try:
    rest = flags.FLAGS(argv)
  except (
    flags.Error,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    OSError,
  ) as error:
    print(f"error: {_line(error)}", file=sys.stderr)
    sys.exit(1)
  if not any(arg.startswith(("--verbosity", "-v")) for arg in argv):
    # Orbax and tfds report every file they touch; a user wants to hear of trouble.
    logging.set_verbosity(logging.WARNING)
  return rest


def _leave_errors_to_main() -> None:
  """No tracebacks of threads and libraries: what matters of them is raised again."""
  for name in ("absl", "asyncio"):
    python_logging.getLogger(name).addFilter(_is_no_exception)
  threading.excepthook = sys.unraisablehook = lambda _: None


def _is_no_exception(record) -> bool:
  return not record.exc_info


def _line(error: Exception) -> str:
  if isinstance(error, OSError) and error.strerror:
    name = f"{error.filename}: " if error.filename is not None else ""
    return f"{name}{error.strerror}."
  text = error.args[0] if isinstance(error, KeyError) and error.args else error
  return " ".join(str(text).split()) or type(error).__name__
