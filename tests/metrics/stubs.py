"""A reader of two findings, and studies in its language, for tests of scores."""

import numpy as np

from data_pipelines.findings import CHANGED
from data_pipelines.records import ABSENT, LABELS, PRESENT, UNCERTAIN, UNMENTIONED

EFFUSION = LABELS.index("Pleural Effusion")
EDEMA = LABELS.index("Edema")


class Reader:
  """Reads "effusion", "no effusion", "effusion?", "effusion left new" and so on."""

  def __init__(self):
    self.texts = []

  def read(self, text):
    return ()  # Its labels and changes are all that it tells.

  def labels(self, text):
    self.texts.append(text)
    labels = np.full(len(LABELS), UNMENTIONED, np.int8)
    for sentence in text.split("."):
      for label, word in ((EFFUSION, "effusion"), (EDEMA, "edema")):
        if word in sentence:
          labels[label] = PRESENT
          if "no " in sentence:
            labels[label] = ABSENT
          if "?" in sentence:
            labels[label] = UNCERTAIN
    return labels

  def changes(self, text, among=CHANGED):
    claims = [sentence.split() for sentence in text.split(".")]
    return frozenset(
      ("Pleural Effusion", words[1], words[2])
      for words in claims
      if len(words) == 3 and words[0] == "effusion" and words[2] in among
    )


def labels(**states):
  """Fourteen labels, unmentioned but for effusion= and edema=."""
  row = [UNMENTIONED] * len(LABELS)
  for name, state in states.items():
    row[{"effusion": EFFUSION, "edema": EDEMA}[name]] = state
  return row


def study(name, reference, prediction, **more):
  return {"id": name, "reference": reference, "prediction": prediction, **more}
