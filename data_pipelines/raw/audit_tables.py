"""The counts of an audit as tables, and these as text for a terminal."""

import dataclasses
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from data_pipelines.raw.audit import UNSPLIT
from data_pipelines.raw.studies import SPLITS

WIDTH = 88  # Columns of the terminal.
_GROUPS = (*SPLITS, UNSPLIT)


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of text under a title; the first cell of a row is its name."""

  title: str
  note: str
  columns: Sequence[str]  # Without that of the names.
  rows: Sequence[Sequence[str]]


def tables(audit: Mapping[str, Any]) -> list[Table]:
  """The tables of an audit, those without a row left out."""
  made = (
    *(_totals(audit["totals"]), _funnel(audit["funnel"]), _dropped(audit)),
    *(_oddities(audit["oddities"]), _quarantine(audit["quarantine"])),
    *(_views(audit["views"]), _sections(audit["sections"])),
    *(_priors(audit["priors"]), _gaps(audit["priors"]), _order(audit)),
    *(_words(audit["words"]), _duplicates(audit["duplicates"])),
    _labels(audit["labels"]),
  )
  return [table for table in made if table.rows]


def summary(audit: Mapping[str, Any]) -> str:
  """An audit in a terminal."""
  heading = textwrap.fill(f"{audit['dataset']}, {rules(audit)}", WIDTH)
  blocks = [heading, verdict(audit)]
  blocks += ["\n".join(_text(table)) for table in tables(audit)]
  return "\n\n".join(blocks) + "\n"


def verdict(audit: Mapping[str, Any]) -> str:
  """Whether the data may be used, in a line or some."""
  if audit["problems"]:
    return "\n".join(f"PROBLEM: {problem}" for problem in audit["problems"])
  return "No problem was found: no patient is in two splits."


def rules(audit: Mapping[str, Any]) -> str:
  """The rules of the choice, in words."""
  of = audit["rules"]
  parts = [
    f"rules {of['name']}",
    f"to be written: {' then '.join(of['sections'])} (needs {of['required']}, at "
    f"least {of['min_words']} {'word' if of['min_words'] == 1 else 'words'})",
    f"views: {', '.join(of['views'])}",
    "all films of a study" if of["films"] == "all" else "a study's film of best view",
    f"split: {of['split']}",
    f"priors by {of['prior_order']}",
  ]
  if of["exact_films"] is not None:
    parts.insert(4, f"exactly {of['exact_films']} films a study")
  return "; ".join(parts)


def count(number: float | None) -> str:
  """A number as it is read; nothing for None."""
  return "" if number is None else f"{number:,.0f}"


def share(part: int, whole: int) -> str:
  """A count with its share of a whole."""
  return f"{count(part)} {share_of(part, whole)}".rstrip()


def share_of(part: int, whole: int) -> str:
  """A share of a whole in brackets; nothing where there is no whole."""
  return f"({part / whole:.1%})" if whole else ""


def _totals(totals: Mapping) -> Table:
  names = ("patients", "studies", "reports", "films")
  known = [n for n in names if any(n in row["recalled"] for row in totals.values())]
  cells = lambda row: (
    *(count(row["found"][name]) for name in names),
    *(count(row["recalled"].get(name)) for name in known),
  )
  return Table(
    "The download",
    "Splits as the download states them. Official totals are recalled, not read."
    if known
    else "Splits as the download states them.",
    (*names, *(f"official {name}" for name in known)),
    [(group, *cells(row)) for group, row in totals.items()],
  )


def _funnel(steps: Sequence[Mapping]) -> Table:
  groups = [g for g in _GROUPS if any(step["studies"].get(g) for step in steps)]
  cells = lambda step: (
    f"{count(step['studies'].get(g, 0))} / {count(step['films'].get(g, 0))}"
    for g in groups
  )
  return Table(
    "What is left, step by step",
    "Studies / films. A split that is drawn is drawn at its step, of what is left.",
    groups,
    [(step["name"], *cells(step)) for step in steps],
  )


def _dropped(audit: Mapping) -> Table:
  whole = sum(audit["funnel"][0]["studies"].values())
  return Table(
    "Studies left out",
    "Each for the first reason that applies.",
    ("studies",),
    [(reason, share(n, whole)) for reason, n in audit["dropped"].items()],
  )


def _oddities(counts: Mapping[str, int]) -> Table:
  rows = [(kind, count(number)) for kind, number in counts.items()]
  return Table("Oddities of the download", "", ("how many",), rows)


def _quarantine(counts: Mapping[str, int] | None) -> Table:
  title = "Films that cannot be read"
  if counts is None:
    return Table(title, "", ("films",), [("nobody has tried", "")])
  rows = [(why, count(number)) for why, number in counts.items()] or [("none", "0")]
  return Table(title, "Left out, of examples and of priors.", ("films",), rows)


def _views(counts: Mapping[str, Mapping[str, int]]) -> Table:
  names = dict.fromkeys(view for group in counts.values() for view in group)
  cells = lambda view: (
    share(group.get(view, 0), sum(group.values())) for group in counts.values()
  )
  rows = [(view, *cells(view)) for view in names]
  return Table("Views", "Films, and their share.", [*counts], rows)


def _sections(counts: Mapping[str, Mapping[str, int]]) -> Table:
  names = dict.fromkeys(name for group in counts.values() for name in group)
  names.pop("studies", None)
  cells = lambda name: (share(g[name], g["studies"]) for g in counts.values())
  rows = [(name, *cells(name)) for name in names]
  return Table("Sections", "Studies that have one.", [*counts], rows)


def _priors(found: Mapping[str, Mapping]) -> Table:
  lines = (
    ("studies with a prior", "studies_with_prior", "studies"),
    ("films with a prior", "films_with_prior", "films"),
    ("of the same view", "same_view", "films_with_prior"),
    ("of a study with a report", "prior_has_report", "films_with_prior"),
  )
  rows = [
    (name, *(share(row[part], row[whole]) for row in found.values()))
    for name, part, whole in lines
  ]
  return Table("Priors", "", [*found], rows if found else [])


def _gaps(found: Mapping[str, Mapping]) -> Table:
  gaps = [row["gap_days"] for row in found.values()]
  names = gaps[0]["bins"] if gaps else ()
  rows = [(name, *(count(gap["bins"][name]) for gap in gaps)) for name in names]
  medians = ("" if g["median"] is None else f"{g['median']:,.1f}" for g in gaps)
  note = "Studies, by the time since their prior; some have none that is known."
  rows = [*rows, ("median, days", *medians)] if rows else []
  return Table("How old priors are", note, [*found], rows)


def _order(audit: Mapping) -> Table:
  names = {
    "used": f"in use ({audit['rules']['prior_order']}), of examples",
    "time": "by time, of the download",
    "study_id": "by study_id, of the download",
  }
  keys = ("earlier", "not_earlier", "unknown")
  cells = lambda row: (share(row[key], sum(row.values())) for key in keys)
  return Table(
    "Whether priors are earlier",
    "Studies with a prior. It is unknown where either of the two has no time.",
    ("earlier", "not earlier", "unknown"),
    [(name, *cells(audit["prior_order"][key])) for key, name in names.items()],
  )


def _words(found: Mapping[str, Mapping]) -> Table:
  rows = [
    (f"{split}, {text}", *map(count, row["percentiles"].values()), count(row["sum"]))
    for split, texts in found.items()
    for text, row in texts.items()
  ]
  heads = next((t["target"]["percentiles"] for t in found.values()), ())
  return Table("Words", "Percentiles over studies.", [*heads, "sum"], rows)


def _duplicates(found: Mapping[str, Mapping[str, int]]) -> Table:
  return Table(
    "Reports that are there twice",
    "Studies of the row whose text is also that of another one of the column, exactly.",
    [f"in {split}" for split in found],
    [(split, *map(count, row.values())) for split, row in found.items()],
  )


def _labels(found: Mapping[str, Mapping]) -> Table:
  names = next((row["counts"] for row in found.values()), ())
  cell = lambda counts, whole: (
    f"{' / '.join(map(count, counts.values()))} {share_of(counts['present'], whole)}"
  )
  rows = [
    (name, *(cell(row["counts"][name], row["labelled"]) for row in found.values()))
    for name in names
  ]
  note = "Studies: present / absent / uncertain (present, of those with any label)."
  whole = (f"{count(row['labelled'])}" for row in found.values())
  rows = [("studies with any label", *whole), *rows] if rows else []
  return Table("Labels", note, [*found], rows)


def _text(table: Table) -> Iterator[str]:
  yield table.title
  yield from textwrap.wrap(table.note, WIDTH - 2, initial_indent="  ")
  names = [f"  {row[0]}" for row in table.rows]
  margin = max(map(len, names))
  lines = list(zip(table.columns, *(row[1:] for row in table.rows)))
  widths = [2 + max(map(len, line)) for line in lines]
  for start, stop in _blocks(widths, WIDTH - margin):
    for name, *cells in zip(("", *names), *lines[start:stop]):
      padded = (cell.rjust(w) for cell, w in zip(cells, widths[start:stop]))
      yield (name.ljust(margin) + "".join(padded)).rstrip()


def _blocks(widths: Iterable[int], room: int) -> Iterator[tuple[int, int]]:
  """The columns that fit beside one another, from and to."""
  start, used, stop = 0, 0, 0
  for stop, width in enumerate(widths):
    if used + width > room and stop > start:
      yield start, stop
      start, used = stop, 0
    used += width
  yield start, stop + 1
