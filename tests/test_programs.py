"""Serialised programs give what the model itself gives, without jaxrg."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from etils import epath
from flax import traverse_util

import micro
import micro_eir
from jaxrg import exports, inference, inputs, models, programs

# Whatever is run after it finds no jaxrg.
ALONE = "import sys\nfor name in ('jaxrg', 'flax', 'optax'): sys.modules[name] = None\n"


class Words:
  """What a program asks of a tokenizer."""

  bos, eos, pad = 0, 1, 2

  def to_json(self):
    return "{}"


def make_export(paper: str) -> exports.Export:
  config = {"priorrg": micro, "eir": micro_eir}[paper].get_config()
  model = models.build(config.model)
  init = lambda key: model.init(key, inputs.example(config, "__call__"))
  variables = jax.jit(init)(jax.random.key(0))
  return exports.Export(config, model, variables, Words(), "finetune", 1, None)


def random_batch(example, rows: int):
  rng = np.random.default_rng(rows)
  draw = lambda x: rng.integers(0, 2, (rows, *x.shape[1:])).astype(x.dtype)
  batch = {key: draw(x) for key, x in example.items()}
  for key in batch.keys() & {"image", "prior_image"}:
    batch[key] = rng.integers(0, 256, batch[key].shape).astype(np.uint8)
  return batch


def run(folder: pathlib.Path, name: str, batch, out: pathlib.Path) -> np.ndarray:
  np.savez(out / "batch.npz", **batch)
  arguments = [str(folder / "run.py"), name, str(out / "batch.npz"), str(out / "o.npy")]
  run_it = f"{ALONE}import runpy\nsys.argv = {arguments}\nrunpy.run_path(sys.argv[0])"
  subprocess.run(
    [sys.executable, "-c", run_it],
    check=True,
    timeout=120,
    cwd=out,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )
  return np.load(out / "o.npy")


@pytest.fixture(scope="module", params=["priorrg", "eir"])
def written(request, tmp_path_factory):
  export = make_export(request.param)
  folder = tmp_path_factory.mktemp("programs") / request.param
  programs.write(export, folder)
  return export, folder


@pytest.mark.parametrize(("name", "rows"), [("encode", 3), ("greedy", 1), ("beam", 2)])
def test_a_program_alone_gives_what_the_model_gives(written, tmp_path, name, rows):
  export, folder = written
  batch = random_batch(np.load(folder / "example.npz"), rows)
  found = run(folder, name, batch, tmp_path)
  whole = jax.tree.map(
    lambda x: np.repeat(x, rows, axis=0), dict(inputs.example(export.config, ""))
  )
  if name == "encode":
    method = programs.ENCODERS[export.config.paper]
    batch = jax.tree.map(jax.numpy.asarray, whole | batch)
    expected = export.model.apply(export.variables, batch, method=method)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  else:
    search = json.loads((folder / "programs.json").read_text())["search"][name]
    generate = inference.make_generate(export.model, Words(), **search)
    expected, _ = generate(export.variables, whole | batch)
    assert len({tuple(row) for row in found.tolist()}) == rows  # They differ.
    np.testing.assert_array_equal(found, expected)


def test_it_takes_only_what_it_reads(written):
  export, folder = written
  about = json.loads((folder / "programs.json").read_text())["programs"]
  read = set(about["greedy"]["inputs"])
  assert "image" in read
  assert not read & {"tokens", "report", "study", "states"}
  assert read == set(np.load(folder / "example.npz"))
  known = {"/".join(path) for path in traverse_util.flatten_dict(export.variables)}
  assert set(np.load(folder / "variables.npz")) <= known


def test_every_platform_is_in_it(written):
  _, folder = written
  data = bytearray((folder / "beam.stablehlo").read_bytes())
  assert jax.export.deserialize(data).platforms == programs.PLATFORMS


def test_nothing_is_written_over(tmp_path):
  with pytest.raises(FileExistsError, match="another folder"):
    programs.write(None, epath.Path(tmp_path))


def test_unknown_platform(tmp_path):
  with pytest.raises(ValueError, match="Unknown platform 'gpu'"):
    programs.write(None, tmp_path / "out", ("cpu", "gpu"))


def test_an_exports_variables_are_read_without_this_project(tmp_path):
  """Orbax alone, which is all that a folder of them asks for."""
  from jaxrg import checkpoint

  tree = {"params": {"a": {"kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3)}}}
  checkpoint.export(tmp_path / "export", tree, {})
  read = (
    f"{ALONE}from orbax.checkpoint import v1 as ocp\nimport numpy as np\n"
    f"tree = ocp.load({str(tmp_path / 'export/variables')!r})\n"
    "np.save('kernel.npy', tree['params']['a']['kernel'])"
  )
  subprocess.run(
    [sys.executable, "-c", read],
    check=True,
    timeout=120,
    cwd=tmp_path,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )
  kernel = np.load(tmp_path / "kernel.npy")
  np.testing.assert_array_equal(kernel, tree["params"]["a"]["kernel"])
