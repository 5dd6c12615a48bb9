"""What the nearest film has in common with a film: the patient, the findings, or both.

An encoder that tells every image from every other may do so by the patient's bones and
leave the disease out. Then the nearest film of another study is the same patient's far
more often than chance, while the nearest one of other patients has the same findings
no more often than chance.
"""

from collections.abc import Sequence

import numpy as np

from data_pipelines.records import PRESENT
from jaxrg.metrics import intervals, retrieval

PROTOCOL = (
  "the film nearest by cosine among those of other studies, or of other patients; "
  "findings are the same where the same labels are present; ties broken by chance; "
  "chance is a film drawn from the same candidates"
)
SAME_PATIENT, SAME_FINDINGS = "same_patient", "same_findings"
SAME_FINDINGS_ELSEWHERE = "same_findings_other_patient"


def score(
  embeddings: np.ndarray,
  patients: Sequence[str],
  studies: Sequence[str],
  labels: np.ndarray,
  *,
  resamples: int = 1000,
  seed: int = 0,
) -> dict:
  """Shares of films (n d) whose nearest film has what they have, as one nested dict.

  `labels` are (n 14). protocol (name, n); same_patient and same_findings, of the
  nearest film of another study, and same_findings_other_patient, of the nearest film
  of another patient -> {n, value, low, high, chance, possible}. `n` films have such a
  candidate, and for a share of `possible` of them one has the same. Intervals are over
  patients. Raises ValueError where there are fewer than two patients.
  """
  patient, study, findings = map(
    _numbered, (patients, studies, np.asarray(labels) == PRESENT)
  )
  if not len(embeddings) == len(patient) == len(study) == len(findings):
    raise ValueError(
      f"{len(embeddings)} films, {len(patient)} patients, {len(study)} studies and "
      f"{len(findings)} rows of labels; each film needs one of each."
    )
  if len(patient) == 0 or patient.max() == 0:
    raise ValueError("The nearest film needs films of at least two patients.")
  questions = {
    SAME_PATIENT: (patient, study),
    SAME_FINDINGS: (findings, study),
    SAME_FINDINGS_ELSEWHERE: (findings, patient),
  }
  options = {"resamples": resamples, "seed": seed}
  protocol = {"name": PROTOCOL, "n": len(patient)}
  return {"protocol": protocol} | {
    name: _share(*_answers(embeddings, of, apart), patient, options)
    for name, (of, apart) in questions.items()
  }


def _numbered(names: Sequence) -> np.ndarray:
  _, numbers = np.unique(np.asarray(names), axis=0, return_inverse=True)
  return numbers.reshape(-1)


def _answers(
  embeddings: np.ndarray, of: np.ndarray, apart: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Of each film: is its nearest one alike in `of`; the chance; is there a candidate.

  Candidates differ from the film in `apart`. All are (n); 0 without a candidate.
  """
  columns = []
  for rows, similarity in retrieval.similarities(embeddings, embeddings):
    candidate = apart[rows][:, None] != apart[None, :]
    alike = (of[rows][:, None] == of[None, :]) & candidate
    best = np.where(candidate, similarity, -np.inf).max(axis=1, keepdims=True)
    nearest = candidate & (similarity == best)
    count = lambda chosen: chosen.sum(axis=1)
    some = np.maximum(count(candidate), 1)
    shares = count(nearest & alike) / np.maximum(count(nearest), 1), count(alike) / some
    columns.append((*shares, candidate.any(axis=1)))
  hit, chance, exists = (np.concatenate(column) for column in zip(*columns))
  return hit, chance, exists


def _share(hit, chance, exists, patient, options) -> dict:
  """The measures of the films for which there is a candidate."""
  hit, chance, clusters = hit[exists], chance[exists], patient[exists]
  statistics = np.stack([hit, np.ones(len(hit))], axis=1)
  share = intervals.bootstrap(
    statistics, intervals.mean, clusters=clusters, **options
  )._asdict()
  possible = float((chance > 0).mean())
  return (
    {"n": len(hit)} | share | {"chance": float(chance.mean()), "possible": possible}
  )
