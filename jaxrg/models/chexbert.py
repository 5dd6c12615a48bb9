"""CheXbert (arXiv 2004.09167): the state of 14 labels, from the words of a report."""

import flax.linen as nn
from jaxtyping import Array, Bool, Float, Int

from jaxrg.models.bert import Bert
from jaxrg.models.layers import widen

CONDITIONS, STATES = 13, 4  # Blank, positive, negative, uncertain.


class CheXbert(nn.Module):
  """A linear map for each label, of the first token's hidden state.

  The last label, No Finding, is blank or positive alone.
  """

  bert: Bert

  def setup(self):
    self.conditions = nn.DenseGeneral((CONDITIONS, STATES), dtype=self.bert.dtype)
    self.no_finding = nn.Dense(2, dtype=self.bert.dtype)

  def __call__(
    self, tokens: Int[Array, "b s"], mask: Bool[Array, "b s"]
  ) -> tuple[Float[Array, "b 13 4"], Float[Array, "b 2"]]:
    """Logits of the states of the conditions, and of No Finding; float32."""
    hidden = self.bert(tokens, mask)[:, 0]
    return widen(self.conditions(hidden)), widen(self.no_finding(hidden))
