"""An audit as a page: one file that fetches nothing and says nothing it was not told.

Every text is escaped, and the content policy forbids scripts and requests.
"""

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_pipelines import cli
from data_pipelines.raw import audit_tables

SHARING = (
  "Credentialed data and what is derived of it, this page included, may not be shared "
  "beyond those who have signed for it."
)
WITHHELD = "Text of reports is left out (include_text is off)."

_FOLDED = 9  # Rows from which on a table is folded.
_NAME, _PLOT, _BAR = 222, 185, 9  # Pixels: of names, of the longest bar, of its height.

_STYLE = """
:root { --ink: #1b2430; --soft: #586474; --line: #d9dee5; --paper: #fff;
  --ground: #f4f6f8; --bad: #a3201a; --c0: #1f5fa8; --c1: #d98a1f; --c2: #3f9a57; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--ground); font: 15px/1.5
  system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 0 16px 48px; }
h1 { font-size: 1.5rem; margin: 24px 0 4px; }
h2 { font-size: 1.1rem; margin: 0; }
h3 { font-size: .95rem; margin: 0; overflow-wrap: anywhere; }
p { margin: 4px 0; max-width: 90ch; }
.use, .bad { font-weight: 600; color: var(--bad); }
.good { font-weight: 600; color: #1d6b32; }
.note { color: var(--soft); font-size: .87rem; overflow-wrap: anywhere; }
.boxes { columns: 2 480px; column-gap: 12px; margin-top: 12px; }
.box { break-inside: avoid; background: var(--paper); border: 1px solid var(--line);
  border-radius: 8px; padding: 12px 16px; margin-bottom: 12px; min-width: 0; }
summary { cursor: pointer; }
summary h2 { display: inline; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin-top: 6px; font-size: .8rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 3px 0 3px 10px; white-space: nowrap;
  border-top: 1px solid var(--line); }
thead th { border: 0; white-space: normal; vertical-align: bottom; color: var(--soft); }
th:first-child { text-align: left; padding-left: 0; font-weight: 400;
  white-space: normal; min-width: 7.5em; }
svg { width: 100%; height: auto; margin-top: 8px; }
svg text { font-size: 12px; fill: var(--ink); }
.k { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .9em; }
.s0 { fill: var(--c0); background: var(--c0); }
.s1 { fill: var(--c1); background: var(--c1); }
.s2 { fill: var(--c2); background: var(--c2); }
.cards { display: grid; gap: 12px; margin-top: 12px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); }
.cards .box { margin: 0; }
figure { display: inline-block; width: calc(50% - 4px); margin: 6px 0 0;
  vertical-align: top; }
figure img { width: 100%; display: block; background: #000; border-radius: 4px; }
figcaption { color: var(--soft); font-size: .8rem; }
dl { margin: 6px 0 0; font-size: .87rem; }
dt { color: var(--soft); margin-top: 4px; }
dd { margin: 0; overflow-wrap: anywhere; }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(audit: Mapping[str, Any], pictures: Mapping[str, bytes] | None = None) -> str:
  """The page of an audit; `pictures` are PNG files of samples' films, by their ids."""
  title = f"Audit of {audit['dataset']}, {audit['rules']['name']}"
  mood = "bad" if audit["problems"] else "good"
  verdict = (
    f'<p class="{mood}">{html.escape(line)}</p>'
    for line in audit_tables.verdict(audit).splitlines()
  )
  cards = (_card(sample, pictures or {}) for sample in audit["samples"])
  withheld = "" if audit["include_text"] else f'<p class="note">{WITHHELD}</p>'
  return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{html.escape(title)}</h1>
<p class="use">{html.escape(cli.INTENDED_USE)}</p>
<p>{html.escape(SHARING)}</p>
{"".join(verdict)}
<p class="note">{html.escape(audit_tables.rules(audit))}.</p>
<div class="boxes">
{"".join(_charts(audit))}
{"".join(map(_table, audit_tables.tables(audit)))}
</div>
<h2>Sample records</h2>
{withheld}
<div class="cards">{"".join(cards)}</div>
</main>
</body>
</html>
"""


def _charts(audit: Mapping[str, Any]) -> Iterator[str]:
  steps = [(s["name"], [sum(s["studies"].values())]) for s in audit["funnel"]]
  yield _bars("Studies left", "Step by step.", ("studies",), steps, "{:,.0f}")
  gaps = {s: row["gap_days"]["bins"] for s, row in audit["priors"].items()}
  if any(sum(bins.values()) for bins in gaps.values()):
    yield _shares("Time since the prior", "Of studies with one.", gaps)
  views = {s: counts for s, counts in audit["views"].items() if s in audit["priors"]}
  if views:
    yield _shares("Views of examples", "Of films.", views)
  labels = audit["labels"]
  if any(row["labelled"] for row in labels.values()):
    rows = [
      (
        name,
        [r["counts"][name]["present"] / max(r["labelled"], 1) for r in labels.values()],
      )
      for name in next(iter(labels.values()))["counts"]
    ]
    note = "Present, of studies with any label."
    yield _bars("Labels by split", note, [*labels], rows, "{:.1%}")


def _shares(title: str, note: str, counts: Mapping[str, Mapping[str, int]]) -> str:
  names = dict.fromkeys(name for group in counts.values() for name in group)
  wholes = [max(sum(group.values()), 1) for group in counts.values()]
  rows = [
    (name, [g.get(name, 0) / whole for g, whole in zip(counts.values(), wholes)])
    for name in names
  ]
  return _bars(title, note, [*counts], rows, "{:.1%}")


def _bars(
  title: str,
  note: str,
  series: Sequence[str],
  rows: Sequence[tuple[str, Sequence[float]]],
  form: str,
) -> str:
  """Bars under one another, one a row and series."""
  most = max((value for _, values in rows for value in values), default=0) or 1
  parts, y = [], 0
  for name, values in rows:
    height = len(values) * (_BAR + 3)
    parts.append(_words(_NAME - 8, y + height / 2 + 3, name, "end"))
    for i, value in enumerate(values):
      width, top = value / most * _PLOT, y + i * (_BAR + 3)
      told = form.format(value)
      parts += [
        f'<rect class="s{i % 3}" x="{_NAME}" y="{top}" width="{width:.1f}" '
        f'height="{_BAR}"><title>{html.escape(f"{name}, {series[i]}: {told}")}</title>'
        "</rect>",
        _words(_NAME + width + 5, top + _BAR, told),
      ]
    y += height + 7
  keys = "".join(
    f'<span class="k s{i % 3}"></span>{html.escape(name)}'
    for i, name in enumerate(series)
  )
  legend = keys if len(series) > 1 else ""
  return (
    f'<section class="box"><h2>{html.escape(title)}</h2><p class="note">'
    f'{html.escape(note)}{legend}</p><svg viewBox="0 0 {_NAME + _PLOT + 55} {y}" '
    f'role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg></section>'
  )


def _words(x: float, y: float, words: str, anchor: str = "start") -> str:
  text = html.escape(words)
  return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _table(table: audit_tables.Table) -> str:
  head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *table.columns))
  rows = "".join(
    f'<tr><th scope="row">{html.escape(row[0])}</th>'
    + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
    + "</tr>"
    for row in table.rows
  )
  title = f"<h2>{html.escape(table.title)}</h2>"
  body = (
    f'<p class="note">{html.escape(table.note)}</p><div class="scroll"><table><thead>'
    f"<tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
  )
  if len(table.rows) > _FOLDED:
    return f'<details class="box"><summary>{title}</summary>{body}</details>'
  return f'<section class="box">{title}{body}</section>'


def _card(sample: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
  films = [(sample["film"], sample["view"])]
  facts = {"Film": sample["film"]}
  if sample["prior_film"]:
    films.append((sample["prior_film"], f"prior, {sample['prior_view']}"))
    gap = sample["gap_days"]
    age = "unknown time before" if gap is None else f"{gap:,.1f} days before"
    facts["Prior"] = f"study {sample['prior_study']}, {sample['prior_view']}, {age}"
    facts["Film of the prior"] = sample["prior_film"]
  else:
    facts["Prior"] = "none"
  facts["Words"] = ", ".join(f"{name} {n}" for name, n in sample["words"].items())
  facts |= {name.capitalize(): text for name, text in sample.get("text", {}).items()}
  if sample.get("prior_report"):
    facts["Report of the prior"] = sample["prior_report"]
  shown = "".join(_figure(pictures[f], words) for f, words in films if f in pictures)
  told = "".join(
    f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>"
    for name, text in facts.items()
  )
  head = f"Patient {sample['patient']}, study {sample['study']}"
  return (
    f'<article class="box"><h3>{html.escape(head)}</h3><p class="note">'
    f"{html.escape(sample['split'])}, {html.escape(sample['view'])}</p>{shown}"
    f"<dl>{told}</dl></article>"
  )


def _figure(picture: bytes, words: str) -> str:
  data = base64.b64encode(picture).decode()
  return (
    f'<figure><img alt="" src="data:image/png;base64,{data}">'
    f"<figcaption>{html.escape(words)}</figcaption></figure>"
  )
