"""Scores with their intervals as a picture: a panel a score, a line a trial."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple


class Point(NamedTuple):
  """A named score, its interval, and what it is to be seen beside, if anything."""

  name: str
  value: float
  low: float
  high: float
  beside: float | None = None


class Panel(NamedTuple):
  """A score of several trials; `beside` says what their marks are that stand beside."""

  title: str
  points: Sequence[Point]
  beside: str = ""


def draw(title: str, panels: Sequence[Panel]) -> Any:
  """The panels, side by side, as a figure of matplotlib."""
  from matplotlib.figure import Figure  # Half a second that no other verb has to wait.

  lines = max(len(panel.points) for panel in panels)
  size = (2.6 + 2.6 * len(panels), 1.5 + 0.32 * lines)
  figure = Figure(size, dpi=120, layout="constrained")
  figure.suptitle(title, fontsize=10)
  shown = None
  for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
    names, values, lows, highs, beside = zip(*panel.points)
    rows = range(len(names))
    marks = [(x, row) for row, x in enumerate(beside) if x is not None]
    if marks:
      axis.plot(*zip(*marks), "|", color="0.6", markersize=14, zorder=0)
      axis.set_xlabel(f"|  {panel.beside}", fontsize=7, color="0.4")
    axis.hlines(rows, lows, highs, color="tab:blue", linewidth=1.5)
    axis.plot(values, rows, "o", color="tab:blue", markersize=4)
    # Panels of the same trials name them once.
    axis.set_yticks(rows, [] if names == shown else names, fontsize=8)
    axis.set_ylim(len(names) - 0.5, -0.5)  # The first on top.
    axis.set_title(panel.title, fontsize=9)
    axis.tick_params(axis="x", labelsize=8)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    shown = names
  return figure


def png(figure: Any) -> bytes:
  """The figure as the bytes of a file."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png")
  return buffer.getvalue()
