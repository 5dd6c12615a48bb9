"""RadGraph F1 (package radgraph), of RadGraph-XL: simple, partial and complete."""

import radgraph

metric = radgraph.F1RadGraph(reward_level="all", model_type="radgraph-xl")


def score(predictions, references):
  _, rewards, *_ = metric(hyps=predictions, refs=references)
  names = ("radgraph_simple", "radgraph_partial", "radgraph_complete")
  return [dict(zip(names, values)) for values in zip(*rewards)]
