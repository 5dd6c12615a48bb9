"""What a score must reach, for continuous integration: `bleu_4=.17`, `n_empty<=3`."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

PROTOCOL = "priorrg"  # Whose language scores are meant where a name says none.


class Requirement(NamedTuple):
  """A score by its path in metrics.json, the bound it must keep, and what it is."""

  path: str
  bound: float
  is_most: bool
  value: float

  @property
  def met(self) -> bool:
    return self.value <= self.bound if self.is_most else self.value >= self.bound

  def __str__(self) -> str:
    met = "reached" if self.met else "NOT REACHED"
    asked = f"at {'most' if self.is_most else 'least'} {self.bound:g}"
    return f"{self.path} = {self.value:.6g}, required {asked}: {met}"


def check(asked: Iterable[str]) -> None:
  """Raises ValueError for what is no requirement, before anything is scored."""
  for text in asked:
    _parse(text)


def read(asked: Iterable[str], metrics: Mapping) -> list[Requirement]:
  """The requirements `NAME=LEAST` or `NAME<=MOST` beside the scores that are meant.

  A name is a path in metrics.json (`labels.micro.f1`) or the end of one; where several
  end so, it is that of the protocol PROTOCOL. Raises ValueError for a name that means
  none of the scores, or several.
  """
  known = dict(_flat(metrics))
  return [_requirement(text, known) for text in asked]


def _requirement(text: str, known: Mapping[str, float]) -> Requirement:
  name, bound, is_most = _parse(text)
  paths = [path for path in known if path == name or path.endswith(f".{name}")]
  paths = [path for path in paths if path == name] or paths
  if len(paths) > 1:
    paths = [
      path for path in paths if path.startswith(f"language.{PROTOCOL}.")
    ] or paths
  if len(paths) != 1:
    means = f"means {len(paths)} scores: {', '.join(paths[:4])}" if paths else "is none"
    raise ValueError(f"--require={text}: {name} {means} of metrics.json.")
  return Requirement(paths[0], bound, is_most, known[paths[0]])


def _parse(text: str) -> tuple[str, float, bool]:
  name, _, number = text.partition("=")
  try:
    bound = float(number)
  except ValueError:
    bound = math.nan
  if not math.isfinite(bound) or not name.rstrip("<"):
    raise ValueError(f"--require={text}: NAME=NUMBER or NAME<=NUMBER is needed.")
  return name.removesuffix("<"), bound, name.endswith("<")


def _flat(metrics: Mapping, prefix: str = "") -> Iterator[tuple[str, float]]:
  """Dotted paths of the numbers; one with an interval is its value."""
  for name, value in metrics.items():
    if isinstance(value, Mapping) and "value" in value:
      value = value["value"]
    if isinstance(value, Mapping):
      yield from _flat(value, f"{prefix}{name}.")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
      yield f"{prefix}{name}", value
