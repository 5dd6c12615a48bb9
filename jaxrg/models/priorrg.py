"""PriorRG (arXiv 2508.05353), assembled from shared parts.

Sections named below are those of the specification in the authors' terms: the
current image X, the prior image P, their fusion S (STF), the clinical context C,
the fused encoder layers J (ALF), and one Perceiver that reads C, then S, then J,
each time from the latents that the reading before left. That chain, from coarse to
fine, is what "decoding order" means: the decoder itself reads the latents as a set.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt8

from jaxrg.models.layers import BatchNorm, Dtype, layer_norm, torch_linear, widen

Batch = dict[str, Array]
Pixels = Float[Array, "b height width channels"] | UInt8[Array, "b height width 1"]
Encoded = Float[Array, "b s c"]  # The encoder's last hidden states.

CURRENT, PRIOR = 0, 1  # Rows of the temporal embedding.

# What the Perceiver reads, C, S and J, in the published order.
SOURCES = ("context", "time", "joint")
# Of each of them its features (b s d), and which may be read (b s), if not all.
Sources = dict[str, tuple[Array, Array | None]]


class ProjectionHead(nn.Module):
  """Bottleneck with batch statistics over the tokens that `mask` counts (spec 2.3)."""

  width: int
  bottleneck: int
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b s c"],
    mask: Bool[Array, "b #s"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b s d"]:
    dense = lambda features, name: nn.Dense(
      features, dtype=self.dtype, kernel_init=torch_linear(), name=name
    )
    x = dense(self.bottleneck, "wi")(x)
    mask = None if mask is None else mask[..., None]
    x = BatchNorm(dtype=self.dtype, name="batch_norm")(x, mask, train=train)
    return dense(self.width, "wo")(nn.relu(x))


class PriorRG(nn.Module):
  """The parts are fields; this class is only how they are joined.

  A batch holds `image`, `prior_image` (uint8 as stored, float as standardised, or for
  stage 1 the encoder's last hidden states b s c),
  `view`, `prior_view` (rows of the view table), `has_prior`, the token arrays
  `context`, `report`, `tokens` with their `*_mask`.
  """

  vision: nn.Module
  text: nn.Module
  temporal: nn.Module
  perceiver: nn.Module
  fusion: nn.Module
  decoder: nn.Module
  width: int  # Of everything after the projections.
  bottleneck: int
  num_views: int
  pixel_mean: float
  pixel_std: float
  # False: padding up to the longest text of the batch is read by the Perceiver (spec
  # 8, D1), or counted in batch statistics (D1b), as in the published code.
  mask_padding: bool = True
  mask_statistics: bool = True
  # Whether the prior image trains the image encoder too. The published encoder is
  # frozen; where it is trained, the current image alone does it in half the time.
  prior_gradient: bool = False
  # The order of the readings, and whether each starts from the latents that the one
  # before left, or, as the first does, from the Perceiver's own.
  order: tuple[str, ...] = SOURCES
  seeded: bool = True
  # Of the view and temporal embeddings. At the published 1 they drown, at first, the
  # features that they are added to, which a short training cannot afford.
  embedding_std: float = 1.0
  dtype: Dtype = jnp.float32

  def setup(self):
    head = lambda: ProjectionHead(self.width, self.bottleneck, self.dtype)
    self.image_norm = layer_norm(dtype=self.dtype)
    self.image_head, self.text_head = head(), head()
    normal = nn.initializers.normal(self.embedding_std)
    self.views = self.param("views", normal, (self.num_views, self.vision.width))
    self.times = self.param("times", normal, (2, self.width))
    self.no_prior_norm = layer_norm(dtype=self.dtype)
    self.fusion_norm = layer_norm(dtype=self.dtype)
    scale = nn.initializers.constant(jnp.log(1 / 0.07))
    self.logit_scale = self.param("logit_scale", scale, ())

  def encode_image(
    self,
    image: Pixels | Encoded,
    mask: Bool[Array, "b"] | None = None,
    *,
    train: bool = False,
  ) -> tuple[Array | None, Array]:
    """All hidden states (b layers s c) and the last, normalised (b s c).

    Of an image that was encoded before there is the last only, which is itself.
    """
    if image.ndim == 3:
      return None, image.astype(self.dtype)
    if image.dtype == jnp.uint8:
      image = (image.astype(jnp.float32) / 255 - self.pixel_mean) / self.pixel_std
    return self.vision(image, mask, train=train)

  def last_hidden(self, image: Pixels) -> Encoded:
    """All that stage 1 reads of a film."""
    return self.encode_image(image)[1]

  def features(self, image: Pixels) -> Float[Array, "b c"]:
    """What a film is without its view, prior and context: the mean of its tokens."""
    _, last = self.encode_image(image)
    return widen(last).mean(axis=1)

  def place(
    self,
    features: Float[Array, "b s c"],
    view: Array,
    time: int,
    mask: Bool[Array, "b"] | None = None,
    *,
    train: bool,
  ) -> Float[Array, "b s d"]:
    """Image features with their view, projected, with their time (spec 2.4)."""
    x = features + self.views[view][:, None].astype(features.dtype)
    mask = None if mask is None else mask[:, None]
    x = self.image_head(self.image_norm(x), mask, train=train)
    return x + self.times[time].astype(x.dtype)

  def over_time(
    self, last: Float[Array, "b s c"], batch: Batch, *, train: bool
  ) -> Float[Array, "b s d"]:
    """The current image, read beside the prior one where there is one (S)."""
    has_prior = batch["has_prior"]
    x = self.place(last, batch["view"], CURRENT, train=train)
    _, prior = self.encode_image(batch["prior_image"], has_prior, train=train)
    if not self.prior_gradient:
      prior = jax.lax.stop_gradient(prior)
    prior = self.place(prior, batch["prior_view"], PRIOR, has_prior, train=train)
    # Both paths are computed for every row: one program for any mixture.
    return jnp.where(
      has_prior[:, None, None], self.temporal(x, prior), self.no_prior_norm(x)
    )

  def encode_text(
    self, tokens: Array, mask: Array, *, train: bool
  ) -> tuple[Array, Array]:
    """Projected text (b s d), and which of its positions may be read (b s)."""
    padded = jnp.broadcast_to(mask.any(axis=0), mask.shape)
    seen = mask if self.mask_padding else padded
    counted = mask if self.mask_statistics else padded
    x = self.text(tokens, mask, train=train)
    return self.text_head(x, counted, train=train), seen

  def sources(
    self, last: Float[Array, "b s c"], batch: Batch, *, train: bool
  ) -> Sources:
    """What both stages read: the clinical context, and the image over time."""
    x = self.over_time(last, batch, train=train)
    context = self.encode_text(batch["context"], batch["context_mask"], train=train)
    return {"context": context, "time": (x, None)}

  def read(self, sources: Sources) -> Float[Array, "b l d"]:
    """The latents of each source, read in `order`, concatenated in that of SOURCES."""
    latents, previous = {}, None
    for name in self.order:
      if name in sources:
        data, mask = sources[name]
        previous = self.perceiver(data, previous if self.seeded else None, mask=mask)
        latents[name] = previous
    parts = [latents[name] for name in SOURCES if name in latents]
    return jnp.concatenate(parts, axis=1)

  def contrast(self, batch: Batch, *, train: bool = False):
    """Image and report embeddings (b d), and the inverse temperature (stage 1)."""
    _, last = self.encode_image(batch["image"], train=train)
    image = self.read(self.sources(last, batch, train=train)).mean(axis=1)
    report, _ = self.encode_text(batch["report"], batch["report_mask"], train=train)
    return widen(image), widen(report[:, 0]), jnp.exp(self.logit_scale)

  def encode(self, batch: Batch, *, train: bool = False) -> Float[Array, "b s d"]:
    """The memory that the decoder reads: context, image over time, all layers."""
    hidden_states, last = self.encode_image(batch["image"], train=train)
    # Fused first: the order in which the image head sees its three batches is
    # the order in which its running statistics move.
    fused = self.fusion(hidden_states, train=train)
    fused = self.place(fused, batch["view"], CURRENT, train=train)
    sources = self.sources(last, batch, train=train)
    return self.read(sources | {"joint": (self.fusion_norm(fused), None)})

  def __call__(self, batch: Batch, *, train: bool = False) -> Float[Array, "b t v"]:
    """Logits of each next token of the report (stage 2)."""
    memory = self.encode(batch, train=train)
    return self.decoder(
      batch["tokens"][:, :-1], batch["tokens_mask"][:, :-1], memory, train=train
    )

  def start(self, batch: Batch, num_hypotheses: int, max_length: int):
    """The cache from which `step` decodes the reports of a batch."""
    return self.decoder.start(self.encode(batch), num_hypotheses, max_length)

  def step(self, tokens: Array, cache):
    """Logits after one more token of each hypothesis, and the cache with it."""
    return self.decoder.step(tokens, cache)
