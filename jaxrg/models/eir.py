"""EIR (arXiv 2512.23185), assembled from shared parts.

Sections named below are those of the specification: the image becomes topics (2.8),
which take up the clinical history (3) and the graph of similar cases (4) in an
aggregation (5); a classifier (6.2) says which state each topic is in, a generator (6.3)
writes the report, and an interpreter (6.4) reads from that the states again.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from jaxrg.models.generator import PrefixCache
from jaxrg.models.grid import pool_views, pooled
from jaxrg.models.interpreter import straight_through
from jaxrg.models.norms import normalise

Batch = dict[str, Array]
Pixels = Float[Array, "b height width channels"] | UInt8[Array, "b height width 1"]


class EIR(nn.Module):
  """The parts are fields; this class is only how they are joined.

  A batch holds `image` (b v h w 1), uint8 as stored or float as normalised, with
  `has_view` (b v); the `history` (b t) with `history_mask`, where there is a history
  encoder; what `graph.GraphEncoder` reads, where there is a graph encoder; the report's
  `tokens` (b t) with `tokens_mask`, and the true `states` (b n) of topics, where one is
  learnt from; `predicted` () is how many of these training replaces by the classifier's
  own, where it is there. Without history and graph encoder there are no `tokens` of
  theirs.
  """

  vision: nn.Module  # Image -> grid.
  head: nn.Module  # Of pooled features, for the contrast and for retrieval.
  tokens: nn.Module | None  # Of history and graph.
  history: nn.Module | None
  graph: nn.Module | None
  topics: nn.Module
  aggregation: nn.Module
  classifier: nn.Module
  labels: nn.Embed  # What each topic is called, to the generator.
  generator: nn.Module
  interpreter: nn.Module
  reading: str  # One of `interpreter.READINGS`.
  threshold: float  # A topic is present that is so with more than this probability.
  norm: str  # Of pixels: a row of `norms.NORMS`.
  history_dropout: float = 0.0  # How often training takes a study's history away,
  graph_dropout: float = 0.0  # and its graph.

  def encode_image(
    self, image: Pixels, mask: Bool[Array, "b"] | None = None, *, train: bool = False
  ) -> Float[Array, "b rows columns c"]:
    """The grid of each image; `mask` marks those that batch statistics count."""
    return self.vision(normalise(image, self.norm), mask, train=train)

  def features(
    self, image: Pixels, mask: Bool[Array, "b"] | None = None, *, train: bool = False
  ) -> Float[Array, "b c"]:
    """The mean of each image's grid, in float32."""
    return pooled(self.encode_image(image, mask, train=train))

  def embed(
    self, image: Pixels, mask: Bool[Array, "b"] | None = None, *, train: bool = False
  ) -> Float[Array, "b d"]:
    """What images are compared by, in float32 and of any length (2.2, 4.4)."""
    return self.head(self.features(image, mask, train=train)).astype(jnp.float32)

  def encode_views(
    self, batch: Batch, *, train: bool = False
  ) -> tuple[Float[Array, "b c"], Float[Array, "b rows columns c"]]:
    """Pooled features and grid of each study, over the views that it has (2.7)."""
    image, has_view = batch["image"], batch["has_view"]
    image = image.reshape(-1, *image.shape[2:])
    grid = self.encode_image(image, has_view.reshape(-1), train=train)
    vectors = pooled(grid).reshape(*has_view.shape, -1)
    grid = grid.reshape(*has_view.shape, *grid.shape[1:])
    return pool_views(vectors, has_view), pool_views(grid, has_view)

  def enhance(self, batch: Batch, *, train: bool = False) -> Float[Array, "b n d"]:
    """The enhanced image representation: topics with what history and graph add."""
    topics = self.topics(*self.encode_views(batch, train=train), train=train)
    history = history_mask = graph = graph_mask = None
    if self.history is not None:
      history_mask = self._drop(batch["history_mask"], self.history_dropout, train)
      words = self.tokens(batch["history"])
      history = self.history(words, history_mask, train=train)
    if self.graph is not None:
      words = self.tokens(batch["node_tokens"])
      graph, graph_mask = self.graph(words, batch, train=train)
      graph_mask = self._drop(graph_mask, self.graph_dropout, train)
    return self.aggregation(
      topics, history, history_mask, graph, graph_mask, train=train
    )

  def _drop(
    self, mask: Bool[Array, "b s"], rate: float, train: bool
  ) -> Bool[Array, "b s"]:
    """The mask without whole rows: of what is masked nothing at all is read (5.2)."""
    if not train or not rate:
      return mask
    stays = jax.random.bernoulli(self.make_rng("dropout"), 1 - rate, (len(mask), 1))
    return mask & stays

  def enrich(
    self, topics: Float[Array, "b n d"], states: Int[Array, "b n"]
  ) -> Float[Array, "b n d"]:
    """What the generator writes from: each topic, its state and its name (6.2)."""
    return topics + self.classifier.embed(states) + self.labels.embedding

  def classify(self, batch: Batch, *, train: bool = False) -> Float[Array, "b n k"]:
    """Log-probabilities of the state of each topic."""
    return self.classifier(self.enhance(batch, train=train))

  def __call__(
    self, batch: Batch, *, train: bool = False
  ) -> tuple[Float[Array, "b t v"], Float[Array, "b n k"]]:
    """Logits of every next word, and log-probabilities of states.

    The words are those after the true ones, of topics in their true states, or in part
    in those of the classifier.
    """
    _, logits, log_probs = self._write(batch, train=train)
    return logits, log_probs

  def interpret(self, batch: Batch, *, train: bool = False) -> Float[Array, "b n k"]:
    """Log-probabilities of states, as the report tells them."""
    return self.interpreter(batch["tokens"], batch["tokens_mask"], train=train)

  def review(
    self, batch: Batch, *, train: bool = False
  ) -> tuple[Float[Array, "b t v"], Float[Array, "b n k"], Float[Array, "b n k"]]:
    """As `__call__`, and states as the interpreter reads them from the words' logits.

    It never trains: without dropout, it is the same critic in every step.
    """
    hidden, logits, log_probs = self._write(batch, train=train)
    tokens, mask = batch["tokens"], batch["tokens_mask"]
    if self.is_initializing():
      self.interpret(batch)  # It is all there, whatever is put to it.
    if self.reading == "residual":
      words = self.generator.rewrite(hidden, logits)
      return logits, log_probs, self.interpreter.read(words, mask[:, :-1])
    if self.reading == "gumbel_st":
      key = self.make_rng("dropout") if train else None
      weights = straight_through(logits, key)
    else:
      weights = nn.softmax(logits)
    words = self.interpreter.expect(tokens[:, 0], weights)
    return logits, log_probs, self.interpreter.read(words, mask)

  def _write(
    self, batch: Batch, *, train: bool
  ) -> tuple[Float[Array, "b t d"], Float[Array, "b t v"], Float[Array, "b n k"]]:
    """Hidden states of the words, logits of the next ones, log-probabilities."""
    topics = self.enhance(batch, train=train)
    log_probs = self.classifier(topics)
    tokens, mask = (batch[name][:, :-1] for name in ("tokens", "tokens_mask"))
    states = batch["states"]
    if train and "predicted" in batch:
      own = jax.random.bernoulli(
        self.make_rng("dropout"), batch["predicted"], states.shape
      )
      states = jnp.where(own, decide(log_probs, self.threshold), states)
    enriched = self.enrich(topics, states)
    hidden = self.generator(tokens, mask, enriched, train=train)
    return hidden, self.generator.logits(hidden), log_probs

  def start(self, batch: Batch, num_hypotheses: int, max_length: int) -> PrefixCache:
    """The cache from which `step` decodes the reports of a batch."""
    topics = self.enhance(batch)
    states = decide(self.classifier(topics), self.threshold)
    enriched = self.enrich(topics, states)
    return self.generator.start(enriched, num_hypotheses, max_length)

  def step(
    self, tokens: Int[Array, "b n"], cache: PrefixCache
  ) -> tuple[Float[Array, "b n v"], PrefixCache]:
    """Logits after one more token of each hypothesis."""
    return self.generator.step(tokens, cache)


def presence(log_probs: Float[Array, "*b n k"]) -> Float[Array, "*b n"]:
  """How likely each topic is present or, of four states, uncertain."""
  return jnp.exp(log_probs[..., 1:3]).sum(axis=-1)


def decide(log_probs: Float[Array, "b n k"], threshold: float) -> Int[Array, "b n"]:
  """The state of each topic: the likeliest of those that are present, or are not.

  It is present where that is likelier than the threshold (6.2).
  """
  state = jnp.arange(log_probs.shape[-1])
  is_present = (state == 1) | (state == 2)
  best = lambda some: jnp.argmax(jnp.where(some, log_probs, -jnp.inf), axis=-1)
  present = presence(log_probs) > threshold
  return jnp.where(present, best(is_present), best(~is_present)).astype(jnp.int32)
