"""What is kept of outcomes beside the code."""

import json
import pathlib
import runpy

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "benchmarks/collect.py"
collect = runpy.run_path(str(SCRIPT))["collect"]


def finish(folder, config, **trials):
  folder.mkdir(parents=True)
  summary = {"experiment": folder.name, "question": "Why?", "data": "thorax/tiny"}
  summary |= {"config": config, "trials": trials}
  (folder / "summary.json").write_text(json.dumps(summary))
  (folder / "table.txt").write_text(f"table of {config}\n")
  (folder / "picture.png").write_bytes(b"PNG")


@pytest.mark.parametrize(
  ("config", "seeds", "stem", "command"),
  [
    ("priorrg:thorax", 1, "probe", "probe"),
    ("priorrg:thorax", 3, "probe", "probe --seeds=3"),
    ("eir:thorax", 1, "probe-eir-thorax", "probe --config=configs/eir.py:thorax"),
    (
      "eir:tiny,published",
      2,
      "probe-eir-tiny-published",
      "probe --config=configs/eir.py:tiny,published --seeds=2",
    ),
  ],
)
def test_a_file_a_config_and_the_command_that_made_it(
  tmp_path, config, seeds, stem, command
):
  finish(tmp_path / "runs/probe", config, one={"seeds": seeds}, two={})
  collect(tmp_path / "runs", tmp_path / "results")
  kept = {path.name for path in (tmp_path / "results").iterdir()}
  assert kept == {f"{stem}{end}" for end in (".json", ".txt", ".png")} | {"README.md"}
  page = (tmp_path / "results/README.md").read_text()
  assert f"\n    python -m jaxrg.experiment {command}\n" in page
  assert f"## {stem}: Why?" in page
  assert f"![Why?]({stem}.png)" in page


def test_configs_stand_beside_one_another_and_a_new_outcome_replaces(tmp_path):
  results = tmp_path / "results"
  for number, config in enumerate(("eir:thorax", "eir:thorax_long", "eir:thorax")):
    finish(tmp_path / f"runs-{number}" / "probe", config, new={"seeds": 1 + number})
    collect(tmp_path / f"runs-{number}", results)
  kept = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json")}
  seeds = {stem: summary["trials"]["new"]["seeds"] for stem, summary in kept.items()}
  assert seeds == {"probe-eir-thorax": 3, "probe-eir-thorax_long": 2}
  assert (results / "README.md").read_text().count("table of eir:thorax\n") == 1
