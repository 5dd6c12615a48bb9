"""CheXbert beside the same network in torch, with random weights and few words."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from data_pipelines.records import ABSENT, LABELS, PRESENT, UNCERTAIN, UNMENTIONED
from jaxrg import chexbert

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "##s", "."]
WORDS += ["effusion", "the", "heart", "is", "large", "small", "left", "edema"]
TEXTS = [
  "The heart is large.",
  "No   effusions.\nSmall left effusion.",
  "",
  "edema " * 700,
  "unheard of",
]


class Torch(torch.nn.Module):
  """The network as published: BERT, and 14 linear maps of its first hidden state."""

  def __init__(self):
    super().__init__()
    config = transformers.BertConfig(
      vocab_size=len(WORDS), hidden_size=128, num_hidden_layers=2,
      num_attention_heads=2, intermediate_size=96,
    )  # fmt: skip
    self.bert = transformers.BertModel(config)
    sizes = [4] * 13 + [2]
    self.linear_heads = torch.nn.ModuleList(torch.nn.Linear(128, n) for n in sizes)

  def forward(self, tokens, mask):
    hidden = self.bert(tokens, attention_mask=mask)[0][:, 0]
    return [head(hidden) for head in self.linear_heads]


@pytest.fixture(scope="module")
def network():
  torch.manual_seed(0)
  network = Torch().eval()
  for name, parameter in network.named_parameters():
    if "weight" in name and "Norm" not in name:  # So that reports differ.
      torch.nn.init.normal_(parameter, std=0.5)
  return network


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
  folder = tmp_path_factory.mktemp("chexbert")
  state = {f"module.{name}": value for name, value in network.state_dict().items()}
  torch.save({"model_state_dict": state, "epoch": 7}, folder / "chexbert.pth")
  (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
  return folder / "chexbert.pth", folder / "vocab.txt"


@pytest.fixture(scope="module")
def labeler(files):
  return chexbert.Labeler(*files, batch_size=3)


def ids_of(text):
  tokenizer = transformers.BertTokenizerFast(
    vocab={word: i for i, word in enumerate(WORDS)}, do_lower_case=True
  )
  ids = tokenizer(" ".join(text.split()))["input_ids"]
  return ids if len(ids) <= 512 else [*ids[:511], ids[-1]]


def test_states_are_those_of_torch(network, labeler):
  expected = []
  with torch.no_grad():
    for text in TEXTS:
      ids = torch.tensor([ids_of(text)])
      logits = network(ids, torch.ones_like(ids))
      expected.append([int(x.argmax()) for x in logits])
  codes = np.array([UNMENTIONED, PRESENT, ABSENT, UNCERTAIN])
  found = labeler.labels(TEXTS)
  assert found.shape == (len(TEXTS), len(LABELS))
  np.testing.assert_array_equal(found, codes[np.array(expected)])
  assert len(np.unique(found, axis=0)) > 1


def test_logits_are_those_of_torch(network, labeler):
  ids = np.zeros((2, 9), np.int32)
  for row, text in zip(ids, (TEXTS[0], "edema .")):
    row[: len(ids_of(text))] = ids_of(text)
  mask = ids != 0
  variables = {"params": labeler._params}
  conditions, no_finding = labeler.model.apply(
    variables, jnp.asarray(ids), jnp.asarray(mask)
  )
  with torch.no_grad():
    *theirs, last = network(torch.tensor(ids).long(), torch.tensor(mask).long())
  for i, logits in enumerate(theirs):
    np.testing.assert_allclose(conditions[:, i], logits, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(no_finding, last, rtol=1e-4, atol=1e-4)


def test_a_report_is_read_by_itself(labeler):
  """Whatever it is batched with, and wherever it stands."""
  alone = np.concatenate([labeler.labels([text]) for text in TEXTS])
  np.testing.assert_array_equal(labeler.labels(TEXTS), alone)
  np.testing.assert_array_equal(labeler.labels(TEXTS[::-1]), alone[::-1])
  assert labeler.labels([]).shape == (0, 14)


def test_the_files_are_told(labeler, files):
  assert len(labeler.sha256) == 2
  assert all(len(digest) == 64 for digest in labeler.sha256.values())


def test_score_reads_both_texts_with_it(files, tmp_path, monkeypatch, request):
  monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath), prepend=":")
  rows = [
    {"id": str(i), "reference": text or "heart", "prediction": text}
    for i, text in enumerate(TEXTS)
  ]
  path = tmp_path / "predictions.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  out = tmp_path / "metrics.json"
  arguments = [path, f"--out={out}", "--resamples=5", "--nojava"]
  arguments += [f"--chexbert={files[0]}", f"--chexbert_vocab={files[1]}"]
  command = [sys.executable, "-m", "jaxrg.score", *map(str, arguments)]
  run = subprocess.run(command, capture_output=True, text=True, check=False)
  assert run.returncode == 0, run.stderr
  told = json.loads(out.read_text())["chexbert"]
  assert set(told["sha256"]) == {str(file) for file in files}
  assert 0 < told["14"]["positive"]["micro"]["f1"] <= 1
  assert "labeler CheXbert" in run.stdout
  assert f"sha256 {told['sha256'][str(files[1])]}" in run.stdout


def test_weights_of_another_model(network, files, tmp_path):
  path = tmp_path / "other.pth"
  torch.save(network.bert.state_dict(), path)
  with pytest.raises(ValueError, match=r"\.pth is no CheXbert: .* linear_heads\.0"):
    chexbert.Labeler(path, files[1])
  state = network.state_dict() | {
    "linear_heads.13.weight": torch.zeros(3, 128),
    "linear_heads.13.bias": torch.zeros(3),
  }
  torch.save(state, path)
  with pytest.raises(ValueError, match="its heads tell"):
    chexbert.Labeler(path, files[1])


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("\n".join([*WORDS, "more"]), "has 17 words, and CheXbert's weights are of 16"),
    ("a\nb\n", r"is no vocabulary of BERT's: it has no \[UNK\]"),
  ],
)
def test_another_vocabulary(files, tmp_path, content, message):
  path = tmp_path / "vocab.txt"
  path.write_text(content)
  with pytest.raises(ValueError, match=message):
    chexbert.Labeler(files[0], path)
