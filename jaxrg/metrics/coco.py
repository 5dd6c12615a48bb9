"""What of COCO's evaluation needs Java: METEOR 1.5, and Stanford's tokenizer.

Both are programs that the package pycocoevalcap carries (extra `coco`); only these are
used of it, for its Python leaves their failures untold. Whether they are here is asked
before anything is scored, so that no evaluation ends with a broken pipe.
"""

import contextlib
import importlib.util
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

import numpy as np

_TOKENIZER = "tokenizer/stanford-corenlp-3.4.1.jar"
_METEOR = "meteor/meteor-1.5.jar"
# What COCO's evaluation takes from the tokens again.
_PUNCTUATION = frozenset(
  ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-"]
  + [".", "?", "!", ",", ":", "-", "--", "...", ";"]
)


class JavaError(ValueError):
  """One of the programs gave up; what it was given is no mistake of its user's."""


def missing() -> str | None:
  """Why they cannot be used, in one line; None where they can."""
  if _folder() is None:
    return 'no pycocoevalcap: pip install "jaxrg[coco]"'
  if shutil.which("java") is None:
    return "no java on the PATH"
  # There may be one that only says where another can be had.
  probe = subprocess.run(["java", "-version"], capture_output=True, check=False)
  if probe.returncode:
    return f"java does not start: {_reason(probe.stderr)}"
  return None


def _folder() -> pathlib.Path | None:
  spec = importlib.util.find_spec("pycocoevalcap")
  return spec and pathlib.Path(next(iter(spec.submodule_search_locations)))


def tokenise(texts: Sequence[str]) -> list[str]:
  """Each text in Stanford's tokens, lower case, no punctuation; raises JavaError."""
  command = ["java", "-cp", str(_folder() / _TOKENIZER)]
  command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "texts"
    path.write_text("".join(f"{_one_line(text)}\n" for text in texts), "utf-8")
    done = subprocess.run(
      [*command, "-encoding", "utf-8", str(path)], capture_output=True, check=False
    )
  lines = done.stdout.decode("utf-8").split("\n")[: len(texts)]
  if done.returncode or len(lines) != len(texts):
    raise JavaError(f"Stanford's tokenizer failed: {_reason(done.stderr)}")
  return [" ".join(w for w in line.split() if w not in _PUNCTUATION) for line in lines]


def meteor(
  predictions: Sequence[str], references: Sequence[str]
) -> tuple[float, np.ndarray]:
  """METEOR 1.5 of the corpus, and of each report (n,); raises JavaError.

  Its alignment outgrows its memory at reports of some ten thousand words.
  """
  command = ["java", "-jar", "-Xmx2G", str(_folder() / _METEOR)]
  command += ["-", "-", "-stdio", "-l", "en", "-norm"]
  with subprocess.Popen(
    command,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    encoding="utf-8",
  ) as program:

    def ask(line: str, count: int = 1) -> list[str]:
      try:
        program.stdin.write(line + "\n")
        program.stdin.flush()
        answers = [program.stdout.readline().strip() for _ in range(count)]
      except BrokenPipeError:
        answers = [""]
      if "" in answers:
        program.kill()
        with contextlib.suppress(BrokenPipeError):
          program.stdin.close()  # Or what it never read is written to it again.
        raise JavaError(f"METEOR failed: {_reason(program.stderr.read())}")
      return answers

    pairs = zip(map(_field, references), map(_field, predictions), strict=True)
    found = [ask(f"SCORE ||| {reference} ||| {text}")[0] for reference, text in pairs]
    *each, corpus = ask(" ||| ".join(["EVAL", *found]), len(found) + 1)
    program.stdin.close()
  return float(corpus), np.array(each, float)


def _one_line(text: str) -> str:
  return " ".join(text.split())


def _field(text: str) -> str:
  return _one_line(text.replace("|||", ""))


def _reason(said: bytes | str) -> str:
  """The line of Java's complaint that says why; a stack of its own may follow it."""
  said = said if isinstance(said, str) else said.decode("utf-8", "replace")
  lines = [line.strip() for line in said.splitlines() if line.strip()]
  named = [line for line in lines if "Exception" in line or "Error" in line]
  return (named or lines or ["no word of why"])[0]
