"""Workers that answer, die, hang and babble; each is a script of a few lines."""

import sys
import time

import pytest

from jaxrg import worker
from jaxrg.metrics import rendering

ROWS = [
  {"id": f"s{i}", "patient_id": f"p{i}", "reference": "a b", "prediction": "a " * i}
  for i in range(70)
]
GOOD = """
print("a library that talks")

def score(predictions, references):
  print("and goes on talking")
  return [{"length": len(p.split()), "radcliq_v1": -1.0} for p in predictions]
"""
# What a script answers past `serving.py`, whose answers go by the first free number.
BABBLE = "import os\nos.write(3, b'hello there\\n')\nscore = lambda p, r: []"


@pytest.fixture
def run(tmp_path, monkeypatch):
  """The function from a worker's script to its scores."""

  def call(script, idle=20.0):
    (tmp_path / "serving.py").write_text((worker.FOLDER / "serving.py").read_text())
    (tmp_path / "run_radgraph.py").write_text(script)
    monkeypatch.setattr(worker, "FOLDER", tmp_path)
    return worker.run("radgraph", sys.executable, ROWS, idle=idle, resamples=20)

  return call


def test_scores_are_means_with_their_direction(run):
  told = run(GOOD)
  assert told["length"]["value"] == pytest.approx(34.5)
  assert told["length"]["low"] < 34.5 < told["length"]["high"]
  assert (told["length"]["better"], told["radcliq_v1"]["better"]) == ("higher", "lower")
  assert "lower is better" in rendering.render(worker.table("radgraph", told))


@pytest.mark.parametrize(
  ("script", "message"),
  [
    ("import nothing_of_this_name", "ended with 1 after 0 of 70 .*No module named"),
    ("metric = 1", "ended with 1 after 0 of 70 .*KeyError"),
    ("score = lambda p, r: ['x'] * len(p)", "ended with 1 after 0 .*no attribute"),
    ("score = lambda p, r: [{'x': 1}]", "ended with 0 after 3 of 70"),
    ("score = lambda p, r: [{'x': float('nan')}] * len(p)", "answers rubbish: .*NaN"),
    ("score = lambda p, r: [{}] * len(p)", "answers rubbish: "),
    (
      "score = lambda p, r: [{'x': 1} if i else {'y': 1} for i in range(len(p))]",
      "gives no x for report 's0'",
    ),
    (BABBLE, "answers rubbish: 'hello there'"),
    ("import os; os.abort()", "was killed by signal 6 after 0 of 70"),
  ],
)
def test_what_goes_wrong_is_told(run, script, message):
  with pytest.raises(ValueError, match=message) as info:
    run(script)
  assert "\n" not in str(info.value)


def test_what_hangs_is_not_waited_for(run):
  began = time.monotonic()
  with pytest.raises(ValueError, match=r"said nothing for 1 s: .*radgraph=="):
    run("import time; time.sleep(600)", idle=1.0)
  assert time.monotonic() - began < 60


def test_a_child_that_outlives_a_worker_is_not_waited_for(run, monkeypatch):
  """It holds the pipes open, and is ended too."""
  monkeypatch.setattr(worker, "POLL", 0.1)
  began = time.monotonic()
  child = "import subprocess, os\nsubprocess.Popen(['sleep', '600'])\nos._exit(4)"
  with pytest.raises(ValueError, match="ended with 4 after 0 of 70"):
    run(child, idle=300.0)
  assert time.monotonic() - began < 60


def test_a_python_that_is_not_there():
  with pytest.raises(ValueError, match="no/python: No such file or directory"):
    worker.run("radgraph", "no/python", ROWS)


def test_every_worker_has_its_script_and_its_lines():
  for name, found in worker.WORKERS.items():
    assert (worker.FOLDER / found.script).exists(), name
    assert found.requirements, name
    assert found.script != f"{name}.py"  # It would be imported in the package's place.
