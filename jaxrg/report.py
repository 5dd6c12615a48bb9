"""report.html: the scores, and every study as a person would want to check it.

One file that fetches nothing (its content policy forbids it). Studies travel as
data; the script in `report.html`, this module's template, draws them.
"""

import base64
import hashlib
import html
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
from PIL import Image

from data_pipelines import cli, findings
from data_pipelines.records import LABELS
from jaxrg import charts
from jaxrg.metrics import agreement, clinical, predictions, rendering, tables

LEGEND = "Labels and changes: + claimed only, \N{MINUS SIGN} true only."
TEXT_LEGEND = """
Sentences: <span class="s right">a finding both have</span>
<span class="s wrong">a claim against the truth</span>
<span class="s missed">a finding not generated</span>
<mark>bold</mark>: words the other report lacks."""
WITHHELD = "Report text and images are left out (include_text is off)."
IMAGE_BYTES = 10 << 20  # All images together, before base64 adds a third.
LOOKS_BYTES = 10 << 20  # What words looked at, all together; the rest goes without.
LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
SIDES = (512, 384, 256, 192, 128, 96)  # The largest that keeps to it.
CONTEXT = ("indication", "history", "like")  # The last: whose films look alike.


def write(
  path: str | os.PathLike,
  rows: Sequence[clinical.Record],
  metrics: Mapping,
  *,
  include_text: bool,
  records: Mapping[str, Mapping] | None = None,
  baselines: Mapping[str, Mapping] | None = None,
  priors: Mapping[str, Mapping] | None = None,
  title: str = "Generated chest X-ray reports",
  notes: Sequence[str] = (),
  reader: clinical.Reader = findings,
) -> None:
  """Writes the page of predictions (rows as in `predictions`) and their scores.

  `records` maps an id to what is known of the study: any of image, prior_image
  (height width [1], uint8), view, study_time, prior_view, prior_time, indication,
  history, like (in words), graph (a data URI), looks (`attention.Looks`). `metrics`,
  `baselines`, `priors` are as in `tables.tables`; `notes` are lines under the title.
  Unless `include_text`, the page has ids, labels and scores only: no text, date or
  image of any study. Written whole, readable by its owner.
  """
  records = records or {}
  album = Album([records.get(row["id"], {}) for row in rows] if include_text else [])
  studies = _studies(rows, records, album, include_text, reader)
  data = json.dumps({"studies": studies, "images": album.images}, ensure_ascii=False)
  shown = tables.tables(metrics, baselines, priors)
  drawn = _charts(metrics, baselines or {})
  notes = notes if include_text else (*notes, WITHHELD)
  parts = {
    "title": html.escape(title),
    "use": html.escape(cli.INTENDED_USE),
    "notes": "\n".join(f'<p class="note">{html.escape(note)}</p>' for note in notes),
    "charts": "\n".join(drawn),
    "tables": "\n".join(_table(t) for t in shown if t.title != tables.CONFUSION),
    "findings": "".join(f"<option>{html.escape(label)}</option>" for label in LABELS),
    "legend": f"{TEXT_LEGEND} {LEGEND}" if include_text else LEGEND,
    # Nothing in a JSON text but strings holds "<"; so no text can end the script.
    "data": data.replace("<", "\\u003c"),
  }
  template = resources.files("jaxrg").joinpath("report.html").read_text("utf-8")
  page = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)
  predictions.write_private(path, page)


class Album:
  """Images as PNG data, each once, at the largest size that fits IMAGE_BYTES."""

  def __init__(self, records: Sequence[Mapping]):
    images = [
      record[key]
      for record in records
      for key in ("image", "prior_image")
      if record.get(key) is not None
    ]
    self.images: dict[str, str] = {}
    self._side = SIDES[-1]
    sample = images[:: max(1, len(images) // 8)]
    for side in SIDES:
      size = np.mean([len(_png(image, side)) for image in sample]) if sample else 0
      if size * len(images) <= IMAGE_BYTES:
        self._side = side
        break

  def add(self, image: np.ndarray | None) -> str:
    """The key of an image; a prior that is also a current image is stored once."""
    if image is None:
      return ""
    image = np.ascontiguousarray(image, np.uint8)
    key = hashlib.sha256(image.tobytes()).hexdigest()[:12]
    if key not in self.images:
      data = base64.b64encode(_png(image, self._side)).decode()
      self.images[key] = f"data:image/png;base64,{data}"
    return key

  def keep(self, uri: str) -> str:
    """The key of a drawing that is a data URI already."""
    if not uri:
      return ""
    key = hashlib.sha256(uri.encode()).hexdigest()[:12]
    self.images[key] = uri
    return key


def _png(image: np.ndarray, side: int) -> bytes:
  picture = Image.fromarray(np.asarray(image, np.uint8).squeeze())
  picture.thumbnail((side, side), Image.Resampling.BOX)
  file = io.BytesIO()
  picture.save(file, "png", optimize=True)
  return file.getvalue()


def _studies(
  rows: Sequence[clinical.Record],
  records: Mapping[str, Mapping],
  album: Album,
  include_text: bool,
  reader: clinical.Reader,
) -> list[dict]:
  outputs = [row["prediction"] for row in rows]
  judged = zip(
    rows,
    clinical.read_labels(outputs, reader),
    clinical.true_labels(rows, reader)[0],
    clinical.read_changes(outputs, reader),
    clinical.true_changes(rows, reader)[0],
  )
  studies, left = [], LOOKS_BYTES
  for row, *claims in judged:
    verdicts = agreement.judge(*claims)
    study = {
      "id": row["id"],
      "facts": row.get("view", ""),
      "prior": bool(row.get("has_prior")),
      "wrong": not verdicts.all_right,
      "score": round(verdicts.f1, 3),
      "chips": _chips(verdicts),
    }
    if include_text:
      study |= _text(row, verdicts, reader)
      record = records.get(row["id"], {})
      study |= _pictures({**row, **record}, album)
      if looks := _looks(record.get("looks"), left):
        study["looks"] = looks
        left -= sum(map(len, looks["films"].values()))
    studies.append(study)
  return studies


def _looks(looks: Any, most: int) -> dict | None:
  """What words looked at, for the script: of every place of every word a letter.

  Of each word the place that it looked at most is the last of LEVELS. None where there
  is nothing, or more of it than `most` bytes.
  """
  if looks is None or sum(maps.size for maps in looks.films.values()) > most:
    return None
  peaks = [maps.max(axis=(1, 2)) for maps in looks.films.values()]
  scale = (len(LEVELS) - 1) / np.maximum(np.max(peaks, axis=0), 1e-9) if peaks else 0
  letters = np.array(list(LEVELS))
  films = {
    name: "".join(letters[np.rint(maps * scale[:, None, None]).astype(int)].ravel())
    for name, maps in looks.films.items()
  }
  side = next((maps.shape[1] for maps in looks.films.values()), 0)
  return {"films": films, "side": side, "notes": list(looks.notes)}


def _charts(metrics: Mapping, baselines: Mapping[str, Mapping]) -> Iterator[str]:
  scores = {"system": metrics, **baselines}
  yield charts.classes({name: of["labels"]["classes"] for name, of in scores.items()})
  if metrics["changes"] is not None:
    yield charts.confusion(metrics["changes"]["confusion"])
  measure = "ce_rules_micro_f1"
  yield charts.subgroups(metrics["subgroups"], measure, "Label micro-F1 by subgroup")


def _chips(verdicts: agreement.Verdicts) -> list[tuple[str, str, str]]:
  notes = {
    agreement.RIGHT: "in the truth and in the generated report",
    agreement.WRONG: "in the generated report only",
    agreement.MISSED: "in the truth only",
  }
  named = [*verdicts.labels.items()]
  named += [(agreement.phrase(k), v) for k, v in verdicts.changes.items()]
  return [(name, verdict, notes[verdict]) for name, verdict in named]


def _text(
  row: clinical.Record, verdicts: agreement.Verdicts, reader: clinical.Reader
) -> dict:
  generated, reference = agreement.compare(
    row["prediction"], row["reference"], verdicts, reader
  )
  return {
    "generated": [sentence._asdict() for sentence in generated],
    "reference": [sentence._asdict() for sentence in reference],
    "prior_report": row.get("prior_report", ""),
  }


def _pictures(record: Mapping, album: Album) -> dict:
  time, prior_time = record.get("study_time", ""), record.get("prior_time", "")
  return {
    "facts": _joined(record.get("view", ""), _minute(time)),
    "context": [
      (name.capitalize(), record[name]) for name in CONTEXT if record.get(name)
    ],
    "image": album.add(record.get("image")),
    "caption": _joined(record.get("view", ""), time[:10]),
    "prior_image": album.add(record.get("prior_image")),
    "prior_caption": _joined(record.get("prior_view", ""), prior_time[:10]),
    "graph": album.keep(record.get("graph", "")),
  }


def _joined(*parts: str) -> str:
  return ", ".join(part for part in parts if part)


def _minute(time: str) -> str:
  return time[:16].replace("T", " ")


def _table(table: rendering.Table) -> str:
  """A table as HTML; long ones, and those of single protocols, are folded."""
  # Numbers with an interval stand left, so that they stand under one another.
  classes = [
    ' class="ci"' if any("[" in cell for cell in column) else ""
    for column in zip(*table.rows)
  ]
  head = "".join(
    f"<th{style}>{html.escape(column)}</th>"
    for style, column in zip(classes, ("", *table.columns))
  )
  rows = []
  for name, *cells in table.rows:
    numbers = "".join(
      f"<td{style}>{_cell(cell)}</td>" for style, cell in zip(classes[1:], cells)
    )
    rows.append(f'<tr><th scope="row">{html.escape(name)}</th>{numbers}</tr>')
  title = f"<h2>{html.escape(table.title)}</h2>"
  body = (
    f'<p class="note">{html.escape(table.note)}</p><div class="scroll"><table>'
    f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
  )
  if len(table.rows) > 8 or table.title.startswith("Language, protocol"):
    return f'<details class="table"><summary>{title}</summary>{body}</details>'
  return f'<section class="table">{title}{body}</section>'


def _cell(text: str) -> str:
  number, bracket, interval = html.escape(text).partition(" [")
  return f"{number} <small>[{interval}</small>" if bracket else number
