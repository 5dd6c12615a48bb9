"""A plan as a picture: a chip's memory by kind, its step by part of the model."""

import io
from collections.abc import Mapping

from jaxrg.planning.plan import Plan, verdict

PARTS = 12  # The longest; the rest are one bar.


def draw(plan: Plan) -> bytes:
  """A PNG."""
  from matplotlib.figure import Figure  # Half a second that no other verb has to wait.

  figure = Figure((9, 4), dpi=120, layout="constrained")
  kernel = "with" if plan.fused else "without"
  figure.suptitle(
    f"{plan.program} on {plan.topology}, {plan.rows:,} studies, {kernel} fused "
    f"attention\n{verdict(plan)}",
    fontsize=9,
  )
  memory, time = figure.subplots(1, 2)
  gigabytes = {kind: size / 1e9 for kind, size in plan.memory.items()}
  _bars(memory, gigabytes, f"GB of a chip's {plan.hbm / 1e9:.0f}")
  parts = dict(list(plan.parts.items())[:PARTS])
  if rest := sum(list(plan.parts.values())[PARTS:]):
    parts["others"] = rest
  _bars(time, {name: 1e3 * seconds for name, seconds in parts.items()}, "ms a step")
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png")
  return buffer.getvalue()


def _bars(axis, sizes: Mapping[str, float], title: str) -> None:
  axis.barh(range(len(sizes)), list(sizes.values()), color="tab:blue", height=0.6)
  axis.set_yticks(range(len(sizes)), list(sizes), fontsize=7)
  axis.invert_yaxis()
  for row, size in enumerate(sizes.values()):
    axis.text(size, row, f" {size:.2f}", va="center", fontsize=7)
  axis.margins(x=0.15)
  axis.set_title(title, fontsize=9)
  axis.tick_params(axis="x", labelsize=7)
  axis.tick_params(axis="y", length=0)
  axis.spines[["top", "right", "left"]].set_visible(False)
