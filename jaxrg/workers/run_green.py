"""GREEN (package green-score), by its own 7B model."""

from green_score import GREEN

metric = GREEN("StanfordAIMI/GREEN-radllama2-7b", output_dir=".")


def score(predictions, references):
  _, _, scores, *_ = metric(references, predictions)
  return [{"green": value} for value in scores]
