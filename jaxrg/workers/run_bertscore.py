"""BERTScore F1 (package bert-score) as ReXrank takes it: DistilRoBERTa, rescaled."""

import bert_score

scorer = bert_score.BERTScorer(
  model_type="distilroberta-base", lang="en", rescale_with_baseline=True
)


def score(predictions, references):
  _, _, f1 = scorer.score(predictions, references)
  return [{"bertscore": value} for value in f1.tolist()]
