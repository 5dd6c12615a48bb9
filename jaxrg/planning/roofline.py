"""How long a compiled program takes at best, and what it spends its time on.

Every fusion takes as long as its arithmetic at the chip's peak, or as its bytes from
and to HBM at the chip's bandwidth, whichever is more; a collective takes what the links
need, less what runs between its start and its end. The sum is a step. Element-wise
arithmetic counts nothing, launching counts nothing: it is a bound from below.
"""

import dataclasses
import functools
import math
import re
from collections import Counter

from jaxrg.planning import hlo
from jaxrg.planning.topologies import Topology

COLLECTIVES = {
  "all-reduce": 2,  # Rounds of the whole array.
  "all-gather": 1,
  "reduce-scatter": 1,
  "all-to-all": 1,
  "collective-permute": 1,
}
FREE = {
  "parameter",
  "constant",
  "tuple",
  "get-tuple-element",
  "bitcast",
  "after-all",
  "partition-id",
  "iota",
  "copy-done",
  "slice-done",
}
PASSES = {"highest": 6, "high": 3}  # Of bfloat16, for one product of float32.


@dataclasses.dataclass(frozen=True)
class Item:
  """An instruction that takes time, `times` over."""

  name: str
  kind: str
  source: str
  times: int
  flops: float
  num_bytes: float
  seconds: float  # Of one time; of a collective, what nothing hides.
  sent: float = 0.0  # Bytes of a collective's array.


def items(module: hlo.Module, topology: Topology, loop: int = 1) -> list[Item]:
  """All that takes time; a while whose end is data runs `loop` times."""
  return list(_Walk(module, topology, loop).through(module.entry, 1))


@dataclasses.dataclass(frozen=True)
class _Walk:
  module: hlo.Module
  topology: Topology
  loop: int

  def through(self, computation: hlo.Computation, times: int):
    fetched: set[str] = set()
    began: dict[str, float] = {}  # Of each collective under way, what has hidden it.
    for instruction in computation.instructions.values():
      opcode = instruction.opcode
      if opcode == "while":
        body = self.module.computations[instruction.called("body")]
        trips = self.module.trips(instruction)
        # A search's condition asks more than a count: its end is data.
        trips = trips if trips > 1 else self.loop
        inner = list(self.through(body, times * trips))
      elif opcode == "call":
        callee = self.module.computations[instruction.called("to_apply")]
        inner = list(self.through(callee, times))
      elif (name := opcode.removesuffix("-start")) in COLLECTIVES:
        inner = []
        if opcode.endswith("-start"):
          began[instruction.name] = 0.0
          continue
        inner.append(self._collective(instruction, name, times, 0.0))
      elif (name := opcode.removesuffix("-done")) in COLLECTIVES:
        start = computation.instructions[instruction.operands[0]]
        hidden = began.pop(start.name)
        inner = [self._collective(start, name, times, hidden)]
      elif opcode in FREE:
        continue
      else:
        inner = [self._local(computation, instruction, times, fetched)]
      spent = sum(item.seconds * item.times for item in inner) / times
      began = {name: hidden + spent for name, hidden in began.items()}
      yield from (item for item in inner if item.seconds or item.sent)

  def _collective(self, start: hlo.Instruction, kind: str, times: int, hidden: float):
    sizes = [shape.num_bytes for shape in start.shapes]
    # The start of a pair holds its operands beside its results.
    num_bytes = max(sizes) if start.opcode.endswith("-start") else sum(sizes)
    ranks = _ranks(start.attributes, len(self.topology.devices))
    if kind == "reduce-scatter":
      num_bytes *= ranks
    seconds = COLLECTIVES[kind] * self.topology.ring_seconds(num_bytes, ranks)
    exposed = max(0.0, seconds - hidden)
    return Item(start.name, kind, start.source, times, 0, 0, exposed, num_bytes)

  def _local(self, computation, instruction, times: int, fetched: set[str]) -> Item:
    flops, passes = self.flops(instruction)
    num_bytes = self._bytes(computation, instruction, fetched)
    chip = self.topology.chip
    seconds = max(flops * passes / chip.flops, num_bytes / chip.bandwidth)
    kind = "kernel" if _is_kernel(instruction) else instruction.opcode
    source = instruction.source
    return Item(instruction.name, kind, source, times, flops, num_bytes, seconds)

  def flops(self, instruction: hlo.Instruction) -> tuple[float, int]:
    """Of products and convolutions in it, and the most passes that one asks for."""
    if _is_kernel(instruction):
      return kernel_flops(instruction), 1
    callee = instruction.called("calls")
    if instruction.opcode != "fusion" or callee is None:
      return 0, 1
    flops, passes = 0, 1
    inside = self.module.computations[callee].instructions
    for inner in inside.values():
      if inner.opcode in ("convolution", "dot"):
        operands = [inside[name].shapes[0] for name in inner.operands]
        flops += product_flops(inner, *operands)
        precision = re.search(r"operand_precision=\{(\w+)", inner.attributes)
        passes = max(passes, PASSES.get(precision.group(1), 1) if precision else 1)
      elif inner.opcode == "fusion":
        more, most = self.flops(inner)
        flops, passes = flops + more, max(passes, most)
    return flops, passes

  def _bytes(self, computation, instruction, fetched: set[str]) -> float:
    """From and to HBM, by what a fusion makes of its operands."""
    opcode = instruction.opcode
    if opcode in ("copy-start", "slice-start"):
      # To the chip: the reader's time. From it: nobody else's.
      result = (
        instruction.shapes[0] if opcode == "copy-start" else instruction.shapes[1]
      )
      return result.num_bytes if result.memory == hlo.HBM else 0
    if opcode == "custom-call" and not _is_kernel(instruction):
      return 0  # Names for what is in memory already.
    inside = None
    if opcode == "fusion":
      inside = self.module.computations[instruction.called("calls")]
    total = sum(_written(instruction, inside))
    for index, operand in enumerate(instruction.operands):
      for source in _origins(computation, operand):
        if source.opcode in ("copy-start", "slice-start"):
          if source.name not in fetched:
            fetched.add(source.name)
            total += _moved(computation, source)
        elif source.shapes and source.shapes[0].memory == hlo.HBM:
          total += _read(source.shapes[0], inside, index)
    return total


def _is_kernel(instruction: hlo.Instruction) -> bool:
  return 'custom_call_target="tpu_custom_call"' in instruction.attributes


def _origins(computation: hlo.Computation, name: str) -> list[hlo.Instruction]:
  """Where an operand comes from, through what only gives it another name."""
  found = computation.instructions[name]
  if found.opcode == "bitcast" or found.opcode in ("copy-done", "slice-done"):
    return _origins(computation, found.operands[0])
  if found.opcode == "custom-call" and '"ConcatBitcast"' in found.attributes:
    parts = (_origins(computation, operand) for operand in found.operands)
    return [source for part in parts for source in part]
  return [found] if found.opcode != "constant" else []


def _moved(computation: hlo.Computation, start: hlo.Instruction) -> float:
  """Bytes that a copy brings from HBM to the chip; none from the chip to itself."""
  source = start.shapes[1] if start.opcode == "copy-start" else start.shapes[0]
  result = start.shapes[0] if start.opcode == "copy-start" else start.shapes[1]
  return result.num_bytes if source.memory == hlo.HBM != result.memory else 0


def _read(shape: hlo.Shape, inside: hlo.Computation | None, index: int) -> float:
  """Bytes that a fusion reads of an operand: of a slice, no more than that."""
  if inside is None:
    return shape.num_bytes
  users = inside.users.get(inside.parameters[index].name, [])
  slices = ("dynamic-slice", "slice", "gather")
  name = inside.parameters[index].name
  amount = 0.0
  for user in users:
    if user.opcode in slices and user.operands[0] == name:
      amount += user.shapes[0].num_bytes
    elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
      continue  # In place.
    else:
      return shape.num_bytes
  return min(amount, shape.num_bytes)


def _written(instruction: hlo.Instruction, inside: hlo.Computation | None):
  """Bytes of each result in HBM; of an update in place, no more than that."""
  roots = [None] * len(instruction.shapes)
  if inside is not None:
    root = inside.root
    names = root.operands if root.opcode == "tuple" else (root.name,)
    roots = [_through_bitcasts(inside, name) for name in names]
  for shape, root in zip(instruction.shapes, roots):
    if shape.memory != hlo.HBM:
      continue
    if root is not None and root.opcode == "dynamic-update-slice":
      yield inside.instructions[root.operands[1]].shapes[0].num_bytes
    else:
      yield shape.num_bytes


def _through_bitcasts(computation: hlo.Computation, name: str) -> hlo.Instruction:
  found = computation.instructions[name]
  while found.opcode == "bitcast":
    found = computation.instructions[found.operands[0]]
  return found


def _ranks(attributes: str, num_devices: int) -> int:
  """How many devices take part in one group of a collective."""
  if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
    return listed.group(1).count(",") + 1
  if iota := re.search(r"replica_groups=\[(\d+),(\d+)\]", attributes):
    return int(iota.group(2))
  if named := re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", attributes):
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", named.group(1)))
    return math.prod(
      int(sizes[axis]) for axis in re.findall(r"'(\w+)'", named.group(2))
    )
  return num_devices


def product_flops(
  instruction: hlo.Instruction, left: hlo.Shape, right: hlo.Shape
) -> int:
  """Of a dot, or of a convolution without what falls on its padding.

  A TPU's compiler writes products of batches as convolutions, most of whose window
  lies outside.
  """
  out = instruction.shapes[0]
  if instruction.opcode == "dot":
    axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
    contracted = [left.dims[int(i)] for i in axes.group(1).split(",") if i]
    return 2 * math.prod(out.dims) * math.prod(contracted)
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
  from_left, from_right, to = labels.groups()
  window = _window(instruction.attributes, sum(c.isdecimal() for c in to))
  flops = 2 * out.dims[to.index("b")] * out.dims[to.index("f")]
  flops *= right.dims[from_right.index("i")]
  for i, place in enumerate(window):
    sizes = left.dims[from_left.index(str(i))], out.dims[to.index(str(i))]
    flops *= _hits(*sizes, **place)
  return flops


def _window(attributes: str, dims: int) -> list[dict[str, int]]:
  text = re.search(r"window=\{([^}]*)\}", attributes)
  parts = dict(part.split("=") for part in text.group(1).split()) if text else {}
  listed = lambda key, default: parts.get(key, "x".join([default] * dims)).split("x")
  columns = (
    listed("size", "1"),
    listed("stride", "1"),
    [pad.split("_")[0] for pad in listed("pad", "0_0")],
    listed("lhs_dilate", "1"),
    listed("rhs_dilate", "1"),
  )
  names = ("size", "stride", "pad", "spread", "dilate")
  return [dict(zip(names, map(int, row))) for row in zip(*columns)] if dims else []


@functools.cache
def _hits(
  length: int, out: int, *, size: int, stride: int, pad: int, spread: int, dilate: int
) -> int:
  """Pairs of a result's place and a window's that meet an element of the input."""
  last = (length - 1) * spread
  places = (
    at * stride + step * dilate - pad for at in range(out) for step in range(size)
  )
  return sum(0 <= place <= last and place % spread == 0 for place in places)


def kernel_flops(instruction: hlo.Instruction) -> float:
  """What a kernel says of itself; of attention's gradients, which do not, by shapes."""
  said = re.search(r'"cost_estimate":\{"flops":"(\d+)"', instruction.attributes)
  if said and int(said.group(1)):
    return int(said.group(1))
  for part, products in (("dkv", 4), ("dq", 3)):
    if f"_bwd_{part}" in instruction.source + instruction.name:
      layout = re.search(
        r"operand_layout_constraints=\{(.*?\})\}", instruction.attributes
      )
      shapes = re.findall(r"\w+\[([\d,]+)\]", layout.group(1))
      arrays = [tuple(map(int, shape.split(","))) for shape in shapes]
      (b, h, t, k), (_, _, s, _) = [a for a in arrays if len(a) == 4][:2]
      return products * 2 * b * h * t * s * k
  return 0


def by_part(found: list[Item], depth: int = 2) -> Counter:
  """Seconds by part of the model, the first names of what each is made from."""
  seconds = Counter()
  for item in found:
    seconds[part_of(item.source, depth)] += item.seconds * item.times
  return seconds


def part_of(source: str, depth: int = 2) -> str:
  """vision, forward; decoder, backward; and so on."""
  if "jvp(" not in source:
    return "update and the rest"
  way = "backward" if "transpose(jvp" in source else "forward"
  names = [n for n in source.split("/")[2:] if re.fullmatch(r"[a-z_]+\w*", n)]
  known = [n for n in names if not re.match(r"(jit|layer_|while|closed_call)", n)]
  return f"{known[0] if known else 'loss'}, {way}"
