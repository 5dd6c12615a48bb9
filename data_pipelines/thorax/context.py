"""Indication and history: what the person asking for the study knows.

Each study has one reason for being asked for. Both texts tell of it, or of nothing
to do with it, or are missing, independently of the image: only for a lung opacity
does the reason that is told decide what the report calls it.
"""

import numpy as np

# Reason -> its share; what an opacity is called where a text tells of it.
REASONS = {
  "infection": (0.36, "pneumonia"),
  "bed rest": (0.34, "atelectasis"),
  "trauma": (0.10, ""),
  "heart": (0.12, ""),
  "tumour": (0.08, ""),
}
# Reason -> the label that a report answers for, where a text tells the reason.
QUESTIONS = {
  "infection": "Pneumonia",
  "bed rest": "Atelectasis",
  "trauma": "Fracture",
  "heart": "Edema",
  "tumour": "Lung Lesion",
}
MISSING, UNRELATED = 0.25, 0.20

INDICATIONS = {
  "infection": (
    "Fever and cough.",
    "Cough and fever for three days.",
    "Productive cough.",
    "Fever, chills.",
    "Cough, raised white cell count.",
  ),
  "bed rest": (
    "After abdominal surgery.",
    "Follow-up after surgery.",
    "Postoperative day two.",
    "Prolonged bed rest.",
    "Bedridden, low oxygen.",
  ),
  "trauma": (
    "Fall from a ladder.",
    "Motor vehicle accident.",
    "Chest trauma.",
    "Pain after a fall.",
  ),
  "heart": (
    "Shortness of breath.",
    "Swollen legs.",
    "Shortness of breath when lying flat.",
    "Known heart disease, dyspnea.",
  ),
  "tumour": (
    "Weight loss.",
    "Cancer, staging.",
    "Smoker with weight loss.",
    "Follow-up of cancer.",
  ),
}
HISTORIES = {
  "infection": (
    "Fever and cough since last week.",
    "Fever for two days.",
    "Recent fever with productive cough.",
  ),
  "bed rest": (
    "Hip surgery two days ago.",
    "Recent abdominal surgery.",
    "Bed rest for one week.",
  ),
  "trauma": ("Fell from a ladder.", "Recent motor vehicle accident."),
  "heart": ("Heart failure.", "Known heart disease."),
  "tumour": ("Cancer.", "Smoker for thirty years."),
}
LINES = "Check of lines and tubes."
UNRELATED_INDICATIONS = (
  "Routine examination.",
  "Annual examination.",
  "Headache.",
  LINES,
  "Abdominal pain.",
)
UNRELATED_HISTORIES = (
  "Diabetes.",
  "Hypertension.",
  "Allergy to penicillin.",
  "Diabetes and hypertension.",
  "No known disease.",
)


def _tell(rng: np.random.Generator, related, unrelated) -> tuple[str, bool]:
  """One of the two texts, and whether it tells the reason."""
  draw = rng.random()
  if draw < MISSING:
    return "", False
  told = draw >= MISSING + UNRELATED
  texts = related if told else unrelated
  return texts[rng.integers(len(texts))], told


def draw(rng: np.random.Generator, reason: str = "") -> tuple[str, str, str]:
  """Indication, history, and what they make of an opacity ("" where nothing).

  Without a `reason` one is drawn.
  """
  if not reason:
    shares = np.array([share for share, _ in REASONS.values()])
    reason = tuple(REASONS)[rng.choice(len(REASONS), p=shares / shares.sum())]
  indication, in_one = _tell(rng, INDICATIONS[reason], UNRELATED_INDICATIONS)
  history, in_other = _tell(rng, HISTORIES[reason], UNRELATED_HISTORIES)
  return indication, history, REASONS[reason][1] if in_one or in_other else ""


def question(indication: str, history: str) -> str:
  """The label that is asked about, or "" where neither text asks anything."""
  for reason, label in QUESTIONS.items():
    if indication in INDICATIONS[reason] or history in HISTORIES[reason]:
      return label
  return "Support Devices" if indication == LINES else ""
