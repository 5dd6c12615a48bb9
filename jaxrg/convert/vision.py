"""The tables of published image encoders: ResNets and DenseNets, as sources keep them.

Ours are the variables of `ResNet` and `DenseNet`, theirs torchvision's names; a `Kind`
tells where in a checkpoint these lie (spec eir 10).
"""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from jaxrg.convert import table as t
from jaxrg.convert.table import Row, State, Table


@dataclasses.dataclass(frozen=True)
class Kind:
  """Where a source keeps its encoder, and how its pixels were normalised."""

  norm: str | None  # A key of `models.norms.NORMS`; None: the source does not tell.
  prefix: str = ""  # A pattern of what stands before torchvision's names.
  beside: tuple[str, ...] = ()  # Patterns of keys that are not the encoder's.


MOCO = dict(
  prefix=r"(module\.)?encoder_q\.",
  beside=(r"(module\.)?encoder_k\..*", r"(module\.)?(queue|queue_ptr)"),
)
HEADS = r"(head|heads|projector|projection_head|predictor|prototypes)"
KINDS = {
  "torchvision": Kind("imagenet"),
  "moco": Kind("imagenet", **MOCO),
  "mococxr": Kind("mococxr", **MOCO),
  "c2l": Kind("imagenet", r"(encoder|densenet121)\.(module\.)?"),
  "nguyen": Kind(
    "unit",
    r"(module\.)?(clsgen\.)?classifier\.cnn\.model\.",
    (
      r"(module\.)?(clsgen\.)?(classifier\.(?!cnn\.)|generator\.|label_embedding\.).*",
      r"(module\.)?interpreter\..*",
    ),
  ),
  "xrv": Kind("xrv", r"(model\.)?", (r"op_threshs",)),
  "generic": Kind(
    None,
    r"((module|backbone|model|encoder|resnet|densenet)\.)*",
    (rf"(.*\.)?{HEADS}\..*", r"(.*\.)?queue(_ptr)?"),
  ),
}

# The children of torchvision's networks in order, whose names an nn.Sequential of them
# has lost (Nguyen et al.).
CHILDREN = {
  "ResNet": "conv1 bn1 relu maxpool layer1 layer2 layer3 layer4",
  "DenseNet": "conv0 norm0 relu0 pool0 denseblock1 transition1 denseblock2 transition2 "
  "denseblock3 transition3 denseblock4",
}
STEMS = {"ResNet": "conv1.weight", "DenseNet": "features.conv0.weight"}
DROPPED = (r"fc\..*", r"classifier\..*", r".*\.num_batches_tracked")


@dataclasses.dataclass(frozen=True)
class Converted:
  """An encoder's variables, and what was made of the checkpoint's keys."""

  architecture: str  # ResNet or DenseNet.
  params: dict
  batch_stats: dict
  norm: str | None  # As of its kind.
  channels: int  # Of the images.
  mapped: int
  dropped: tuple[str, ...]
  missing: tuple[str, ...]  # Of torchvision's network.


def convert(state: State, kind: str) -> Converted:
  """The variables of our `ResNet` or `DenseNet`, of a checkpoint of a known kind.

  Raises ValueError for a kind that is none of `KINDS`, and naming a key that is
  unknown, missing or mis-shaped.
  """
  if kind not in KINDS:
    raise ValueError(f"Unknown kind {kind!r}; known: {', '.join(KINDS)}.")
  keys = _encoder_keys(state, kind)
  names = _named(keys.values())
  trunk = {names[name]: state[key] for key, name in keys.items()}
  architecture = _recognise(trunk, kind)
  final_norm = (kind, architecture) != ("nguyen", "DenseNet")  # They leave it out.
  table = _table(architecture, trunk, final_norm=final_norm)
  try:
    flat = t.to_ours(table, trunk)
  except ValueError as error:
    raise ValueError(f"As kind {kind!r}: {error}") from error
  variables = traverse_util.unflatten_dict(flat, sep="/")
  mapped = {key for key, name in keys.items() if not t.is_aside(table, names[name])}
  return Converted(
    architecture,
    **variables,
    norm=KINDS[kind].norm,
    channels=trunk[STEMS[architecture]].shape[1],
    mapped=len(mapped),
    dropped=tuple(sorted(state.keys() - mapped)),
    missing=() if final_norm else tuple(row.source for row in FINAL_NORM),
  )


def to_torchvision(
  params: Mapping[str, Any], batch_stats: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """torchvision's state dict of our `ResNet` or `DenseNet`, without its classifier.

  Raises ValueError where they are the variables of another encoder.
  """
  variables = dict(params=params, batch_stats=batch_stats)
  flat = traverse_util.flatten_dict(variables, sep="/")
  name = architecture(params)
  if name is None:
    raise ValueError(f"{min(flat)!r} is in no ResNet or DenseNet of ours.")
  return t.to_theirs(_table(name, flat, final_norm="norm" in params), flat)


def architecture(params: Mapping[str, Any]) -> str | None:
  """ResNet or DenseNet, as the names of our params tell; None for another encoder."""
  if "stage_1_block_0" in params:
    return "ResNet"
  return "DenseNet" if "block_1_layer_1" in params else None


def _encoder_keys(state: State, kind: str) -> dict[str, str]:
  """The keys that are the encoder's, and what they are behind the prefix."""
  keys, seen = {}, {}
  for key in state:
    if any(re.fullmatch(pattern, key) for pattern in KINDS[kind].beside):
      continue
    found = re.match(KINDS[kind].prefix, key)
    if not found:
      raise ValueError(
        f"Unknown key {key!r}: this is no checkpoint of kind {kind!r}; set "
        f"config.pretrained.kind to its own, of {', '.join(KINDS)}."
      )
    name = key[found.end() :]
    if name in seen:
      raise ValueError(f"Both {seen[name]!r} and {key!r} may be {name}: save only one.")
    keys[key], seen[name] = name, key
  return keys


def _named(names: Collection[str]) -> dict[str, str]:
  """torchvision's name of each, where an older release or a Sequential has another."""
  dense = any(".denselayer" in name for name in names)
  children = CHILDREN["DenseNet" if dense else "ResNet"].split()

  def child(match):
    if (number := int(match[1])) >= len(children):
      return match[0]
    known = children[number]
    return f"features.{known}." if dense else f"{known}."

  def rename(name):
    name = re.sub(r"^feature\.(\d+)\.", child, name)
    return re.sub(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)

  return {name: rename(name) for name in names}


def _recognise(trunk: State, kind: str) -> str:
  """ResNet or DenseNet, as its first convolution tells."""
  for found, stem in STEMS.items():
    shape = np.shape(trunk.get(stem, ()))
    if len(shape) == 4 and shape[1] in (1, 3) and shape[2:] == (7, 7):
      return found
  raise ValueError(
    f"As kind {kind!r} it is neither a ResNet nor a DenseNet: of {len(trunk)} tensors "
    f"none is a {' or '.join(STEMS.values())} of shape (n, 1 or 3, 7, 7)."
  )


def _table(architecture: str, names: Collection[str], *, final_norm: bool) -> Table:
  """The table for a network with these names, theirs or ours."""
  if architecture == "ResNet":
    rows = _resnet(bottleneck=any(re.search(r"\bconv_?3\b", name) for name in names))
  else:
    rows = _densenet(_layer_counts(names)) + (FINAL_NORM if final_norm else ())
  return Table(architecture, tuple(map(t.placed, rows)), DROPPED)


def _normed(conv: str, norm: str, ours: str, number: int) -> tuple[Row, ...]:
  """A convolution without bias and its normalisation."""
  return (
    Row(f"{conv}.weight", (f"{ours}conv_{number}/kernel",), t.CONV),
    *t.batch_norm(norm, f"{ours}norm_{number}"),
  )


def _resnet(*, bottleneck: bool) -> tuple[Row, ...]:
  rows = [*_normed("conv1", "bn1", "", 1)]
  for stage in range(1, 5):
    theirs, ours = f"layer{stage}", f"stage_{stage}_block_"
    for i in range(1, 4 if bottleneck else 3):
      source = f"{theirs}.{{}}"
      rows += _normed(f"{source}.conv{i}", f"{source}.bn{i}", f"{ours}{{}}/", i)
    if stage > 1 or bottleneck:  # Else the sizes are the same.
      source = f"{theirs}.0.downsample"
      rows += _normed(f"{source}.0", f"{source}.1", f"{ours}0/", 0)
  return tuple(rows)


def _densenet(layer_counts: Collection[int]) -> tuple[Row, ...]:
  rows = [*_normed("features.conv0", "features.norm0", "", 0)]
  for block, count in enumerate(layer_counts, 1):
    for layer in range(1, count + 1):
      source = f"features.denseblock{block}.denselayer{layer}"
      for i in (1, 2):
        ours = f"block_{block}_layer_{layer}/"
        rows += _normed(f"{source}.conv{i}", f"{source}.norm{i}", ours, i)
    if block < len(layer_counts):
      source = f"features.transition{block}"
      rows += _normed(f"{source}.conv", f"{source}.norm", f"transition_{block}/", 1)
  return tuple(rows)


FINAL_NORM = t.batch_norm("features.norm5", "norm")


def _layer_counts(names: Collection[str]) -> list[int]:
  """How many layers the dense blocks have, as these names tell, theirs or ours."""
  counts = {}
  for name in names:
    if found := re.search(r"\b(?:dense)?block_?(\d+)[._](?:dense)?layer_?(\d+)", name):
      block, layer = int(found[1]), int(found[2])
      counts[block] = max(counts.get(block, 0), layer)
  return [counts.get(block, 0) for block in range(1, max(counts, default=0) + 1)]
