"""Pictures: what is in a figure before it is a file."""

import io

import numpy as np
from PIL import Image

from jaxrg.experiments import picture
from jaxrg.experiments.picture import Panel, Point

TRIALS = [Point("a", 0.5, 0.4, 0.7, 0.5), Point("b", 0.3, 0.1, 0.4, 0.45)]
PANELS = [
  Panel("F1", TRIALS, "a, same studies"),
  Panel("BLEU", TRIALS[::-1], "a, same studies"),
  Panel("recall", [Point("c", 0.2, 0.1, 0.3)]),
]


def test_a_panel_a_score_and_a_point_a_trial():
  figure = picture.draw("Which is best?", PANELS)
  assert figure.get_suptitle() == "Which is best?"
  assert [axis.get_title() for axis in figure.axes] == ["F1", "BLEU", "recall"]
  for axis, panel in zip(figure.axes, PANELS):
    *_, points = axis.lines
    np.testing.assert_allclose(points.get_xdata(), [p.value for p in panel.points])
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == [point.name for point in panel.points]
    (intervals,) = axis.collections
    ends = [segment[:, 0].tolist() for segment in intervals.get_segments()]
    assert ends == [[point.low, point.high] for point in panel.points]
    bottom, top = axis.get_ylim()
    assert bottom > top  # The first trial is on top.


def test_what_a_trial_stands_beside_is_marked():
  first, _, last = picture.draw("Which?", PANELS).axes
  marks, _ = first.lines
  assert marks.get_xdata().tolist() == [0.5, 0.45]
  assert first.get_xlabel().endswith("a, same studies")
  assert len(last.lines) == 1
  assert last.get_xlabel() == ""


def test_the_same_trials_are_named_once():
  first, second = picture.draw("", [PANELS[0], PANELS[0]]).axes
  assert [label.get_text() for label in first.get_yticklabels()] == ["a", "b"]
  assert not any(label.get_text() for label in second.get_yticklabels())


def test_a_picture_is_a_png():
  image = Image.open(io.BytesIO(picture.png(picture.draw("Which?", PANELS))))
  assert image.format == "PNG"
  assert image.width > image.height
