"""`python -m jaxrg.score` as a user types it."""

import json
import subprocess
import sys

import pytest

ROWS = [
  {
    "id": f"p{i}_s1",
    "patient_id": f"p{i}",
    "has_prior": i > 2,
    "reference": "The heart is enlarged. There is no pleural effusion.",
    "prediction": f"There is {'no' if i % 2 else 'a small left'} pleural effusion.",
  }
  for i in range(6)
]


def score(*arguments, cwd):
  command = [sys.executable, "-m", "jaxrg.score", "--nojava", *map(str, arguments)]
  return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_table_and_metrics(tmp_path, monkeypatch, request):
  monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath), prepend=":")
  path = write(tmp_path / "predictions.jsonl", ROWS)
  run = score(path.name, "--out=metrics.json", "--resamples=50", cwd=tmp_path)
  assert run.returncode == 0, run.stderr
  assert "6 reports of 6 patients, 3 with a prior" in run.stdout
  assert "protocol priorrg" in run.stdout
  metrics = json.loads((tmp_path / "metrics.json").read_text())
  assert metrics["resampling"]["resamples"] == 50
  effusion = metrics["labels"]["classes"]["Pleural Effusion"]
  assert (effusion["n_true"], effusion["n_predicted"]) == (0, 3)


@pytest.mark.parametrize(
  ("rows", "message"),
  [
    (None, "error: predictions.jsonl: No such file or directory.\n"),
    ([], "error: predictions.jsonl: no predictions in it.\n"),
    (
      [{"id": "a", "text": "b"}],
      "error: predictions.jsonl: no reference; it would be one of reference, "
      "reference_report, ground_truth, ground_truth_report, gt, gts, target, labels, "
      "report, findings, and there are id, text.\n",
    ),
  ],
)
def test_errors_are_one_line(tmp_path, monkeypatch, request, rows, message):
  monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath), prepend=":")
  if rows is not None:
    write(tmp_path / "predictions.jsonl", rows)
  run = score("predictions.jsonl", "--out=metrics.json", cwd=tmp_path)
  assert (run.returncode, run.stdout, run.stderr) == (1, "", message)
  assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--require=bleu_4"], "--require=bleu_4: NAME=NUMBER or NAME<=NUMBER is needed."),
    (["--export=word:x"], "--export=word:x: FORMAT:PATH is needed"),
    (["--out=none/x.json"], "none/x.json: there is no such folder"),
    (["--out=predictions.jsonl"], "predictions.jsonl: is read, or written twice"),
    (["--out=x", "--export=csv:./x"], "./x: is read, or written twice"),
    (["--worker=green"], "--worker needs --python"),
    (["--chexbert=x.pth"], "--chexbert needs --chexbert_vocab"),
    (["--chexbert=x.pth", "--chexbert_vocab=v"], "x.pth: No such file"),
    (["--against=none.csv"], "none.csv: No such file"),
  ],
)
def test_what_flags_ask_for_is_checked_before_anything_is_scored(
  tmp_path, monkeypatch, request, flags, message
):
  monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath), prepend=":")
  path = write(tmp_path / "predictions.jsonl", ROWS)
  before = path.read_bytes()
  run = score(path.name, *flags, cwd=tmp_path)
  assert (run.returncode, run.stdout) == (1, "")
  assert run.stderr.startswith(f"error: {message}")
  assert run.stderr.count("\n") == 1
  assert [f.name for f in tmp_path.iterdir()] == [path.name]
  assert path.read_bytes() == before


def test_a_reader_that_has_enough_is_no_error(tmp_path, monkeypatch, request):
  monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath), prepend=":")
  path = write(tmp_path / "predictions.jsonl", ROWS)
  command = f"{sys.executable} -m jaxrg.score --nojava --resamples=5 {path} | head -1"
  run = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
  assert (run.stdout, run.stderr) == ("Outputs\n", "")


def test_verbosity_shows_where(tmp_path, monkeypatch, request):
  monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath), prepend=":")
  run = score("nothing.jsonl", "--verbosity=1", cwd=tmp_path)
  assert run.returncode == 1
  assert "Traceback" in run.stderr
  assert "FileNotFoundError" in run.stderr


@pytest.mark.parametrize(
  ("asked", "status", "told"),
  [
    ("bleu_1=0", 0, "language.priorrg.bleu_1 = "),
    ("bleu_1=.99", 2, "required at least 0.99: NOT REACHED"),
    ("bleu_9=0", 1, "error: --require=bleu_9=0: bleu_9 is none of metrics.json."),
  ],
)
def test_the_status_says_whether_it_is_good_enough(
  tmp_path, monkeypatch, request, asked, status, told
):
  monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath), prepend=":")
  write(tmp_path / "predictions.jsonl", ROWS)
  run = score("predictions.jsonl", f"--require={asked}", "--resamples=10", cwd=tmp_path)
  assert run.returncode == status
  assert told in run.stdout + run.stderr


def test_a_worker_that_fails_leaves_the_other_scores(tmp_path, monkeypatch, request):
  monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath), prepend=":")
  write(tmp_path / "predictions.jsonl", ROWS)
  broken = tmp_path / "python"
  broken.write_text("#!/bin/sh\necho 'no such package' >&2\nexit 3\n")
  broken.chmod(0o755)
  asked = ("--worker=bertscore", f"--python={broken}", "--out=metrics.json")
  run = score("predictions.jsonl", *asked, "--resamples=10", cwd=tmp_path)
  assert run.returncode == 1
  assert run.stderr.startswith("error: Worker bertscore ended with 3 after 0 of 6")
  assert "no such package" in run.stderr
  assert "Traceback" not in run.stderr
  metrics = json.loads((tmp_path / "metrics.json").read_text())
  assert metrics["n"] == 6
  assert metrics["workers"]["bertscore"].keys() == {"error"}


def test_every_key_is_documented(tmp_path, monkeypatch, request):
  monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath), prepend=":")
  rows = [row | {"study_id": row["patient_id"], "view": "PA"} for row in ROWS]
  write(tmp_path / "predictions.jsonl", rows)
  asked = ("--out=metrics.json", "--against=predictions.jsonl", "--resamples=10")
  assert score("predictions.jsonl", *asked, cwd=tmp_path).returncode == 0
  text = (request.config.rootpath / "docs" / "scores.md").read_text()
  metrics = json.loads((tmp_path / "metrics.json").read_text())
  nested = ("health", "labels", "changes", "errors", "subgroups", "resampling")
  keys = {*metrics, *(key for name in nested for key in metrics[name])} - {"protocol"}
  keys |= {*metrics["health"]["system"]} | {*rows[0]}
  # Counts that are told once, at the top.
  keys -= {"n", "words", "n_unique", "n_empty"}
  assert not [key for key in keys if f"`{key}`" not in text]
