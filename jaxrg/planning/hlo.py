"""Compiled programs as data: the text that XLA prints, parsed.

Of each instruction: its shapes with their tiles and their memory, what it reads, what
it calls. The text is all that an ahead-of-time compilation gives for every backend.
"""

import dataclasses
import functools
import math
import re

SIZES = {"pred": 1, "token": 0, "s4": 0.5, "u4": 0.5}
HBM, VMEM = 0, 1  # Memories of a TPU: S(1) of a layout is on the chip.


@dataclasses.dataclass(frozen=True)
class Shape:
  """An array, as it lies in memory."""

  dtype: str
  dims: tuple[int, ...]
  minor_to_major: tuple[int, ...] = ()
  tile: tuple[int, ...] = ()
  memory: int = HBM

  @functools.cached_property
  def num_bytes(self) -> int:
    """With what fills up its tiles."""
    dims = [self.dims[i] for i in reversed(self.minor_to_major)] or list(self.dims)
    if self.tile and dims:
      dims = [1] * (len(self.tile) - len(dims)) + dims
      for i in range(1, len(self.tile) + 1):
        dims[-i] = -(-dims[-i] // self.tile[-i]) * self.tile[-i]
    return math.ceil(math.prod(dims) * size_of(self.dtype))


def size_of(dtype: str) -> float:
  """Bytes of one element."""
  if dtype in SIZES:
    return SIZES[dtype]
  return int(re.match(r"[a-z]+(\d+)", dtype).group(1)) / 8


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation."""

  name: str
  opcode: str
  shapes: tuple[Shape, ...]  # Of its results.
  operands: tuple[str, ...]
  attributes: str  # All that follows the operands.
  parameter: int | None = None  # Its number, of a parameter.
  is_root: bool = False

  def called(self, attribute: str) -> str | None:
    """The name of the computation that it calls as `attribute`."""
    found = re.search(rf"\b{attribute}=%([\w.\-]+)", self.attributes)
    return found and found.group(1)

  @property
  def source(self) -> str:
    """The name of what it is made from: modules of the model, then the operation."""
    found = re.search(r'op_name="([^"]*)"', self.attributes)
    return found.group(1) if found else ""


@dataclasses.dataclass(frozen=True)
class Computation:
  """Instructions in the order in which they run."""

  name: str
  instructions: dict[str, Instruction]

  @functools.cached_property
  def root(self) -> Instruction:
    """What it returns."""
    return next(i for i in self.instructions.values() if i.is_root)

  @functools.cached_property
  def parameters(self) -> dict[int, Instruction]:
    """By their numbers."""
    found = self.instructions.values()
    return {i.parameter: i for i in found if i.parameter is not None}

  @functools.cached_property
  def users(self) -> dict[str, list[Instruction]]:
    """Of each name, the instructions that read it."""
    users: dict[str, list[Instruction]] = {}
    for instruction in self.instructions.values():
      for operand in instruction.operands:
        users.setdefault(operand, []).append(instruction)
    return users


@dataclasses.dataclass(frozen=True)
class Module:
  """A program."""

  entry: Computation
  computations: dict[str, Computation]

  def trips(self, loop: Instruction) -> int:
    """How often a while runs: the bound of its condition; 1 where that is data."""
    condition = self.computations[loop.called("condition")]
    constants = [i for i in condition.instructions.values() if i.opcode == "constant"]
    is_counted = re.search(r"direction=LT", condition.root.attributes)
    if not is_counted or len(constants) != 1:
      return 1
    value = re.match(r"(\d+)\)", constants[0].attributes)
    return int(value.group(1)) if value else 1


_HEAD = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%([\w.\-]+) = (.*)$")
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")


def parse(text: str) -> Module:
  """The program of an HLO module's text, scheduled or not."""
  computations, lines, entry, name = {}, {}, None, None
  for line in text.splitlines():
    if head := _HEAD.match(line):
      name, lines = head.group(2), {}
      entry = name if head.group(1) else entry
    elif line == "}" and name:
      computations[name] = Computation(name, lines)
      name = None
    elif name and (match := _LINE.match(line)):
      instruction = _instruction(match.group(2), match.group(3), bool(match.group(1)))
      lines[instruction.name] = instruction
  return Module(computations[entry], computations)


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
  results, rest = _split_type(text)
  opcode, _, rest = rest.partition("(")
  operands, _, attributes = _to_closing(rest)
  parameter = int(operands) if opcode == "parameter" else None
  if opcode == "constant":
    attributes = f"{operands}){attributes}"
  return Instruction(
    name=name,
    opcode=opcode,
    shapes=tuple(map(_shape, _SHAPE.finditer(results))),
    operands=tuple(re.findall(r"%([\w.\-]+)", operands)),
    attributes=attributes,
    parameter=parameter,
    is_root=is_root,
  )


def _split_type(text: str) -> tuple[str, str]:
  """The type of an instruction's result, and what follows."""
  if text.startswith("("):
    inner, _, rest = _to_closing(text[1:])
    return inner, rest.strip()
  results, _, rest = text.partition(" ")
  return results, rest


def _to_closing(text: str) -> tuple[str, str, str]:
  """What lies before and after the bracket that closes one opened before."""
  depth = 1
  for match in re.finditer(r"[()]", text):
    depth += 1 if match.group() == "(" else -1
    if not depth:
      return text[: match.start()], ")", text[match.end() :]
  return text, "", ""


def _shape(match: re.Match) -> Shape:
  dtype, dims, layout = match.groups()
  order, _, rest = (layout or "").partition(":")
  tile = re.search(r"T\(([\d,*]+)\)", rest)
  memory = re.search(r"S\((\d+)\)", rest)
  numbers = lambda text: tuple(int(x) for x in text.split(",") if x.isdecimal())
  return Shape(
    dtype=dtype,
    dims=numbers(dims),
    minor_to_major=numbers(order),
    tile=numbers(tile.group(1)) if tile else (),
    memory=int(memory.group(1)) if memory else HBM,
  )
