"""A table of scores, and how it reads in a terminal."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence

WIDTH = 100  # Columns of the terminal that `text` fits.
_NAME, _OTHER = 28, 14  # Of row names at least; of a heading before it is broken.


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of text under a title, with the note that makes the numbers comparable."""

  title: str
  note: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str]]  # The first cell of a row is its name.


def words(name: str) -> str:
  """A key of the scores, as it is read."""
  return name.replace("_", " ")


def number(value: float | Mapping, interval: bool = False) -> str:
  """A score to three places, with its interval where it has one and that is asked."""
  if not isinstance(value, Mapping):
    return f"{value:.3f}"
  if not interval or "low" not in value:
    return f"{value['value']:.3f}"
  return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def render(table: Table) -> str:
  """A table in at most WIDTH columns; what does not fit moves to a second block."""
  widths = [
    max(
      min(_OTHER, len(column)) + 1,
      *(len(row[i]) + 2 for row in table.rows),
    )
    for i, column in enumerate(table.columns, 1)
  ]
  margin = max(_NAME, 2 + max(len(row[0]) for row in table.rows))
  lines = [table.title, *textwrap.wrap(table.note, WIDTH)]
  start = 0
  while start < len(widths):
    stop = start + 1
    while stop < len(widths) and margin + sum(widths[start : stop + 1]) <= WIDTH:
      stop += 1
    lines += _block(table, margin, widths, start, stop)
    start = stop
  return "\n".join(lines)


def _block(
  table: Table, margin: int, widths: list[int], start: int, stop: int
) -> list[str]:
  lines = [f"  {row[0]}".ljust(margin) for row in table.rows]
  heads = []
  for i in range(start, stop):
    heads.append(textwrap.wrap(table.columns[i], widths[i] - 1))
    cells = _aligned([row[1 + i] for row in table.rows])
    for line, cell in enumerate(cells):
      lines[line] += cell.rjust(widths[i])
  height = max(map(len, heads))
  above = [" " * margin] * height
  for head, width in zip(heads, widths[start:stop]):
    padded = [""] * (height - len(head)) + head
    above = [line + word.rjust(width) for line, word in zip(above, padded)]
  return [line.rstrip() for line in (*above, *lines)]


def _aligned(cells: list[str]) -> list[str]:
  """Numbers without an interval, under the numbers of those that have one."""
  bracket = max(
    (len(cell) - cell.find(" [") for cell in cells if "[" in cell), default=0
  )
  return [cell if "[" in cell else cell + " " * bracket for cell in cells]
