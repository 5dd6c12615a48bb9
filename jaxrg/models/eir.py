"""EIR (arXiv 2512.23185), assembled from shared parts.

Sections named below are those of the specification: the image becomes topics (2.8),
which take up the clinical history (3) and the graph of similar cases (4) in an
aggregation (5); a classifier (6.2) says which state each topic is in.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt8

from jaxrg.models.grid import pool_views, pooled
from jaxrg.models.norms import normalise

Batch = dict[str, Array]
Pixels = Float[Array, "b height width channels"] | UInt8[Array, "b height width 1"]


class EIR(nn.Module):
  """The parts are fields; this class is only how they are joined.

  A batch holds `image` (b v h w 1), uint8 as stored or float as normalised, with
  `has_view` (b v); the `history` (b t) with `history_mask`, where there is a history
  encoder; and what `graph.GraphEncoder` reads, where there is a graph encoder. Without
  either of them there are no tokens.
  """

  vision: nn.Module  # Image -> grid.
  head: nn.Module  # Of pooled features, for the contrast and for retrieval.
  tokens: nn.Module | None
  history: nn.Module | None
  graph: nn.Module | None
  topics: nn.Module
  aggregation: nn.Module
  classifier: nn.Module
  norm: str  # Of pixels: a row of `norms.NORMS`.

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
      history_mask = batch["history_mask"]
      words = self.tokens(batch["history"])
      history = self.history(words, history_mask, train=train)
    if self.graph is not None:
      words = self.tokens(batch["node_tokens"])
      graph, graph_mask = self.graph(words, batch, train=train)
    return self.aggregation(
      topics, history, history_mask, graph, graph_mask, train=train
    )

  def __call__(self, batch: Batch, *, train: bool = False) -> Float[Array, "b n k"]:
    """Log-probabilities of the state of each topic."""
    return self.classifier(self.enhance(batch, train=train))
