"""What was made of a download: counts that a reader can hold against others'."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines import records
from data_pipelines.raw import priors, splits
from data_pipelines.raw.rules import SECTIONS, Choice, Rules
from data_pipelines.raw.studies import SPLITS, Download, Film, Study

Links = Mapping[str, priors.Prior]
Counts = dict[str, Any]

# Recalled from the data sets' own pages; nothing here could check them. Open-I's were
# counted in its reports. A release and a copy may differ by a few.
OFFICIAL: Mapping[str, Mapping[str, Mapping[str, int]]] = {
  "mimic_cxr": {
    "all": {"patients": 65379, "studies": 227835, "films": 377110},
    "train": {"patients": 64586, "studies": 222758, "films": 368960},
    "validation": {"patients": 500, "studies": 1808, "films": 2991},
    "test": {"patients": 293, "studies": 3269, "films": 5159},
  },
  "iu_xray": {"all": {"studies": 3955, "films": 7470}},
}
GAPS = (0, 1, 7, 30, 90, 365, 1825)  # Days at which a bin of the histogram begins.
PERCENTILES = (0, 5, 25, 50, 75, 95, 99, 100)
SAMPLES = 20
UNSPLIT = "no split"

_STATES = {
  "present": records.PRESENT,
  "absent": records.ABSENT,
  "uncertain": records.UNCERTAIN,
}


def audit(
  download: Download,
  choice: Choice,
  links: Links,
  *,
  rules: Rules,
  quarantine: Mapping[str, str] | None = None,
  include_text: bool = False,
) -> dict[str, Any]:
  """Everything that there is to count, fit for JSON.

  `links` are the priors in use; `quarantine` is why a film cannot be read, by its id,
  or None where nobody has tried. Text of reports is in it only with `include_text`.
  """
  kept = {
    split: found
    for split in SPLITS
    if (found := [study for study in choice.kept if study.split == split])
  }
  order = _orders(download, choice, links, rules, quarantine or {})
  straddling = splits.straddling(choice.kept)
  targets = {
    split: [rules.target(study) for study in found] for split, found in kept.items()
  }
  return {
    "dataset": download.name,
    "rules": dataclasses.asdict(rules),
    "problems": _problems(kept, straddling, order["used"], rules),
    "totals": _totals(download),
    "funnel": [_step(step) for step in choice.steps],
    "dropped": _most_frequent(choice.dropped.values()),
    "patients_across_splits": len(straddling),
    "oddities": download.counts(),
    "quarantine": None if quarantine is None else _most_frequent(quarantine.values()),
    "views": {
      "the download": _most_frequent(f.view for s in download.studies for f in s.films),
      **{
        k: _most_frequent(f.view for s in v for f in s.films) for k, v in kept.items()
      },
    },
    "sections": {
      "the download": _sections(download.studies),
      **{split: _sections(found) for split, found in kept.items()},
    },
    "priors": {split: _priors(found, links) for split, found in kept.items()},
    "prior_order": order,
    "words": {split: _words(kept[split], targets[split]) for split in kept},
    "duplicates": _duplicates(targets),
    "labels": {split: _labels(found) for split, found in kept.items()},
    "samples": _samples(choice.kept, links, rules, include_text),
    "include_text": include_text,
  }


def _problems(
  kept: Mapping[str, Sequence[Study]],
  straddling: Mapping[str, Iterable[str]],
  used: Mapping[str, int],
  rules: Rules,
) -> list[str]:
  """What must not be, each in a line."""
  found = []
  if not kept:
    found.append("no study is left")
  if straddling:
    found.append(f"{len(straddling)} patients are in several splits")
  if rules.prior_order == "time" and used["not_earlier"]:
    found.append(f"{used['not_earlier']} studies have a prior that is not earlier")
  return found


def _totals(download: Download) -> Counts:
  """Patients, studies, reports and films, beside those that were published."""
  groups = {"all": list(download.studies)}
  for study in download.studies:
    groups.setdefault(study.split or UNSPLIT, []).append(study)
  official = OFFICIAL.get(download.name, {})
  return {
    group: {
      "found": {
        "patients": len({study.patient_id for study in groups.get(group, ())}),
        "studies": len(groups.get(group, ())),
        "reports": sum(study.has_report for study in groups.get(group, ())),
        "films": sum(len(study.films) for study in groups.get(group, ())),
      },
      "recalled": dict(official.get(group, {})),
    }
    for group in ("all", *SPLITS, UNSPLIT)
    if group in groups or group in official
  }


def _step(step: Any) -> Counts:
  named = lambda counts: {split or UNSPLIT: n for split, n in counts.items()}
  return {
    "name": step.name,
    "studies": named(step.studies),
    "films": named(step.films),
    "dropped": dict(step.dropped),
  }


def _orders(
  download: Download,
  choice: Choice,
  links: Links,
  rules: Rules,
  quarantine: Mapping[str, str],
) -> Counts:
  """Whether priors are earlier: those in use, and those that either order gives.

  `used` counts the examples' studies, the others count all of the download.
  """
  told = {"used": _earlier(priors.check(choice.kept, links))}
  for order in priors.ORDERS:
    found = priors.link(
      download.studies, order=order, views=rules.views, unreadable=quarantine
    )
    told[order] = _earlier(priors.check(download.studies, found))
  return told


def _earlier(check: priors.Check) -> Counts:
  return {
    "earlier": check.earlier,
    "not_earlier": len(check.not_earlier),
    "unknown": len(check.unknown),
  }


def _sections(studies: Sequence[Study]) -> Counts:
  counts = {
    section: sum(bool(study.sections.get(section)) for study in studies)
    for section in SECTIONS
  }
  return {"studies": len(studies), **counts}


def _priors(studies: Sequence[Study], links: Links) -> Counts:
  films = [film for study in studies for film in study.films]
  found = [(film, links[film.id]) for film in films if film.id in links]
  # A gap is of a study, so that one with many films counts once.
  gaps = [
    next((links[film.id].gap_days for film in study.films if film.id in links), None)
    for study in studies
  ]
  known = [gap for gap in gaps if gap is not None]
  bins = np.histogram(known, (-np.inf, *GAPS, np.inf))[0].tolist()
  return {
    "films": len(films),
    "films_with_prior": len(found),
    "same_view": sum(film.view == prior.film.view for film, prior in found),
    "studies": len(studies),
    "studies_with_prior": sum(any(f.id in links for f in s.films) for s in studies),
    "prior_has_report": sum(prior.study.has_report for _, prior in found),
    "gap_days": {
      "bins": dict(zip(_bins(), bins)),
      "median": float(np.median(known)) if known else None,
    },
  }


def _bins() -> list[str]:
  inner = [f"{low} to {high} days" for low, high in itertools.pairwise(GAPS)]
  return ["not earlier", *inner, f"from {GAPS[-1]} days"]


def _words(studies: Sequence[Study], targets: Sequence[str]) -> Counts:
  history = [
    " ".join((study.sections.get("indication", ""), study.sections.get("history", "")))
    for study in studies
  ]
  return {"target": _lengths(targets), "history": _lengths(history)}


def _lengths(texts: Sequence[str]) -> Counts:
  """Percentiles of the number of words; the sum of all."""
  counts = [len(text.split()) for text in texts]
  values = np.percentile(counts, PERCENTILES, method="lower").tolist()
  return {"percentiles": dict(zip(map(str, PERCENTILES), values)), "sum": sum(counts)}


def _duplicates(targets: Mapping[str, Sequence[str]]) -> Counts:
  """Studies whose target is, word for word, also another's, of its split or of one.

  Keys are the split, then where the other is.
  """
  counts = {split: collections.Counter(texts) for split, texts in targets.items()}
  return {
    split: {
      other: sum(counts[other][text] > (other == split) for text in texts)
      for other in targets
    }
    for split, texts in targets.items()
  }


def _labels(studies: Sequence[Study]) -> Counts:
  labels = np.array([study.labels for study in studies])
  known = (labels != records.UNMENTIONED).any(1)
  counts = {name: (labels == value).sum(0).tolist() for name, value in _STATES.items()}
  return {
    "studies": len(studies),
    "labelled": int(known.sum()),
    "counts": {
      label: {name: counts[name][i] for name in _STATES}
      for i, label in enumerate(records.LABELS)
    },
  }


def _samples(
  kept: Sequence[Study], links: Links, rules: Rules, include_text: bool
) -> list[Counts]:
  """Some of the records, the same ones of the same choice, more of those with prior."""
  rng = np.random.RandomState(0)
  films = [(study, film) for study in kept for film in study.films]
  linked = [pair for pair in films if pair[1].id in links]
  others = [pair for pair in films if pair[1].id not in links]
  half = max(SAMPLES // 2, SAMPLES - len(others))
  drawn = _some(rng, linked, half)
  drawn += _some(rng, others, SAMPLES - len(drawn))
  return [_sample(*pair, links, rules, include_text) for pair in drawn]


def _some(rng: np.random.RandomState, pairs: Sequence, most: int) -> list:
  chosen = rng.permutation(len(pairs))[:most]
  return [pairs[i] for i in sorted(chosen)]


def _sample(
  study: Study, film: Film, links: Links, rules: Rules, include_text: bool
) -> Counts:
  prior = links.get(film.id)
  told = {
    "patient": study.patient_id,
    "study": study.study_id,
    "split": study.split,
    "film": film.id,
    "view": film.view,
    "prior_study": prior.study.study_id if prior else None,
    "prior_film": prior.film.id if prior else None,
    "prior_view": prior.film.view if prior else None,
    "gap_days": prior.gap_days if prior else None,
    "words": {name: len(text.split()) for name, text in study.sections.items()},
  }
  if include_text:
    told["text"] = dict(study.sections)
    told["prior_report"] = rules.target(prior.study) if prior else ""
  return told


def _most_frequent(names: Iterable[str]) -> dict[str, int]:
  return dict(collections.Counter(names).most_common())
