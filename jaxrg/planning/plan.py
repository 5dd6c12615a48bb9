"""A plan: what a program will cost on a topology, in figures and in words."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxrg.planning import compiling, hlo, roofline
from jaxrg.planning.topologies import Topology


@dataclasses.dataclass(frozen=True)
class Plan:
  """Seconds, bytes and operations are of one chip and one step, FLOPs of a bound."""

  program: str
  topology: str
  mesh: dict[str, int]
  fused: bool
  chips: int
  rows: int  # Of the global batch.
  memory: dict[str, int]  # By kind.
  hbm: float
  model_flops: float  # By mathematics, of one chip's share.
  compiled_flops: float  # Of what the compiler made of it.
  bytes_moved: float
  seconds: float
  compute_seconds: float  # If nothing but products took time.
  collectives: dict[str, dict[str, float]]  # By kind: count, bytes, exposed seconds.
  parts: dict[str, float]  # Seconds by part of the model.
  mfu: float
  compile_seconds: float
  warnings: tuple[str, ...]

  @property
  def peak(self) -> int:
    """Bytes of HBM."""
    return sum(self.memory.values())

  @property
  def fits(self) -> bool:
    return self.peak <= self.hbm


def make(
  program: compiling.Program, topology: Topology, mesh: Any, *, fused: bool
) -> Plan:
  """Compiles a program and reads what it will cost; raises TooLargeError."""
  compiled = compiling.compile_program(program)
  found = roofline.items(hlo.parse(compiled.text), topology, program.loop)
  total = lambda value: sum(value(item) * item.times for item in found)
  chip, num_chips = topology.chip, len(topology.devices)
  seconds = total(lambda item: item.seconds)
  collectives: dict[str, dict[str, float]] = {}
  for item in found:
    if item.kind in roofline.COLLECTIVES:
      kind = collectives.setdefault(item.kind, {"count": 0, "bytes": 0, "seconds": 0})
      kind["count"] += item.times
      kind["bytes"] += item.sent * item.times
      kind["seconds"] += item.seconds * item.times
  model_flops = program.model_flops / num_chips
  return Plan(
    program=program.name,
    topology=topology.name,
    mesh=dict(mesh.shape),
    fused=fused,
    chips=num_chips,
    rows=program.rows,
    memory=compiled.memory,
    hbm=chip.hbm,
    model_flops=model_flops,
    compiled_flops=total(lambda item: item.flops),
    bytes_moved=total(lambda item: item.num_bytes),
    seconds=seconds,
    compute_seconds=total(lambda item: item.flops) / chip.flops,
    collectives=collectives,
    parts=dict(roofline.by_part(found).most_common()),
    mfu=model_flops / (seconds * chip.flops),
    compile_seconds=compiled.seconds,
    warnings=compiled.warnings,
  )


def largest(fits: Callable[[int], bool], start: int) -> int:
  """The largest number of rows a chip that fits, by doubling and then by halves.

  Each question is a compilation, so it stops within an eighth of the answer.
  """
  low, high = 0, start
  while fits(high):
    low, high = high, 2 * high
  while high - low > max(1, low // 8):
    middle = (low + high) // 2
    low, high = (middle, high) if fits(middle) else (low, middle)
  return low


def text(plan: Plan) -> str:
  """The plan in words; the last line is the verdict."""
  mesh = " x ".join(f"{name} {size}" for name, size in plan.mesh.items())
  kernel = "with" if plan.fused else "without"
  lines = [
    f"{plan.program} on {plan.topology}, {plan.chips} chips ({mesh})",
    f"{plan.rows:,} studies a step, {plan.rows / plan.chips:g} a chip, {kernel} the "
    f"fused attention kernel; compiled in {plan.compile_seconds:.0f} s",
    "",
    "Memory of a chip",
  ]
  lines += [f"  {size / 1e9:8.3f} GB  {kind}" for kind, size in plan.memory.items()]
  lines += [
    f"  {plan.peak / 1e9:8.3f} GB  in all, of {plan.hbm / 1e9:.0f}",
    "",
    "A step of a chip",
    f"  {plan.model_flops / 1e12:8.3f} TFLOP  by mathematics: what is frozen forward "
    "only, nothing twice",
    f"  {plan.compiled_flops / 1e12:8.3f} TFLOP  compiled",
    f"  {plan.bytes_moved / 1e9:8.2f} GB  from and to HBM",
    f"  {1e3 * plan.compute_seconds:8.2f} ms  if nothing but products took time",
    f"  {1e3 * plan.seconds:8.2f} ms  each fusion its arithmetic or its bytes, and "
    "collectives that nothing hides",
    "",
    "Of which",
  ]
  lines += [
    f"  {1e3 * seconds:8.2f} ms  {part}"
    for part, seconds in plan.parts.items()
    if seconds > 0.005 * plan.seconds
  ]
  lines += ["", "Collectives"]
  lines += [
    f"  {1e3 * c['seconds']:8.2f} ms  {kind}: {c['count']}, {c['bytes'] / 1e6:,.1f} MB"
    for kind, c in plan.collectives.items()
  ] or ["  none"]
  lines += ["", *(f"XLA warns: {line}" for line in plan.warnings)]
  peak_flops = plan.model_flops / plan.mfu / plan.seconds
  lines.append(
    f"MFU = {plan.model_flops / 1e12:.3f} TFLOP / ({1e3 * plan.seconds:.2f} ms x "
    f"{peak_flops / 1e12:.0f} TFLOP/s) = {plan.mfu:.3f}"
  )
  return "\n".join([*lines, verdict(plan)])


def verdict(plan: Plan) -> str:
  """One line."""
  room = "fits" if plan.fits else "DOES NOT FIT"
  return (
    f"{room}: peak {plan.peak / 1e9:.2f} of {plan.hbm / 1e9:.0f} GB a chip, "
    f"{plan.rows / plan.seconds:,.0f} studies/s at best, MFU {plan.mfu:.3f}"
  )


def to_dict(plan: Plan) -> dict[str, Any]:
  """The plan as JSON has it."""
  return dataclasses.asdict(plan) | {"peak": plan.peak, "fits": plan.fits}


def scaling_table(plans: list[Plan]) -> str:
  """The same rows a chip on ever more of them."""
  lines = ["  chips  topology    ms a step  exposed ms  studies/s     MFU"]
  for plan in plans:
    exposed = sum(kind["seconds"] for kind in plan.collectives.values())
    lines.append(
      f"  {plan.chips:5d}  {plan.topology:10s}  {1e3 * plan.seconds:9.2f}  "
      f"{1e3 * exposed:10.2f}  {plan.rows / plan.seconds:9,.0f}  {plan.mfu:6.3f}"
    )
  growth = plans[-1].seconds / plans[0].seconds - 1
  lines.append(
    f"A chip's time from {plans[0].chips} to {plans[-1].chips} chips: {growth:+.1%}"
  )
  return "\n".join(lines)
