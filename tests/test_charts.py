"""The pictures of the page: what they show is what was scored, and is well formed."""

from xml.etree import ElementTree

import pytest

from jaxrg import charts

OWN = {"Edema": {"f1": 0.5, "n_true": 4}, "Fracture & more": {"f1": 0.0, "n_true": 1}}
OTHER = {
  "Edema": {"f1": 0.25, "n_true": 4},
  "Fracture & more": {"f1": 1.0, "n_true": 1},
}


def shapes(figure, kind):
  return [
    {name: float(part.get(name)) for name in ("x", "width", "fill-opacity")}
    for part in ElementTree.fromstring(figure).iter("rect")
    if part.get("class").startswith(kind)
  ]


def test_bars_are_as_long_as_f1_and_ticks_stand_there():
  figure = charts.classes({"system": OWN, "common": OTHER})
  assert [bar["width"] for bar in shapes(figure, "bar")] == [charts.PLOT / 2, 0]
  ticks = [tick["x"] + 1 - charts.NAME for tick in shapes(figure, "tick")]
  assert ticks == pytest.approx([charts.PLOT / 4, charts.PLOT], abs=0.1)
  titles = [part.text for part in ElementTree.fromstring(figure).iter("title")]
  assert titles[1] == "Fracture & more: 0.000 of 1, common 1.000"


def test_a_row_of_the_confusion_is_shaded_by_its_shares():
  figure = charts.confusion({"kinds": ["new", "not said"], "counts": [[3, 1], [0, 0]]})
  shades = lambda kind: [cell["fill-opacity"] for cell in shapes(figure, kind)]
  assert shades("right") == [0.75, 0]
  assert shades("wrong") == [0.25, 0]


def test_intervals_are_where_they_are():
  score = {"value": 0.5, "low": 0.4, "high": 0.8}
  told = {"protocol": "raw", "view": {"PA": {"n": 12, "micro": score}}}
  figure = charts.subgroups(told, "micro", "By view")
  (line,) = shapes(figure, "bar")
  assert line["x"] == pytest.approx(charts.NAME + 0.4 * charts.PLOT)
  assert line["width"] == pytest.approx(0.4 * charts.PLOT)
  assert "PA (12)" in figure
  assert charts.subgroups({"protocol": "raw"}, "micro", "By view") == ""
