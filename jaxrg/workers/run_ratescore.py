"""RaTEScore (package RaTEScore)."""

from RaTEScore import RaTEScore

metric = RaTEScore()


def score(predictions, references):
  return [{"ratescore": x} for x in metric.compute_score(predictions, references)]
