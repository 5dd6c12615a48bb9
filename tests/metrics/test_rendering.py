"""A table on a terminal: nothing is cut, nothing goes beyond the last column."""

from jaxrg.metrics import rendering
from jaxrg.metrics.rendering import Table

SCORES = ("0.743 [0.696, 0.790]", "0.526", "0.350 [0.307, 0.394]")


def lines_of(name):
  columns = ["label micro-F1", "label macro-F1", "change F1"]
  rows = [[name, *SCORES], ["short", *SCORES]]
  return rendering.render(Table("Which?", "As read.", columns, rows)).splitlines()


def test_a_long_name_is_whole_in_every_block_and_moves_columns_to_the_next():
  name = "a name as long as this one does not fit in the margin"
  lines = lines_of(name)
  assert all(len(line) <= rendering.WIDTH for line in lines)
  blocks = sum(line.startswith(f"  {name} ") for line in lines)
  assert blocks > sum(line.startswith("  brief ") for line in lines_of("brief"))
  for score in SCORES:
    assert sum(score in line for line in lines) == 2


def test_columns_lie_under_one_another():
  heads, first, second = lines_of("brief")[2:5]
  assert first.index(SCORES[0]) == second.index(SCORES[0])
  assert heads.endswith("change F1")
  assert first.endswith(SCORES[2])
  assert len(heads) == len(first)
