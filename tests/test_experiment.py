"""The verb: what it runs, keeps and refuses."""

import pathlib

import pytest
from etils import epath

import micro
from jaxrg import evaluation
from jaxrg.experiments import arms, eir, eir_reports, priorrg
from jaxrg.experiments.comparison import Comparison
from jaxrg.experiments.outcome import Outcome
from jaxrg.metrics import predictions
from test_main import error_of
from test_runs import Killed, dies

ROOT = pathlib.Path(__file__).parents[1]
MICRO = f"--config={ROOT / 'tests/micro.py'}"
PRIORRG = f"--config={ROOT / 'configs/priorrg.py'}"


def experiment(*arguments):
  return micro.verb("experiment", *arguments)


def times(folder):
  return {path: path.stat().st_mtime_ns for path in folder.glob("**/*")}


GROUNDING = Comparison(
  "grounding",
  "Does the text follow the image?",
  [
    trial
    for trial in priorrg.EXPERIMENTS["grounding"].trials
    if not trial.condition or trial.condition.name == "blank"
  ],
  side_by_side=2,
)


def test_a_killed_experiment_goes_on_and_a_finished_one_only_tells(
  miniature, finished, monkeypatch, tmp_path, capsys
):
  """All of it for once: two stages, the evaluation, a condition, the files."""
  monkeypatch.setattr(priorrg, "EXPERIMENTS", {"grounding": GROUNDING})
  arguments = ("grounding", MICRO, f"--workdir={tmp_path}")
  with pytest.MonkeyPatch.context() as patch:
    dies(patch, evaluation, "evaluate")
    with pytest.raises(Killed):
      experiment(*arguments)
  trained = times(tmp_path / "default-0/export")
  assert trained
  assert not (tmp_path / "grounding").exists()

  assert experiment(*arguments) == 0
  assert (
    times(tmp_path / "default-0/export").items()
    >= {
      path: time for path, time in trained.items() if path.name != "MODEL_CARD.md"
    }.items()
  )
  files = {path.name for path in (tmp_path / "grounding").iterdir()}
  assert files == {"table.txt", "picture.png", "page.html", "summary.json"}
  table = (tmp_path / "grounding/table.txt").read_text()
  end = f"{table}\noutcome: {tmp_path / 'grounding'}\n"
  assert capsys.readouterr().out.endswith(end)
  # The run is the one that `main` makes.
  reports = "eval/predictions.jsonl"
  written = predictions.read(tmp_path / "default-0" / reports)
  assert written == predictions.read(finished / reports)
  blank = predictions.read(tmp_path / "default-0/conditions/blank.jsonl")
  assert [row["id"] for row in blank] == [row["id"] for row in written]
  assert blank != written

  before = times(tmp_path)
  assert experiment(*arguments) == 0
  after = times(tmp_path)
  told = {path for path in after if path.is_relative_to(tmp_path / "grounding")}
  assert {p for p in after if after[p] != before.get(p)} <= told
  assert capsys.readouterr().out == f"\n{end}"


@pytest.fixture
def asked(monkeypatch, tmp_path):
  """Experiments that note what they are asked for, and find nothing."""
  calls = []

  class Nothing:
    def __init__(self, name):
      self.name = name

    def run(self, base, seeds, root):
      calls.append((self.name, base.variant, seeds, str(root)))
      outcome = Outcome({}, [], [])
      object.__setattr__(outcome, "write", lambda folder: f"table of {folder.name}")
      return outcome

  both = {name: Nothing(name) for name in ("inputs", "errors")}
  monkeypatch.setattr(priorrg, "EXPERIMENTS", both)
  monkeypatch.setattr(eir, "EXPERIMENTS", {"probe": Nothing("probe")})
  monkeypatch.setattr(eir_reports, "EXPERIMENTS", {"grid": Nothing("grid")})
  monkeypatch.chdir(tmp_path)
  return calls


@pytest.mark.parametrize(
  ("arguments", "names", "variant", "seeds", "folder"),
  [
    (["inputs"], ["inputs"], "thorax", 1, "runs/experiments-thorax"),
    (["inputs", "--seeds=3"], ["inputs"], "thorax", 3, "runs/experiments-thorax"),
    (["all", "--workdir=here"], ["inputs", "errors"], "thorax", 1, "here"),
  ],
)
def test_what_is_asked_for(
  asked, tmp_path, capsys, arguments, names, variant, seeds, folder
):
  assert experiment(PRIORRG, *arguments) == 0
  assert asked == [(n, variant, seeds, str(tmp_path / folder)) for n in names]
  printed = capsys.readouterr().out
  for name in names:
    assert f"table of {name}\n\noutcome: {tmp_path / folder / name}\n" in printed


def test_the_variant_names_the_folder(asked, tmp_path):
  assert experiment("errors", f"{PRIORRG}:tiny,published") == 0
  folder = str(tmp_path / "runs/experiments-tiny-published")
  assert asked == [("errors", "tiny,published", 1, folder)]


@pytest.fixture
def of_paper(tmp_path):
  """The flag of a config that says no more than whose it is."""

  def make(paper):
    path = tmp_path / f"{paper}.py"
    fields = f'{{"paper": "{paper}", "variant": variant}}'
    path.write_text(
      "import ml_collections\n"
      "def get_config(variant='thorax'):\n"
      f"  return ml_collections.ConfigDict({fields})\n"
    )
    return f"--config={path}"

  return make


def test_a_paper_has_its_own_experiments_and_folder(asked, of_paper, tmp_path):
  assert experiment("all", of_paper("eir")) == 0
  assert experiment("probe", f"{of_paper('eir')}:tiny,published", "--seeds=2") == 0
  runs = tmp_path / "runs"
  assert asked == [
    ("probe", "thorax", 1, str(runs / "experiments-eir-thorax")),
    ("grid", "thorax", 1, str(runs / "experiments-eir-thorax")),
    ("probe", "tiny,published", 2, str(runs / "experiments-eir-tiny-published")),
  ]


@pytest.mark.parametrize(
  ("paper", "name", "message"),
  [
    (
      "eir",
      "errors",
      "Unknown experiment 'errors'; known: probe, grid, all. It is one of "
      "--config=configs/priorrg.py.",
    ),
    (
      "priorrg",
      "probe",
      "Unknown experiment 'probe'; known: inputs, errors, all. It is one of "
      "--config=configs/eir.py.",
    ),
    ("eir", "imputs", "Unknown experiment 'imputs'; known: probe, grid, all."),
    ("r2gen", "probe", "config.paper='r2gen' has no experiments; priorrg, eir have."),
  ],
)
def test_what_a_paper_does_not_have(asked, of_paper, capsys, paper, name, message):
  assert experiment(name, of_paper(paper)) == 1
  assert error_of(capsys) == message
  assert asked == []


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "One name is needed: retrieval, inputs, priors, "),
    (["inputs", "errors"], "One name is needed: retrieval, inputs, priors, "),
    (["imputs"], "Unknown experiment 'imputs'; known: retrieval, inputs, priors, "),
    (["errors", "--seeds=0"], "seeds"),
    (["errors", "--config=configs/none.py"], "configs/none.py"),
    (["errors", f"{PRIORRG}:large"], "Unknown variant 'large'"),
  ],
)
def test_one_line_for_what_cannot_be(arguments, message, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  if not any(argument.startswith("--config") for argument in arguments):
    arguments = [PRIORRG, *arguments]
  assert experiment(*arguments) == 1
  assert message in error_of(capsys)
  assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_default_config(capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert experiment("errors") == 1
  assert "configs/priorrg.py" in error_of(capsys)


def test_a_folder_of_another_base_is_refused(copies, tmp_path, capsys):
  arms.train(priorrg.DEFAULT, micro.get_config(), 0, epath.Path(tmp_path))
  before = times(tmp_path)
  flags = (f"--workdir={tmp_path}", "--config.finetune.keep_end=False")
  assert experiment("errors", MICRO, *flags) == 1
  error = error_of(capsys)
  assert error.startswith(f"{tmp_path / 'default-0'} holds the run of another config: ")
  assert "config.finetune.keep_end=True, here False" in error
  assert times(tmp_path) == before
