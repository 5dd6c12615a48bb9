"""Who may import whom: the layers of the repository, read from its imports."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("jaxrg", "data_pipelines", "configs")


def name_of(path):
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(p): p for package in PACKAGES for p in (ROOT / package).rglob("*.py")}


def imports(name, *, at_top=False):
  """Dotted names that a module imports: modules of ours, and names of others."""
  tree = ast.parse(FILES[name].read_text())
  found = set()
  for node in tree.body if at_top else ast.walk(tree):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{name}: relative import"
      members = {f"{node.module}.{alias.name}" for alias in node.names}
      modules = members & FILES.keys()
      found |= modules
      if members - modules:
        found.add(node.module)
  return found


IMPORTS = {name: imports(name) for name in FILES}


def within(name, *packages):
  return any(name == p or name.startswith(f"{p}.") for p in packages)


def ours(name):
  return {i for i in IMPORTS[name] if within(i, *PACKAGES)}


def importers(framework):
  return {n for n, found in IMPORTS.items() if any(within(i, framework) for i in found)}


def modules(*packages):
  return [name for name in FILES if within(name, *packages)]


def test_there_is_something_to_read():
  assert {"jaxrg.models.priorrg", "data_pipelines.loader", "configs.priorrg"} <= set(
    FILES
  )
  assert "jaxrg.sharding" in ours("jaxrg.models.layers")


@pytest.mark.parametrize(
  ("framework", "importer"),
  [
    ("orbax", "jaxrg.checkpoint"),
    ("transformers", "jaxrg.tokenizers"),
    ("grain", "data_pipelines.loader"),
    ("pydicom", "data_pipelines.dicom"),
    ("jraph", "jaxrg.models.graph"),
    ("safetensors", "jaxrg.weight_files"),
    ("huggingface_hub", "jaxrg.weights"),
    ("torch", "jaxrg.weight_files"),
  ],
)
def test_each_outside_framework_has_one_importer(framework, importer):
  assert importers(framework) <= {importer}


def test_only_builders_know_how_data_sets_are_written():
  builders = {f"data_pipelines.{n}" for n in ("building", "thorax.builder", "prepared")}
  assert importers("tensorflow_datasets") <= builders
  stores = {f"data_pipelines.{n}" for n in ("film_store", "feature_store")}
  assert importers("array_record") <= stores


def test_only_pictures_are_drawn():
  pictures = {f"jaxrg.{name}.picture" for name in ("experiments", "planning")}
  assert importers("matplotlib") <= pictures


def test_all_kinds_of_tokenizer_are_of_one_framework():
  kinds = {f"jaxrg.{name}" for name in ("tokenizers", "unigram", "wordpiece")}
  assert importers("tokenizers") <= kinds


@pytest.mark.parametrize(
  "framework",
  ["torch", "tensorflow", "clu", "pycocoevalcap", "huggingface_hub", "matplotlib"],
)
def test_some_are_never_imported_with_a_module(framework):
  for name in FILES:
    assert not any(within(i, framework) for i in imports(name, at_top=True)), name


def test_pydicom_is_optional():
  assert not any(
    within(i, "pydicom") for i in imports("data_pipelines.dicom", at_top=True)
  )


@pytest.mark.parametrize("name", modules("data_pipelines"))
def test_data_is_numpy(name):
  foreign = ("jax", "jaxlib", "flax", "optax", "jaxrg", "configs")
  assert not [i for i in IMPORTS[name] if within(i, *foreign)]


@pytest.mark.parametrize("name", modules("jaxrg.models"))
def test_models_know_nothing_but_models_and_constrain(name):
  ranks = {
    "layers": 0,
    "cache": 0,
    "post_norm": 1,
    "priorrg": 3,
    "eir": 3,
    "chexbert": 3,
  }
  ranks = {f"jaxrg.models.{name}": rank for name, rank in ranks.items()}
  rank = lambda module: 4 if module == "jaxrg.models" else ranks.get(module, 2)
  for imported in ours(name) - {"jaxrg.sharding"}:
    assert within(imported, "jaxrg.models"), imported
    assert rank(imported) < rank(name), imported
  if "jaxrg.sharding" in ours(name):
    assert "from jaxrg.sharding import constrain\n" in FILES[name].read_text()


@pytest.mark.parametrize("name", ["jaxrg.losses", "jaxrg.decode", "jaxrg.sharding"])
def test_pure_maths_knows_nothing_of_ours(name):
  assert not ours(name)


@pytest.mark.parametrize("name", modules("jaxrg.metrics"))
def test_metrics_need_no_model(name):
  # Of a protocol's tokenizer none but the words are needed.
  known = ("jaxrg.metrics", "data_pipelines", "jaxrg.tokenizers")
  assert all(within(i, *known) for i in ours(name))
  assert not [i for i in IMPORTS[name] if within(i, "jax", "flax")]


@pytest.mark.parametrize(
  "name",
  ["nlg", "clinical", "causes", "errors", "retrieval", "nearest", "auc", "intervals"],
)
def test_a_measure_knows_nothing_of_who_collects_them(name):
  collectors = {f"jaxrg.metrics.{n}" for n in ("scoring", "tables", "agreement")}
  assert not ours(f"jaxrg.metrics.{name}") & collectors


@pytest.mark.parametrize(
  "name", ["objectives", "momentum", "augment", "optim", "state", "checkpoint"]
)
def test_the_step_knows_nothing_of_data_or_configs(name):
  strangers = ("data_pipelines", "configs", "jaxrg.models")
  known = ours(f"jaxrg.{name}") - {"jaxrg.models.layers"}  # Of no model.
  assert not [i for i in known if within(i, *strangers)]


def test_only_the_verb_knows_of_experiments():
  for name in FILES.keys() - set(modules("jaxrg.experiments")) - {"jaxrg.experiment"}:
    assert not [i for i in ours(name) if within(i, "jaxrg.experiments")], name


def test_what_is_compared_knows_nothing_of_how_it_is_trained():
  for name in ("picture", "scores", "page", "outcome"):
    strangers = {"jaxrg.runs", "jaxrg.writer", "jaxrg.experiments.arms"}
    assert not ours(f"jaxrg.experiments.{name}") & strangers


def test_conversion_is_above_the_tables():
  for name in modules("jaxrg.convert"):
    if name != "jaxrg.convert.__main__":
      assert not ours(name) & {"jaxrg.conversion", "jaxrg.exports", "jaxrg.weights"}


def test_tables_know_nothing_of_models():
  for name in ("table", "backbones", "authors", "vision"):
    assert all(within(i, "jaxrg.convert") for i in ours(f"jaxrg.convert.{name}"))


def test_only_what_runs_a_stage_sees_a_config():
  seen = {
    "main",
    "runs",
    "checks",
    "learning",
    "stages",
    "train",
    "validation",
    "exports",
  }
  seen |= {"convert.__main__", "conversion", "pretrained", "experiment"}
  seen |= {"precompute", "features", "plan", "planning.compiling"}
  seen |= {f"experiments.{name}" for name in ("arms", "comparison", "errors")}
  seen |= {
    f"experiments.{name}" for name in ("retrieval", "probing", "features", "eir")
  }
  allowed = {f"jaxrg.{name}" for name in seen}
  assert {n for n in importers("ml_collections") if not within(n, "configs")} <= allowed


def test_configs_know_only_the_names_of_axes():
  for name in modules("configs"):
    assert ours(name) <= {"jaxrg.sharding"}, name


def test_nobody_imports_a_verb():
  """Flags are read by the module that is run; work that others need is elsewhere."""
  verbs = importers("absl.app") | {
    n for n in FILES if "app.run(" in FILES[n].read_text()
  }
  for verb in verbs - {"data_pipelines.cli"}:
    assert not [n for n in FILES if verb in IMPORTS[n]], verb


def test_no_cycle():
  try:
    graphlib.TopologicalSorter({n: ours(n) - {n} for n in FILES}).prepare()
  except graphlib.CycleError as error:
    pytest.fail(" -> ".join(error.args[1]))
