"""Eight CPU devices, quick compilation, checked shapes, and a place for data sets."""

import contextlib
import io
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
# Before anything imports tfds, which reads it once; children inherit it.
os.environ["TFDS_DATA_DIR"] = tempfile.mkdtemp(prefix="jaxrg_tfds_")

import hypothesis
import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_default_matmul_precision", "highest")
install_import_hook(
  ["jaxrg.models", "jaxrg.losses", "jaxrg.decode"], "beartype.beartype"
)
hypothesis.settings.register_profile(
  "repeatable", deadline=None, derandomize=True, database=None
)
hypothesis.settings.load_profile("repeatable")

# Only now, so that the hook sees jaxrg's modules.
import micro  # noqa: E402
from jaxrg import evaluation, runs, train  # noqa: E402


def pytest_sessionfinish():
  shutil.rmtree(os.environ["TFDS_DATA_DIR"], ignore_errors=True)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
  """Where programs lie that one test of runs has compiled and the next one needs."""
  return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def miniature(compiled):
  """Runs are of `micro.Miniature`, on few records and one device."""
  with micro.miniature(compiled):
    yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory, compiled):
  """The folder of a finished run of the miniature, for reading only."""
  workdir = tmp_path_factory.mktemp("runs") / "finished"
  printed = io.StringIO()
  with micro.miniature(compiled), contextlib.redirect_stdout(printed):
    runs.run(micro.get_config(), workdir)
  (workdir.parent / "printed.txt").write_text(printed.getvalue())
  return workdir


@pytest.fixture
def copies(finished, miniature, monkeypatch):
  """Training and evaluation copy what they gave in `finished`; what was asked for."""
  exports = {"pretrain": "pretrain/export", "finetune": "export"}
  asked = []

  def train_stage(config, name, tokenizer, *, workdir, init_from, export_to):
    asked.append(f"{workdir.name}/{name}")
    assert all(export.exists() for export in init_from)
    shutil.copytree(finished / exports[name], export_to)

  def evaluate(directory, split, out):
    asked.append(f"{out.parent.name}/eval")
    assert (directory.exists(), split) == (True, "test")
    shutil.copytree(finished / "eval", out)

  monkeypatch.setattr(train, "train", train_stage)
  monkeypatch.setattr(evaluation, "evaluate", evaluate)
  return asked
