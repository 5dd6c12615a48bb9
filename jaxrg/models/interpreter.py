"""Reads a report as a critic would: which states do its words say the topics are in?"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrg.models.layers import widen

# How words that are still probabilities are put to the interpreter (spec eir 6.4).
READINGS = ("soft_token", "residual", "gumbel_st")


class Interpreter(nn.Module):
  """Log-probabilities of topics' states, from words alone; its parts are fields.

  It has a table of its own, and is frozen when it teaches a generator.
  """

  tokens: nn.Embed
  encoder: nn.Module
  readout: nn.Module
  classifier: nn.Module

  def __call__(
    self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"], *, train: bool = False
  ) -> Float[Array, "b n k"]:
    return self.read(self.tokens(tokens), mask, train=train)

  def read(
    self, words: Float[Array, "b t d"], mask: Bool[Array, "b t"], *, train: bool = False
  ) -> Float[Array, "b n k"]:
    """Of words that are vectors already."""
    x = self.encoder(words, mask, train=train)
    return self.classifier(self.readout(x, mask, train=train))

  def expect(
    self, first: Int[Array, "b"], weights: Float[Array, "b t v"]
  ) -> Float[Array, "b s d"]:
    """Vectors of a report's words: the first is known, of the next ones `weights`.

    One-hot weights are the words themselves.
    """
    table = self.tokens.embedding.astype(self.tokens.dtype)
    rest = weights.astype(table.dtype) @ table
    return jnp.concatenate([self.tokens(first[:, None]), rest], axis=1)


def straight_through(
  logits: Float[Array, "b t v"], key: jax.Array | None, temperature: float = 1.0
) -> Float[Array, "b t v"]:
  """One word each, drawn by a key or else the likeliest; the gradient of a softmax."""
  logits = widen(logits)
  if key is not None:
    logits = logits + jax.random.gumbel(key, logits.shape)
  soft = nn.softmax(logits / temperature)
  hard = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1])
  return soft + jax.lax.stop_gradient(hard - soft)
