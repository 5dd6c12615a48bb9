"""Tables between PyTorch's parameter names and ours, read in both directions.

A row pairs one source tensor with the arrays of ours that it holds; a layout says how
the numbers lie. In names, `{}` stands for the number of a layer.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

State = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layout:
  """How an array lies in PyTorch and how with us; each is the other's inverse."""

  ours: Callable[[np.ndarray], np.ndarray]
  theirs: Callable[[np.ndarray], np.ndarray]


SAME = Layout(lambda x: x, lambda x: x)
CONV = Layout(  # OIHW and HWIO.
  lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)
)


def linear(kernel_axes: int = 0) -> Layout:
  """(out, in), with so many axes of length one behind, and (in, out)."""
  return Layout(
    lambda x: x.reshape(x.shape[:2]).T,
    lambda x: x.T.reshape(*x.shape[::-1], *(1,) * kernel_axes),
  )


def heads(count: int) -> Layout:
  """(h k, in) and (in, h, k); of a bias (h k) and (h, k)."""
  return Layout(
    lambda x: x.T.reshape(*x.shape[1:], count, -1),
    lambda x: x.reshape(*x.shape[:-2], -1).T,
  )


def out(count: int) -> Layout:
  """(out, h k) and (h, k, out)."""
  return Layout(
    lambda x: x.T.reshape(count, -1, x.shape[0]),
    lambda x: x.reshape(-1, x.shape[-1]).T,
  )


def transposed(layout: Layout) -> Layout:
  """`layout` of a matrix that PyTorch keeps as (in, out), as GPT-2's."""
  return Layout(lambda x: layout.ours(x.T), lambda x: layout.theirs(x).T)


def row_of(axis: int) -> Layout:
  """An axis of length one, and none."""
  return Layout(lambda x: np.squeeze(x, axis), lambda x: np.expand_dims(x, axis))


@dataclasses.dataclass(frozen=True)
class Row:
  """One source tensor, and what we make of it."""

  source: str
  targets: tuple[str, ...]  # More than one where PyTorch keeps several in a tensor,
  layout: Layout = SAME
  axis: int = 0  # one behind the other along this axis.


@dataclasses.dataclass(frozen=True)
class Table:
  """All that may be found in a kind of checkpoint."""

  name: str
  rows: tuple[Row, ...]
  dropped: tuple[str, ...] = ()  # Patterns of what our model has no use for.
  tied: Mapping[str, str] = dataclasses.field(default_factory=dict)  # Key: its twin.


def prefixed(rows: Sequence[Row], source: str, target: str) -> tuple[Row, ...]:
  """The rows of a part: its names behind `source`, ours behind `target`."""
  return tuple(
    dataclasses.replace(
      row,
      source=source + row.source,
      targets=tuple(target + path for path in row.targets),
    )
    for row in rows
  )


def to_ours(table: Table, state: State) -> dict[str, np.ndarray]:
  """The arrays of `state` by our paths.

  Raises ValueError naming a key that the table does not know, that is missing or
  whose shape cannot be.
  """
  kept = {key for key in state if not is_aside(table, key)}
  rows = _expand(table.rows, kept, lambda row: row.source)
  known = {source for _, source, _ in rows}
  if unknown := sorted(kept - known):
    raise ValueError(
      f"Unknown key {unknown[0]!r}{_more(unknown)}: this is no {table.name} checkpoint."
    )
  if missing := sorted(known - kept):
    raise ValueError(
      f"The {table.name} checkpoint lacks {missing[0]!r}{_more(missing)}."
    )
  return rename(table, state)


def rename(table: Table, state: State) -> dict[str, np.ndarray]:
  """As much as `state` has of the table's arrays, by our paths: gradients, say."""
  ours = {}
  for row, source, targets in _expand(table.rows, state, lambda row: row.source):
    if source not in state:
      continue
    value = np.asarray(state[source])
    try:
      parts = np.split(value, len(targets), row.axis) if value.ndim else [value]
      ours |= {t: row.layout.ours(part) for t, part in zip(targets, parts, strict=True)}
    except (ValueError, IndexError) as error:
      raise ValueError(
        f"{source!r} of shape {value.shape} cannot become {', '.join(targets)}; are "
        "the head counts right?"
      ) from error
  return ours


def to_theirs(
  table: Table, ours: Mapping[str, np.ndarray], aside: State | None = None
) -> dict[str, np.ndarray]:
  """`to_ours` undone; `aside` is what `set_aside` kept, without which it is absent.

  Raises ValueError naming an array of ours that the table does not know or misses.
  """
  state = {}
  rows = _expand(table.rows, ours, lambda row: row.targets[0])
  known = {target for _, _, targets in rows for target in targets}
  if wrong := sorted(known ^ ours.keys()):
    word = "lacks" if wrong[0] in known else "has no place for"
    raise ValueError(f"A {table.name} checkpoint {word} {wrong[0]!r}{_more(wrong)}.")
  for row, source, targets in rows:
    parts = [row.layout.theirs(np.asarray(ours[target])) for target in targets]
    state[source] = parts[0] if len(parts) == 1 else np.concatenate(parts, row.axis)
  state |= aside or {}
  twins = {k: state[twin] for k, twin in table.tied.items() if twin in state}
  return twins | state


def is_aside(table: Table, key: str) -> bool:
  """Whether the model has no use for this key."""
  return key in table.tied or any(re.fullmatch(p, key) for p in table.dropped)


def set_aside(table: Table, state: State) -> dict[str, np.ndarray]:
  """What is dropped on purpose; of a twin only what is not its twin's.

  With it, the way back is exact to the bit.
  """
  aside = {}
  for key, value in state.items():
    twin = state.get(table.tied.get(key))
    if is_aside(table, key) and not (twin is not None and np.array_equal(twin, value)):
      aside[key] = np.asarray(value)
  return aside


def source_of(table: Table, path: str) -> str:
  """The key from which the array at our `path` comes."""
  rows = _expand(table.rows, [path], lambda row: row.targets[0])
  return next(source for _, source, targets in rows if path in targets)


def _expand(
  rows: Sequence[Row], found: Iterable[str], name_of: Callable[[Row], str]
) -> list[tuple[Row, str, tuple[str, ...]]]:
  """(row, source, targets) of every layer that the names in `found` speak of."""
  prefixes = {name_of(row).partition("{}")[0] for row in rows if "{}" in name_of(row)}
  counts = dict.fromkeys(prefixes, 1)
  for name in found:
    for prefix in prefixes:
      if number := re.match(re.escape(prefix) + r"(\d{1,3})\b", name):
        counts[prefix] = max(counts[prefix], int(number[1]) + 1)
  expanded = []
  for row in rows:
    prefix, braces, _ = name_of(row).partition("{}")
    for i in range(counts[prefix] if braces else 1):
      source, *targets = (
        name.replace("{}", str(i)) for name in (row.source, *row.targets)
      )
      expanded.append((row, source, tuple(targets)))
  return expanded


def _more(names: Sequence[str]) -> str:
  return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def dense(source: str, target: str, layout: Layout | None = None) -> tuple[Row, ...]:
  """Rows of a linear map with its bias."""
  layout = layout or linear()
  return (
    Row(f"{source}.weight", (f"{target}/kernel",), layout),
    Row(f"{source}.bias", (f"{target}/bias",)),
  )


def norm(source: str, target: str) -> tuple[Row, ...]:
  """Rows of a normalisation's scale and bias."""
  return (
    Row(f"{source}.weight", (f"{target}/scale",)),
    Row(f"{source}.bias", (f"{target}/bias",)),
  )


def batch_norm(source: str, target: str) -> tuple[Row, ...]:
  """Rows of a batch normalisation with its running statistics."""
  return (
    *norm(source, target),
    Row(f"{source}.running_mean", (f"batch_stats/{target}/mean",)),
    Row(f"{source}.running_var", (f"batch_stats/{target}/var",)),
  )


def placed(row: Row) -> Row:
  """Under its collection: batch statistics are no parameters."""
  place = lambda path: path if path.startswith("batch_stats/") else f"params/{path}"
  return dataclasses.replace(row, targets=tuple(map(place, row.targets)))


def attention(
  target: str, count: int, *, query: str, key: str, value: str, out_: str
) -> tuple[Row, ...]:
  """Rows of separate query, key, value and out maps, named as in PyTorch."""
  rows = []
  for name, source in (("query", query), ("key", key), ("value", value)):
    for theirs, ours in (("weight", "kernel"), ("bias", "bias")):
      rows.append(Row(f"{source}.{theirs}", (f"{target}/{name}/{ours}",), heads(count)))
  return (*rows, *dense(out_, f"{target}/out", out(count)))
