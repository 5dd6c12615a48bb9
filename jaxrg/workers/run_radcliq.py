"""RadCliQ-v1 (package RadEval): lower is better; papers also print its inverse."""

from RadEval import RadEval

metric = RadEval(do_radcliq=True, do_per_sample=True)


def score(predictions, references):
  found = metric(refs=references, hyps=predictions)["radcliq_v1"]
  values = found["sample_scores"] if isinstance(found, dict) else found
  return [{"radcliq_v1": value} for value in values]
