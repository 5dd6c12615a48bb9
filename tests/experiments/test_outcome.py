"""The files of an outcome."""

import json
import os
import stat

import pytest
from etils import epath

from jaxrg.experiments import outcome, picture
from jaxrg.experiments.outcome import Outcome
from jaxrg.experiments.picture import Panel, Point
from jaxrg.metrics import rendering
from jaxrg.metrics.rendering import Table

SUMMARY = {"experiment": "inputs", "question": "What for?", "trials": {}}
TABLE = Table("What for?", "A note.", ["F1"], [["both", "0.500"]])
PANELS = [Panel("F1", [Point("both", 0.5, 0.4, 0.6)])]


def names(folder):
  return {path.name for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path):
  return epath.Path(tmp_path) / "inputs"


def test_files(folder):
  text = Outcome(SUMMARY, [TABLE, TABLE], PANELS).write(folder)
  assert text == f"{rendering.render(TABLE)}\n\n{rendering.render(TABLE)}"
  assert (folder / "table.txt").read_text() == f"{text}\n"
  assert json.loads((folder / "summary.json").read_text()) == SUMMARY
  assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")
  assert names(folder) == {"table.txt", "picture.png", "summary.json"}


def test_the_page_is_its_owner_s(folder):
  Outcome(SUMMARY, [TABLE], PANELS, page="<html>").write(folder)
  assert (folder / "page.html").read_text() == "<html>"
  assert stat.S_IMODE(os.stat(folder / "page.html").st_mode) == 0o600


def test_killed_while_it_writes_the_summary_is_the_old_one(folder, monkeypatch):
  Outcome(SUMMARY, [TABLE], PANELS).write(folder)

  def killed(figure):
    raise KeyboardInterrupt

  monkeypatch.setattr(picture, "png", killed)
  old = (folder / "picture.png").read_bytes()
  with pytest.raises(KeyboardInterrupt):
    Outcome(SUMMARY | {"question": "Why?"}, [TABLE], PANELS).write(folder)
  assert json.loads((folder / "summary.json").read_text()) == SUMMARY
  assert (folder / "picture.png").read_bytes() == old


def test_facts():
  class Config:
    paper, variant = "priorrg", "tiny"

    class data:  # noqa: N801
      name = "thorax/tiny"

  experiment = type("", (), {"name": "inputs", "question": "What for?"})
  assert outcome.facts(experiment, Config) == {
    "experiment": "inputs",
    "question": "What for?",
    "data": "thorax/tiny",
    "config": "priorrg:tiny",
  }
