"""The scores as tables: the same rows for a terminal and for the page."""

from collections.abc import Mapping

from data_pipelines.records import LABELS
from jaxrg.metrics import averages, subgroups
from jaxrg.metrics.rendering import Table, number, render, words

CONFUSION = "Changes, true and said"  # The page draws this one.


def tables(
  metrics: Mapping,
  baselines: Mapping[str, Mapping] | None = None,
  priors: Mapping[str, Mapping] | None = None,
  *,
  name: str = "system",
) -> list[Table]:
  """Tables of `scoring.score`: a system beside its baselines (name -> their scores).

  `priors` is what `scoring.prior_effect` gives.
  """
  scores = {name: metrics, **(baselines or {})}
  columns = [f"{name} [95 %]", *(baselines or {})]
  result = [_outputs(scores), _health(scores)]
  result.append(_protocols(metrics["language"]))
  result += [_language(scores, columns, key) for key in metrics["language"]]
  result += [_labels(scores, columns), _classes(scores)]
  result.append(averages.table(metrics["ce_rules"], averages.RULES))
  if metrics["changes"] is not None:
    result += [_changes(scores, columns), _confusion(metrics["changes"]["confusion"])]
  result.append(errors(metrics["errors"]))
  if priors:
    result.append(_priors(priors))
  result.append(subgroups.table(metrics["subgroups"]))
  return [table for table in result if table.rows]


def text(
  metrics: Mapping,
  baselines: Mapping[str, Mapping] | None = None,
  priors: Mapping[str, Mapping] | None = None,
  *,
  name: str = "system",
) -> str:
  """The tables for a terminal of WIDTH columns."""
  return "\n\n".join(
    render(table) for table in tables(metrics, baselines, priors, name=name)
  )


def errors(scores: Mapping) -> Table:
  """The table of what `errors.score` gives."""
  protocol = scores["protocol"]
  groups = {group: row for group, row in scores.items() if row and "about" in row}
  about = " ".join(f"{words(name)}: {row['about']}." for name, row in groups.items())
  note = (
    f"{protocol['n']} reports, {_with_prior(protocol['n_with_prior'])}; labeler: "
    f"{protocol['labeler']}; truth: {protocol['truth']}. {about}"
  )
  rows = [
    (
      f"{words(group)}: {words(outcome)}",
      number(cell, interval=True),
      str(cell["count"]),
      str(row["n"]),
    )
    for group, row in groups.items()
    for outcome, cell in row.items()
    if isinstance(cell, Mapping)
  ]
  return Table("Errors", note, ["share [95 %]", "count", "of"], rows)


def causes(scores: Mapping) -> Table:
  """The table of what `causes.score` gives."""
  protocol = scores["protocol"]
  asked = "; ".join(f"{name}: {of}" for name, of in protocol["asked"].items())
  note = (
    "What the report takes the opacities of the truth for. "
    f"{asked}. Labeler: {protocol['labeler']}; truth: {protocol['truth']}."
  )
  best = [scores[name]["ceiling"] for name in protocol["asked"]]
  ceiled = None not in best
  rows = []
  for name, ceiling in zip(protocol["asked"], best):
    row = scores[name]
    cells = _row(name, [row["accuracy"]], ceiling, ceiled)
    rows.append((*cells, str(row["n"])))
  columns = _ceiled(["accuracy [95 %]"], best if ceiled else None)
  return Table("What only the context decides", note, [*columns, "of"], rows)


def _with_prior(count: int | None) -> str:
  if count is None:
    return "which have a prior is not told, so that all count as having one"
  return f"{count} with a prior"


def _outputs(scores: Mapping[str, Mapping]) -> Table:
  first = next(iter(scores.values()))
  resampling = first["resampling"]
  note = (
    f"{first['n']} reports of {first['n_patients']} patients, "
    f"{_with_prior(first['n_with_prior'])}. [95 %]: bootstrap over "
    f"{resampling['units']} {resampling['unit']}s, {resampling['resamples']} "
    f"resamples, seed {resampling['seed']}."
  )
  if resampling["unit"] == "report":
    note = note.replace(f" of {first['n_patients']} patients", "")
  rows = [
    ("unique outputs", *[f"{s['n_unique'] / s['n']:.1%}" for s in scores.values()]),
    ("number unique", *[str(s["n_unique"]) for s in scores.values()]),
    ("empty outputs", *[str(s["n_empty"]) for s in scores.values()]),
    (
      f"words (references {first['reference_words']:.1f})",
      *[f"{s['words']:.1f}" for s in scores.values()],
    ),
  ]
  return Table("Outputs", note, list(scores), rows)


HEALTH = {
  "distinct_1": "different words among all",
  "distinct_2": "different pairs of words among all",
  "repeated": "reports with 4 words in a row twice",
  "normal": "reports without a finding",
  "copied": "reports copied from training",
  "length_ratio": "length, of the references'",
}


def _health(scores: Mapping[str, Mapping]) -> Table:
  first = next(iter(scores.values()))["health"]
  told = [s["health"]["system"] for s in scores.values()] + [first["references"]]
  rows = [
    (title, *[f"{of[key]:.3f}" if key in of else "-" for of in told])
    for key, title in HEALTH.items()
    if key in told[0]
  ]
  note = "Words in lower case, split at white space; findings are read by rules."
  return Table("Health", note, [*scores, "references"], rows)


MEASURES = {f"bleu_{n}": f"BLEU-{n}" for n in range(1, 5)}
MEASURES |= {"rouge_l": "ROUGE-L", "cider": "CIDEr-D", "meteor": "METEOR 1.5"}


def _protocols(language: Mapping[str, Mapping]) -> Table:
  """One system by every protocol, for its likes stand in papers without theirs."""
  named = {
    key: title
    for key, title in MEASURES.items()
    if any(key in scores for scores in language.values())
  }
  rows = [
    (name, *(number(scores[key]) if key in scores else "-" for key in named))
    for name, scores in language.items()
  ]
  note = "The same reports by every protocol: none can be compared with another."
  return Table("Language by protocol", note, [*named.values()], rows)


def _language(scores: Mapping[str, Mapping], columns: list[str], key: str) -> Table:
  protocol = next(iter(scores.values()))["language"][key]["protocol"]
  note = (
    f"Text: {protocol['tokens']}; references {protocol['references']}; "
    f"N {protocol['n']}, {protocol['n_unique']} unique."
  )
  told = [s["language"][key] for s in scores.values()]
  rows = [
    _row(title, [of[measure] for of in told])
    for measure, title in MEASURES.items()
    if all(measure in of for of in told)
  ]
  return Table(f"Language, protocol {key}", note, columns, rows)


def _labels(scores: Mapping[str, Mapping], columns: list[str]) -> Table:
  labels = [s["labels"] for s in scores.values()]
  protocol, ceiling = labels[0]["protocol"], labels[0]["ceiling"]
  note = (
    f"Labeler: {protocol['labeler']}; truth: {protocol['truth']}; uncertain counted "
    f"{protocol['uncertain']}; macro {protocol['macro']}; N {protocol['n']}, "
    f"{protocol['n_unique']} unique."
  )
  rows = []
  for average in ("micro", "macro"):
    for measure in ("f1", "precision", "recall"):
      best = (ceiling or {}).get(f"{average}_{measure}")
      values = [score[average][measure] for score in labels]
      title = "F1" if measure == "f1" else measure
      rows.append(_row(f"{average} {title}", values, best, ceiling is not None))
  return Table("Findings, 14 labels", note, _ceiled(columns, ceiling), rows)


def _classes(scores: Mapping[str, Mapping]) -> Table:
  own, *others = [s["labels"]["classes"] for s in scores.values()]
  columns = ["F1", "precision", "recall", "n", "claimed"]
  columns += [f"F1 {name}" for name in list(scores)[1:]]
  rows = []
  for label in LABELS:
    row = own[label]
    rows.append(
      (
        label,
        _f1(row),
        number(row["precision"]) if row["n_predicted"] else "-",
        number(row["recall"]) if row["n_true"] else "-",
        str(row["n_true"]),
        str(row["n_predicted"]),
        *[_f1(other[label]) for other in others],
      )
    )
  note = "-: neither in the truth nor claimed, or nothing to divide by."
  return Table("Findings by label", note, columns, rows)


def _f1(row: Mapping) -> str:
  return number(row["f1"]) if row["n_true"] + row["n_predicted"] else "-"


def _changes(scores: Mapping[str, Mapping], columns: list[str]) -> Table:
  changes = [s["changes"] for s in scores.values()]
  protocol, ceiling = changes[0]["protocol"], changes[0]["ceiling"]
  note = (
    f"A change is {protocol['changes']}; labeler: {protocol['labeler']}; truth: "
    f"{protocol['truth']}; {protocol['n']} studies with a prior, "
    f"{changes[0]['changed']['n_true']} changes, {changes[0]['unchanged']['n_true']} "
    "findings unchanged."
  )
  rows = []
  for kind in ("changed", "unchanged"):
    for measure in ("f1", "precision", "recall"):
      best = (ceiling or {}).get(f"{kind}_{measure}")
      values = [score[kind][measure] for score in changes]
      title = f"{kind} {'F1' if measure == 'f1' else measure}"
      rows.append(_row(title, values, best, ceiling is not None))
  return Table("Changes since the prior", note, _ceiled(columns, ceiling), rows)


def _confusion(confusion: Mapping) -> Table:
  kinds = confusion["kinds"]
  rows = [
    (f"truly {kind}", *map(str, counts))
    for kind, counts in zip(kinds, confusion["counts"])
  ]
  note = (
    "Findings (label and side) of studies with a prior: a row for what is so, a column "
    "for what the report says."
  )
  return Table(CONFUSION, note, kinds, rows)


def _priors(priors: Mapping[str, Mapping]) -> Table:
  first = next(iter(priors))
  note = (
    f"Change F1 over the {priors[first]['n']} studies with a prior, decoded with it, "
    "with something else in its place, or answered without looking; [95 %] intervals."
  )
  columns = ["F1 [95 %]", f"minus {first}", "p", "unchanged F1"]
  rows = []
  for name, row in priors.items():
    distance = row.get("difference")
    rows.append(
      (
        name,
        number(row["f1"], interval=True),
        number(distance, interval=True) if distance else "",
        f"{distance['p']:.3f}" if distance else "",
        number(row["unchanged_f1"]),
      )
    )
  return Table("What the prior does", note, columns, rows)


def _ceiled(columns: list[str], ceiling: Mapping | None) -> list[str]:
  return columns if ceiling is None else [*columns, "reader on references"]


def _row(title, values, best=None, ceiled=False) -> tuple[str, ...]:
  cells = [number(values[0], interval=True), *map(number, values[1:])]
  if ceiled:
    cells.append("" if best is None else number(best))
  return (title, *cells)
