"""The pictures of the page: SVG that takes its colours from the page's style."""

import html
from collections.abc import Mapping, Sequence

from jaxrg.metrics import tables
from jaxrg.metrics.rendering import number

NAME, PLOT, ROW = 235, 255, 20  # Pixels of names and of a scale from 0 to 1; of a row.


def classes(scores: Mapping[str, Mapping]) -> str:
  """F1 of every label: a bar for the first system, a tick for each of the others.

  `scores` maps a name to the classes of `scoring.score`.
  """
  (name, own), *others = scores.items()
  parts = []
  for i, (label, row) in enumerate(own.items()):
    y = i * ROW
    told = f"{label}: {number(row['f1'])} of {row['n_true']}"
    told += "".join(f", {other} {number(of[label]['f1'])}" for other, of in others)
    parts += [
      f"<g><title>{html.escape(told)}</title>",
      _text(NAME - 8, y + 14, label, "end"),
      _rect(NAME, y + 4, PLOT, ROW - 8, "track"),
      _rect(NAME, y + 4, PLOT * row["f1"], ROW - 8, "bar"),
      *(_tick(NAME + PLOT * of[label]["f1"], y, i) for i, (_, of) in enumerate(others)),
      _text(NAME + PLOT + 8, y + 14, number(row["f1"])),
      "</g>",
    ]
  ticks = ", ".join(
    f"{kind} tick {other}" for kind, (other, _) in zip(("dark", "light"), others)
  )
  note = f"Bar: {name}; {ticks}." if others else ""
  return _figure("F1 by label", note, len(own) * ROW, parts)


def confusion(told: Mapping) -> str:
  """Changes as they are (rows) and as they are said to be (columns), shaded by row."""
  kinds, counts = told["kinds"], told["counts"]
  left, side = 130, (NAME - 130 + PLOT + 50) / len(kinds)
  middle = lambda column: left + side * (column + 0.5) - 1
  parts = [_text(middle(j), 14, kind, "middle") for j, kind in enumerate(kinds)]
  for i, (kind, row) in enumerate(zip(kinds, counts)):
    y = ROW + i * 30
    parts.append(_text(left - 8, y + 19, f"truly {kind}", "end"))
    for j, count in enumerate(row):
      share = count / max(sum(row), 1)
      title = f"truly {kind}, said {kinds[j]}: {count} of {sum(row)}"
      parts += [
        f"<g><title>{html.escape(title)}</title>",
        _rect(left + side * j, y, side - 2, 28, "right" if i == j else "wrong", share),
        _text(middle(j), y + 19, str(count), "middle"),
        "</g>",
      ]
  note = "Findings of studies with a prior: rows are true, columns are said."
  return _figure(tables.CONFUSION, note, ROW + 30 * len(kinds), parts)


def subgroups(told: Mapping, measure: str, title: str) -> str:
  """A score of each group with its interval, group under group."""
  parts, y = [], 0
  for kind, groups in told.items():
    if kind == "protocol":
      continue
    for name, row in groups.items():
      value, low, high = (row[measure][key] for key in ("value", "low", "high"))
      words = f"{name} ({row['n']})"
      x = lambda share: NAME + PLOT * share
      parts += [
        f"<g><title>{html.escape(words)}: {number(row[measure], True)}</title>",
        _text(NAME - 8, y + 14, words, "end"),
        _rect(NAME, y + 9.5, PLOT, 1, "track"),
        _rect(x(low), y + 8.5, PLOT * (high - low), 3, "bar"),
        f'<circle class="bar" cx="{x(value):.1f}" cy="{y + 10}" r="4"/>',
        _text(NAME + PLOT + 8, y + 14, number(value)),
        "</g>",
      ]
      y += ROW
    y += 8
  note = "Number of reports in brackets; lines are 95 % intervals."
  return _figure(title, note, y, parts) if parts else ""


def _figure(title: str, note: str, height: float, parts: Sequence[str]) -> str:
  drawing = (
    f'<svg viewBox="0 0 {NAME + PLOT + 50} {height:.0f}" role="img" '
    f'aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
  )
  words = f'<h2>{html.escape(title)}</h2><p class="note">{html.escape(note)}</p>'
  return f'<section class="table">{words}{drawing}</section>'


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
  words = html.escape(words)
  return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def _rect(
  x: float, y: float, width: float, height: float, kind: str, opacity: float = 1
) -> str:
  return (
    f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" '
    f'height="{height:.1f}" fill-opacity="{opacity:.3g}"/>'
  )


def _tick(x: float, y: float, place: int) -> str:
  return _rect(x - 1, y + 2, 2.5, ROW - 4, f"tick tick-{place}")
