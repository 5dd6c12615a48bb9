"""What EIR refuses: configs that cannot be, and inputs that are not as they should."""

import json

import numpy as np
import pytest

import micro_eir
from data_pipelines import datasets, loader
from jaxrg import checks, inputs, neighbours, pretrained
from jaxrg.inputs import eir
from jaxrg.unigram import UnigramTokenizer


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model.norm": "zscore"}, "config.model.norm 'zscore'; known: unit, imagenet"),
    ({"model.vision.name": "vgg"}, "vision.name 'vgg'; known: resnet18, resnet50"),
    ({"model.aggregation.name": "sum"}, "aggregation.name 'sum'; known: cross_modal"),
    ({"model.topics.name": "none"}, "topics.name 'none'; known: dense"),
    ({"model.history.max_length": 8}, "history.max_length=8, but .* 16 tokens"),
    ({"pretrain.contrast.name": "simclr"}, "'simclr'; known: moco_v2, c2l"),
    ({"pretrain.contrast.queue": 40}, r"contrast\.queue=40 does not divide"),
    ({"pretrain.contrast.groups": 3}, r"contrast\.groups=3 does not cut"),
    ({"pretrain.accumulation": 2}, "pretrain.accumulation=2: .* must be 1"),
    ({"pretrain.objective": "contrastive"}, "'contrastive'; known: momentum"),
    ({"retrieve.count": 2}, r"retrieve\.count=2, but 3 is the least"),
    ({"refine.states": "true"}, "refine.states 'true'; known: label, predicted"),
    ({"write.batch_size": 0}, "write.batch_size=0, but 1 is the least"),
    ({"stages": ("pretrain", "write")}, r"neighbours=3, but config\.stages has no"),
    ({"graph.neighbours": -1}, r"graph\.neighbours=-1, but 0 is the least"),
    ({"graph.triples": "none.json"}, "graph.triples=none.json: No such file"),
    (
      {"retrieve.width": 512},
      "retrieve.width=512, but neighbours are found by",
    ),
    ({"retrieve.width": 0}, "retrieve.width=0, but 1 is the least"),
    ({"retrieve.vectors": "words"}, "retrieve.vectors 'words'; known: features, head"),
    (
      {"model.head.width": 512, "retrieve.vectors": "head"},
      "head.width=512, but neighbours are found by at most",
    ),
    ({"text.history_length": 1}, "history_length=1, but 2 is the least"),
    ({"data.max_films": 0}, "max_films=0, but 1 is the least"),
    (
      {"model.topics.name": "grid", "model.aggregation.name": "concat"},
      "'grid' needs .*cross_modal",
    ),
    ({"tokenizer.name": "gpt2"}, "tokenizer.name 'gpt2'; known: unigram"),
    ({"graph.max_nodes": 20}, r"graph\.max_nodes=20 has no room for the 28 nodes"),
    ({"graph.max_edges": 200}, r"graph\.max_edges=200 has no room"),
    ({"stages": ("pretrain", "retrieve", "refine")}, "refine.* has no interpreter"),
    ({"model.reading": "words"}, "reading 'words'; known: soft_token, residual"),
    ({"model.generator.max_length": 8}, "generator.max_length=8, but .* 24 tokens"),
    ({"model.interpreter.max_length": 8}, "interpreter.max_length=8, but .* 24 tok"),
    ({"text.report_length": 1}, "report_length=1, but 2 is the least"),
    ({"model.threshold": 1.5}, "threshold=1.5 is no probability"),
    ({"model.graph_dropout": -0.1}, "graph_dropout=-0.1 is no probability"),
    ({"model.num_states": 3}, "num_states must be 2 or 4, got 3"),
    ({"model.num_topics": 12}, "num_topics must be at least 14"),
  ],
)
def test_configs_that_cannot_be(changes, message):
  with pytest.raises(ValueError, match=message) as info:
    checks.check(micro_eir.get_config(changes))
  assert "\n" not in str(info.value)


@pytest.mark.parametrize(
  "changes",
  [
    {"stages": ("pretrain", "write"), "graph.neighbours": 0},
    {"model.use_text": False},
    {"model.use_graph": False, "graph.neighbours": 0, "stages": ("write",)},
    {"model.use_text": False, "model.use_graph": False},
    {"model.topics.name": "grid", "model.aggregation.cross_modal.order": "parallel"},
    {"model.aggregation.name": "add_norm"},
    {"model.aggregation.name": "concat", "model.topics.name": "attention"},
    {"model.head.name": "linear", "model.num_states": 4},
    {"model.reading": "gumbel_st"},
    {"model.reading": "residual"},
    {"model.vision.name": "densenet121", "model.vision.densenet.blocks": (1, 2)},
    {"model.vision.name": "vit"},
  ],
)
def test_configs_that_can_be(changes):
  checks.check(micro_eir.get_config(changes))


def test_weights_of_other_pixels_are_refused(tmp_path):
  np.savez(tmp_path / "w.npz", x=np.zeros(1))
  changes = {"pretrained.vision": str(tmp_path / "w.npz"), "pretrained.kind": "c2l"}
  with pytest.raises(ValueError, match=r"'imagenet', and config\.model\.norm is 'moco"):
    pretrained.check(micro_eir.get_config(changes))


@pytest.fixture(scope="module")
def source():
  return [datasets.load("thorax/tiny", "train")[i] for i in range(12)]


@pytest.fixture(scope="module")
def tokenizer():
  return UnigramTokenizer.train(["the heart is normal"], 100, 10)


@pytest.fixture
def folder(tmp_path, source):
  """A run's folder, in which every study is like every one of another patient."""
  config = micro_eir.get_config({"model.num_topics": 14})
  folder = inputs.epath.Path(tmp_path)
  (folder / eir.TOPICS).write_text(eir.make_topics(config, source).to_json())
  (folder / eir.TRIPLES).write_bytes(eir.make_triples(config, source))
  ids = np.array(sorted({loader.parse(source, i)["study_id"] for i in range(12)}))
  indices = np.stack([np.roll(np.arange(len(ids)), -i - 1) for i in range(3)], axis=1)
  scores = np.ones(indices.shape, np.float32)
  found = neighbours.Found(ids, indices.astype(np.int32), scores)
  neighbours.Neighbours("thorax/tiny", "0" * 64, ids, {"train": found}).write(
    folder / eir.NEIGHBOURS
  )
  return folder


def read(folder, source, tokenizer, changes=()):
  changes = {"model.num_topics": 14} | dict(changes)
  config = micro_eir.get_config(changes)
  return inputs.reader(config, "write", tokenizer, folder)(source)


def test_a_case_has_the_shapes_of_the_example(folder, source, tokenizer):
  config = micro_eir.get_config({"model.num_topics": 14})
  case, example = read(folder, source, tokenizer)[0], eir.example(config)
  assert case.keys() - example.keys() == {"index"}
  for name, x in example.items():
    assert (x.shape[1:], x.dtype) == (case[name].shape, case[name].dtype), name
  assert case["node_mask"].sum() > 28  # Similar reports have told it something.


def test_without_neighbours_every_graph_is_the_base_graph(folder, source, tokenizer):
  (folder / eir.NEIGHBOURS).unlink()
  cases = read(folder, source, tokenizer, {"graph.neighbours": 0})
  assert {int(cases[i]["node_mask"].sum()) for i in range(len(cases))} == {28}


def test_a_history_that_tells_its_report_is_refused(source):
  told = [dict(record) for record in source]
  told[5]["history"] = told[5]["findings"]
  study = loader.parse(told, 5)["study_id"]
  with pytest.raises(ValueError, match=f"history of study {study} contains more than"):
    eir.check_histories(micro_eir.get_config(), [source, told])
  for unread in ({"model.use_text": False}, {"data.without": ("context",)}):
    eir.check_histories(micro_eir.get_config(unread), [told])


def test_a_history_that_is_not_there_is_masked(folder, source, tokenizer):
  bare = [dict(record) | {"indication": "", "history": ""} for record in source]
  assert not read(folder, bare, tokenizer)[0]["history_mask"].any()
  published = read(folder, bare, tokenizer, {"text.mask_missing": False})
  assert published[0]["history_mask"].sum() == 2  # Where it begins and ends.


def test_fewer_neighbours_than_are_asked_for(folder, source, tokenizer):
  with pytest.raises(ValueError, match="3 neighbours of a study, and 5 are asked"):
    read(folder, source, tokenizer, {"graph.neighbours": 5})


def test_triples_that_cannot_be_read(folder, source, tokenizer):
  path = folder / eir.TRIPLES
  for damage in (b"", path.read_bytes()[:-9], b"{}"):
    path.write_bytes(damage)
    with pytest.raises(ValueError, match=r"triples\.json\.gz is damaged: "):
      read(folder, source, tokenizer)


WORD = dict(tokens="x", label="OBS-DP", start_ix=0, end_ix=0)


def annotated(**entity):
  """A RadGraph file of one report with one entity."""
  return {"s": {"text": "x", "entities": {"1": entity}}}


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("{", "not JSON"),
    ("[]", "object"),
    (annotated(**WORD), "relations"),
    (annotated(**WORD, relations=[["modify", "9"]]), "9"),
  ],
)
def test_radgraph_files_that_are_none(tmp_path, source, content, message):
  path = tmp_path / "radgraph.json"
  path.write_text(content if isinstance(content, str) else json.dumps(content))
  with pytest.raises(ValueError, match=message) as info:
    eir.make_triples(micro_eir.get_config({"graph.triples": str(path)}), source)
  assert str(path) in str(info.value)
  assert "\n" not in str(info.value)


def test_a_graph_over_budget_is_told(folder, source):
  """The lowest-ranked triples go, and are counted."""
  changes = {"model.num_topics": 14, "graph.max_nodes": 30}
  told = eir.describe_graphs(micro_eir.get_config(changes), folder)
  assert "graphs were over the budget" in told
  wide = {"graph.max_nodes": 96, "graph.max_edges": 640}
  enough = eir.describe_graphs(micro_eir.get_config(wide), folder)
  assert "over the budget" not in enough
