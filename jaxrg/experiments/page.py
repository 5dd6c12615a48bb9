"""Studies with the reports of several trials beside one another, for the eye."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from data_pipelines import cli, findings, loader
from jaxrg.experiments.scores import Rows
from jaxrg.metrics import agreement, clinical
from jaxrg.report import LEGEND, Album

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 1rem; color: #222 }
h1 { font-size: 1.3rem } .use { color: #a00 }
article { display: grid; grid-template-columns: 270px 1fr; gap: 1rem;
  border-top: 1px solid #ccc; padding: 1rem 0 }
figure { display: inline-block; margin: 0 4px 0 0 } img { width: 128px }
figcaption, .context, small { color: #666; font-size: .8rem }
dl { display: grid; grid-template-columns: 9rem 1fr; gap: .3rem 1rem; margin: 0 }
dt { font-weight: 600 } dd { margin: 0 }
.right { color: #06682b } .wrong { color: #a00 } .missed { color: #8a5a00 }
"""
SIGNS = {agreement.RIGHT: "", agreement.WRONG: "+", agreement.MISSED: "\N{MINUS SIGN}"}


def render(
  title: str, source: Sequence[Any], written: Mapping[str, Rows], count: int
) -> str:
  """A page of `count` studies spread over the split, that fetches nothing.

  `written` are the rows of each trial, by name, in the order of the split.
  """
  rows = next(iter(written.values()))
  chosen = loader.spread(len(rows), count)
  records = [loader.parse(source, i) for i in chosen]
  priors = [
    loader.parse(source, int(record["prior"])) if record["prior"] >= 0 else {}
    for record in records
  ]
  album = Album([*records, *priors])
  articles = [
    _study(record, prior, {name: rows[i] for name, rows in written.items()}, album)
    for i, record, prior in zip(chosen, records, priors)
  ]
  return (
    '<!doctype html><html lang="en"><meta charset="utf-8">'
    '<meta http-equiv="content-security-policy" content="default-src \'none\'; '
    "img-src data:; style-src 'unsafe-inline'\">"
    f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    f'<h1>{html.escape(title)}</h1><p class="use">{html.escape(cli.INTENDED_USE)}</p>'
    f"<p>{LEGEND}</p>{''.join(articles)}</html>\n"
  )


def _study(record, prior, rows: Mapping[str, Mapping], album: Album) -> str:
  figures = [_figure(record, "now", album)]
  if prior:
    figures.append(_figure(prior, "before", album))
  context = " ".join(filter(None, (record["indication"], record["history"])))
  reference = html.escape(record["findings"])
  entries = [f"<dt>reference</dt><dd>{reference}</dd>"]
  for name, row in rows.items():
    text = html.escape(row["prediction"])
    entries.append(f"<dt>{html.escape(name)}</dt><dd>{text}<br>{_verdicts(row)}</dd>")
  return (
    f"<article><div>{''.join(figures)}"
    f'<p class="context">{html.escape(context)}</p></div>'
    f"<dl>{''.join(entries)}</dl></article>"
  )


def _figure(record, when: str, album: Album) -> str:
  data = album.images[album.add(record["image"])]
  caption = f"{record['view']}, {when}, {record['study_time'][:10]}"
  return (
    f'<figure><img src="{data}" alt="">'
    f"<figcaption>{html.escape(caption)}</figcaption></figure>"
  )


def _verdicts(row: Mapping) -> str:
  """What is right, wrong and missed of the labels and changes of one report."""
  verdicts = agreement.judge(
    clinical.read_labels([row["prediction"]], findings)[0],
    clinical.true_labels([row], findings)[0][0],
    clinical.read_changes([row["prediction"]], findings)[0],
    clinical.true_changes([row], findings)[0][0],
  )
  named = [*verdicts.labels.items()]
  named += [(agreement.phrase(change), v) for change, v in verdicts.changes.items()]
  marks = (
    f'<span class="{verdict}">{SIGNS[verdict]}{html.escape(name)}</span>'
    for name, verdict in named
  )
  return f"<small>{', '.join(marks)}</small>"
