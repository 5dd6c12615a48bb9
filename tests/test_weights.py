"""Weight files of every kind read alike; what is damaged or would run code refused."""

import argparse
import json
import os
import pathlib
import pickle
import re
import runpy
import subprocess
import sys
import time
import types
import zipfile
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxrg import weight_files, weights


@pytest.fixture
def torch():
  return pytest.importorskip("torch")


def arrays():
  rng = np.random.default_rng(0)
  return {
    "layer.weight": rng.normal(size=(3, 4)).astype(np.float32),
    "half": rng.normal(size=5).astype(np.float16),
    "norm.num_batches_tracked": np.array(7, np.int64),
    "mask": np.array([True, False]),
    "file": np.zeros((0, 2)),  # Empty, and by name an argument of np.savez.
  }


def assert_equal(state, wanted):
  assert sorted(state) == sorted(wanted)
  for name, array in wanted.items():
    assert state[name].dtype == array.dtype, name
    assert state[name].shape == array.shape, name
    np.testing.assert_array_equal(state[name], array, err_msg=name)


def tensors(torch):
  return {name: torch.from_numpy(array) for name, array in arrays().items()}


def refused(source, match, error=ValueError):
  """The message of what cannot be read: one line that names the file."""
  with pytest.raises(error, match=match) as info:
    weights.read(source)
  assert "\n" not in str(info.value)
  assert str(source) in str(info.value)
  return str(info.value)


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz"])
def test_what_is_written_is_read(tmp_path, name):
  weight_files.write(tmp_path / name, arrays())
  read = weights.read(str(tmp_path / name))
  assert_equal(read.state, arrays())
  assert read.config is None
  assert read.source == str(tmp_path / name)
  assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz"])
def test_arrays_are_written_as_they_look(tmp_path, name):
  rows = np.arange(6, dtype=np.float32).reshape(2, 3)
  half = np.array([1.5, -2], ml_dtypes.bfloat16)
  weight_files.write(tmp_path / name, {"turned": rows.T, "half": half})
  wanted = {"turned": rows.T, "half": np.array([1.5, -2], np.float32)}
  assert_equal(weights.read(tmp_path / name).state, wanted)


def test_a_safetensors_file_may_begin_as_a_pickle_does(tmp_path):
  """Its first byte is the lowest of the header's length, a multiple of 8."""
  first = set()
  for length in range(1, 250, 8):
    state = {"x" * length: np.arange(3)}
    weight_files.write(tmp_path / "w.safetensors", state)
    assert_equal(weights.read(tmp_path / "w.safetensors").state, state)
    first.add((tmp_path / "w.safetensors").read_bytes()[0])
  assert 0x80 in first


def test_metadata_is_what_torch_users_expect(tmp_path):
  path = tmp_path / "w.safetensors"
  weight_files.write(path, arrays(), {"from": "here"})
  with safetensors.safe_open(path, framework="np") as file:
    assert file.metadata() == {"format": "pt", "from": "here"}


def test_a_failed_write_leaves_what_was_there(tmp_path):
  for name in ("w.safetensors", "w.npz"):
    weight_files.write(tmp_path / name, arrays())
    with pytest.raises(ValueError, match="objects is no array of numbers"):
      weight_files.write(tmp_path / name, {"objects": np.array([None])})
    with (
      mock.patch("numpy.lib.format.write_array", side_effect=OSError(28, "full")),
      mock.patch("safetensors.numpy.save_file", side_effect=OSError(28, "full")),
      pytest.raises(OSError, match="full") as info,
    ):
      weight_files.write(tmp_path / name, {"a": np.ones(2)})
    assert info.value.filename == str(tmp_path / name)
  assert sorted(os.listdir(tmp_path)) == ["w.npz", "w.safetensors"]
  assert_equal(weights.read(tmp_path / "w.safetensors").state, arrays())


def test_where_nothing_can_be_written(tmp_path):
  with pytest.raises(ValueError, match=r"w\.ckpt: weights are written as"):
    weight_files.write(tmp_path / "w.ckpt", arrays())
  with pytest.raises(FileNotFoundError) as info:
    weight_files.write(tmp_path / "none/w.npz", arrays())
  assert info.value.filename == str(tmp_path / "none/w.npz")


def raw_safetensors(dtype, shape, data):
  entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}
  header = json.dumps({"x": entry}).encode()
  return len(header).to_bytes(8, "little") + header + data


@pytest.mark.parametrize("shape", [(), (4,), (2, 2)])
def test_bfloat16_of_safetensors_is_exact(tmp_path, shape):
  values = np.resize(np.array([1.5, -3e38, 1e-40, np.inf], ml_dtypes.bfloat16), shape)
  path = tmp_path / "w.safetensors"
  path.write_bytes(raw_safetensors("BF16", shape, values.tobytes()))
  assert_equal(weights.read(path).state, {"x": values.astype(np.float32)})


def test_a_type_that_numpy_lacks(tmp_path):
  (tmp_path / "w.safetensors").write_bytes(raw_safetensors("F8_E4M3", [2], b"ab"))
  refused(tmp_path / "w.safetensors", "x is of type F8_E4M3")


@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_of_torch(tmp_path, torch, zipped):
  bfloat16 = torch.tensor([1.5, -3e38, 1e-40], dtype=torch.bfloat16)
  state = tensors(torch) | {
    "bfloat16": bfloat16,
    "turned": torch.arange(6.0).reshape(2, 3).T,
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "epoch": 3,
  }
  path = tmp_path / "w.pt"
  torch.save(state, path, _use_new_zipfile_serialization=zipped)
  wanted = arrays() | {
    "bfloat16": bfloat16.float().numpy(),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "parameter": np.ones(2, np.float32),
  }
  assert_equal(weights.read(path).state, wanted)


@pytest.mark.parametrize("key", weight_files.STATES)
def test_a_state_among_other_entries(tmp_path, torch, key):
  path = tmp_path / "w.ckpt"
  others = {"epoch": 3, "loss": torch.tensor(0.5), "optimizer": {"lr": torch.ones(1)}}
  torch.save(others | {key: tensors(torch)}, path)
  assert_equal(weights.read(path).state, arrays())


def test_which_of_several_states(tmp_path, torch):
  path = tmp_path / "w.ckpt"
  torch.save({"model": {"a": torch.ones(1)}, "module": tensors(torch)}, path)
  refused(path, "several states, model, module")
  torch.save({"model": {"a": torch.ones(1)}, "state_dict": tensors(torch)}, path)
  assert_equal(weights.read(path).state, arrays())


def absent_class(monkeypatch, name):
  """A dict with attributes, of a package that is there only while it is written."""
  module, _, _ = name.rpartition(".")
  parts = module.split(".")
  for end in range(1, len(parts) + 1):
    parent = ".".join(parts[:end])
    monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
  attributes = {"__module__": module, "__setattr__": dict.__setitem__}
  cls = type("AttributeDict", (dict,), attributes)
  sys.modules[module].AttributeDict = cls
  return cls


@pytest.mark.parametrize("name", weight_files.DICTS)
@pytest.mark.parametrize("zipped", [True, False])
def test_hyper_parameters_of_lightning(tmp_path, torch, monkeypatch, name, zipped):
  path = tmp_path / "w.ckpt"
  with monkeypatch.context() as patch:
    cls = absent_class(patch, name)
    hyper_parameters = cls(
      args=argparse.Namespace(lr=0.1, rest=argparse.Namespace()),
      folder=pathlib.Path("/a/b"),
      scores=[np.float64(0.5), np.int64(3), np.bool_(True)],
      more=cls(a=1),
    )
    content = {
      "epoch": 3,
      "state_dict": tensors(torch),
      "hyper_parameters": hyper_parameters,
      "hparams_type": cls,
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
  assert name.partition(".")[0] not in sys.modules
  allowed = set(torch.serialization.get_safe_globals())
  assert_equal(weights.read(path).state, arrays())
  assert set(torch.serialization.get_safe_globals()) == allowed


class Evil:
  def __init__(self, function, *args):
    self.call = function, args

  def __reduce__(self):
    return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("inside", ["state_dict", "hyper_parameters"])
@pytest.mark.parametrize(
  ("function", "name"),
  [
    (os.system, "posix.system"),
    (eval, "eval"),
    (runpy.run_path, "runpy.run_path"),
    (getattr, "getattr"),
  ],
)
def test_code_is_not_run(tmp_path, torch, zipped, inside, function, name):
  marker = tmp_path / "marker"
  evil = Evil(function, f"touch {marker}")
  if function is eval:
    evil = Evil(eval, f"open({str(marker)!r}, 'w')")
  path = tmp_path / "w.ckpt"
  content = {"state_dict": tensors(torch)} | {inside: {"x": evil}}
  torch.save(content, path, _use_new_zipfile_serialization=zipped)
  refused(path, rf"is refused: its pickle asks for {re.escape(name)}, which")
  assert not marker.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_is_not_read(tmp_path, protocol):
  marker = tmp_path / "marker"
  path = tmp_path / "w.bin"
  path.write_bytes(pickle.dumps(Evil(os.system, f"touch {marker}"), protocol))
  refused(path, "is refused: it is a pickle" if protocol > 1 else "is neither")
  assert not marker.exists()


def test_code_in_objects_of_numpy(tmp_path):
  marker = tmp_path / "marker"
  evil = np.array([Evil(os.system, f"touch {marker}")])
  np.savez(tmp_path / "w.npz", a=np.ones(2), b=evil)
  refused(tmp_path / "w.npz", "is refused: it holds an array of Python objects")
  assert not marker.exists()


def test_pickles_of_other_protocols(tmp_path, torch):
  torch.save(tensors(torch), tmp_path / "w.pt", pickle_protocol=4)
  refused(tmp_path / "w.pt", "is refused: its pickle does what PyTorch refuses")


def test_a_program_of_torch(tmp_path):
  with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
    for name in ("w/data.pkl", "w/constants.pkl"):
      archive.writestr(name, b"")
  refused(tmp_path / "w.pt", "is a TorchScript program")


@pytest.mark.parametrize(
  "content",
  [[1, 2], {"epoch": 3}, {"state_dict": {"epoch": 3}}, {"net": {"a": {"b": 1}}}, 5],
)
def test_a_checkpoint_without_tensors(tmp_path, torch, content):
  torch.save(content, tmp_path / "w.ckpt")
  refused(tmp_path / "w.ckpt", "holds no tensors")


def test_tensors_that_are_no_arrays(tmp_path, torch):
  for tensor in (torch.zeros(2, dtype=torch.float8_e4m3fn), torch.eye(2).to_sparse()):
    torch.save({"a.b": tensor}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", r"a\.b is no plain array")


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_file_is_for_whom_any_other_file_is(tmp_path, suffix):
  (tmp_path / "plain").write_text("")
  path = tmp_path / f"weights{suffix}"
  weight_files.write(path, {"a": np.zeros(3)})
  assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_without_torch(tmp_path, monkeypatch):
  path = tmp_path / "w.ckpt"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("w/data.pkl", b"")
  for absent in (None, types.SimpleNamespace(__version__=(2, 5))):
    monkeypatch.setitem(sys.modules, "torch", absent)
    assert 'pip install -e ".[convert]"' in refused(path, "is a PyTorch file")
  weight_files.write(tmp_path / "w.npz", arrays())
  assert_equal(weights.read(tmp_path / "w.npz").state, arrays())


@pytest.mark.parametrize("kind", ["safetensors", "npz", "zipped", "legacy"])
@pytest.mark.parametrize("part", [0, 1, 5, 0.05, 0.3, 0.6, 0.9, -1])
def test_a_truncated_file(tmp_path, kind, part):
  path = tmp_path / f"w.{kind if kind in ('safetensors', 'npz') else 'ckpt'}"
  if kind in ("safetensors", "npz"):
    weight_files.write(path, arrays())
  else:
    torch = pytest.importorskip("torch")
    content = {"state_dict": tensors(torch)}
    torch.save(content, path, _use_new_zipfile_serialization=kind == "zipped")
  whole = path.read_bytes()
  assert_equal(weights.read(path).state, arrays())
  path.write_bytes(whole[: int(part * len(whole)) if isinstance(part, float) else part])
  damaged = "is a truncated or damaged"
  if part == 0:
    refused(path, "is an empty file")
  elif part in (1, 5) and kind != "safetensors":  # Too short to tell what it was.
    refused(path, f"is neither|no whole file|{damaged}")
  elif kind == "legacy":  # It may end within the name of a class.
    refused(path, rf"{damaged}|pickle asks for torch\.")
  else:
    refused(path, damaged)


def test_damage_inside_an_npz(tmp_path):
  path = tmp_path / "w.npz"
  weight_files.write(path, {"a": np.arange(1000)})
  data = bytearray(path.read_bytes())
  data[4000] ^= 1
  path.write_bytes(data)
  refused(path, r"is a truncated or damaged \.npz file")


@pytest.mark.parametrize("name", ["w.txt", "w.pt", "w.npz"])
def test_what_is_no_weights(tmp_path, name):
  (tmp_path / name).write_text("<!DOCTYPE html>")
  refused(tmp_path / name, "is neither safetensors")
  with zipfile.ZipFile(tmp_path / name, "w") as archive:
    archive.writestr("a.txt", "a")
  refused(tmp_path / name, "is a zip archive, but")
  (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid x")
  refused(tmp_path / name, "git lfs pull")


def test_the_kind_is_told_by_content(tmp_path):
  weight_files.write(tmp_path / "w.npz", arrays())
  weight_files.write(tmp_path / "w.safetensors", arrays())
  (tmp_path / "w.npz").rename(tmp_path / "npz.bin")
  (tmp_path / "w.safetensors").rename(tmp_path / "safetensors.bin")
  for name in ("npz.bin", "safetensors.bin"):
    assert_equal(weights.read(tmp_path / name).state, arrays())


def shards(folder, index="model.safetensors.index.json"):
  """The arrays in two files and an index of them."""
  weight_map = {}
  for number, names in enumerate((["half", "mask"], None), 1):
    part = {k: v for k, v in arrays().items() if (k in ("half", "mask")) == bool(names)}
    name = f"model-0000{number}-of-00002.safetensors"
    weight_files.write(folder / name, part)
    weight_map |= dict.fromkeys(part, name)
  (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_shards(tmp_path, kind):
  shards(tmp_path, f"{kind}.index.json")
  (tmp_path / "config.json").write_text('{"width": 4}')
  read = weights.read(tmp_path)
  assert_equal(read.state, arrays())
  assert read.config == {"width": 4}
  assert read.source == str(tmp_path / f"{kind}.index.json")
  (tmp_path / "model-00002-of-00002.safetensors").unlink()
  with pytest.raises(FileNotFoundError) as info:
    weights.read(tmp_path)
  assert info.value.filename == str(tmp_path / "model-00002-of-00002.safetensors")


@pytest.mark.parametrize(
  "text",
  [
    "{",
    "[]",
    "{}",
    '{"weight_map": {}}',
    '{"weight_map": {"a": "../a.npz"}}',
    '{"weight_map": {"a": "/a.npz"}}',
    '{"weight_map": {"a": ["a.npz"]}}',
  ],
)
def test_an_index_that_is_damaged_or_leads_elsewhere(tmp_path, text):
  path = tmp_path / "model.safetensors.index.json"
  path.write_text(text)
  refused(path, "is damaged")


def test_what_a_folder_is_read_for(tmp_path):
  refused(tmp_path, "holds neither model.safetensors", FileNotFoundError)
  (tmp_path / "notes.txt").touch()
  weight_files.write(tmp_path / "a.npz", {"a": np.ones(1)})
  assert list(weights.read(tmp_path).state) == ["a"]
  weight_files.write(tmp_path / "b.safetensors", {"b": np.ones(1)})
  refused(tmp_path, r"several weight files, a\.npz, b\.safetensors: give")
  shards(tmp_path, "pytorch_model.bin.index.json")
  assert_equal(weights.read(tmp_path).state, arrays())
  weight_files.write(tmp_path / "c.npz", {"c": np.ones(1)})
  (tmp_path / "c.npz").rename(tmp_path / "pytorch_model.bin")
  assert list(weights.read(tmp_path).state) == ["c"]
  shards(tmp_path)
  assert_equal(weights.read(tmp_path).state, arrays())
  weight_files.write(tmp_path / "model.safetensors", {"d": np.ones(1)})
  assert list(weights.read(tmp_path).state) == ["d"]


def test_a_damaged_config(tmp_path):
  weight_files.write(tmp_path / "w.npz", arrays())
  (tmp_path / "config.json").write_text('{"width": ')
  with pytest.raises(ValueError, match=r"config\.json is damaged"):
    weights.read(tmp_path / "w.npz")


@pytest.mark.parametrize(
  "source",
  [
    "./x/y.ckpt",
    "x/y.ckpt",
    "w.safetensors",
    "/a/b",
    "../a",
    "~/a",
    "a/b/c",
    "a\\b",
    "",
  ],
)
def test_a_path_is_never_asked_for_at_the_hub(source, monkeypatch):
  monkeypatch.setattr(weights, "_from_hub", lambda _: pytest.fail("asked"))
  with pytest.raises(FileNotFoundError, match="is no file or folder here"):
    weights.read(source)


class Hub:
  """A hub of one repository; what is fetched goes to the cache, as in the real one."""

  def __init__(self, cache, monkeypatch):
    import huggingface_hub as hub

    self.remote, self.asked, self.error = cache / "remote", [], None
    self.remote.mkdir()
    self.cached = cache / "models--owner--name/snapshots" / ("0" * 40)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(hub.HfApi, "model_info", self.model_info)
    monkeypatch.setattr(hub, "hf_hub_download", self.download)

  def model_info(self, name, *, timeout):
    self.asked.append("info")
    if self.error:
      raise self.error
    names = os.listdir(self.remote)
    files = [
      types.SimpleNamespace(rfilename=n) for n in (*names, "onnx/model.safetensors")
    ]
    return types.SimpleNamespace(siblings=files)

  def download(self, name, file, *, etag_timeout):
    self.asked.append(file)
    refs = self.cached.parents[1] / "refs"
    for folder in (refs, self.cached):
      folder.mkdir(parents=True, exist_ok=True)
    (refs / "main").write_text(self.cached.name)
    (self.cached / file).write_bytes((self.remote / file).read_bytes())
    return str(self.cached / file)


@pytest.fixture
def hub(tmp_path, monkeypatch):
  return Hub(tmp_path, monkeypatch)


def test_a_repository_is_fetched_once(hub):
  weight_files.write(hub.remote / "model.safetensors", arrays())
  (hub.remote / "config.json").write_text('{"width": 4}')
  for other in ("pytorch_model.bin", "tf_model.h5", "modeling.py", "training_args.bin"):
    (hub.remote / other).touch()
  for _ in range(2):
    read = weights.read("owner/name")
    assert_equal(read.state, arrays())
    assert read.config == {"width": 4}
    assert read.source == str(hub.cached / "model.safetensors")
  assert hub.asked == ["info", "model.safetensors", "config.json"]


def test_shards_of_a_repository(hub):
  shards(hub.remote)
  (hub.remote / "config.json").write_text("{}")
  assert_equal(weights.read("owner/name").state, arrays())
  (hub.cached / "model-00002-of-00002.safetensors").unlink()
  hub.asked.clear()
  assert_equal(weights.read("owner/name").state, arrays())
  assert "model-00002-of-00002.safetensors" in hub.asked


def test_a_repository_of_torch_alone(hub, torch):
  torch.save(tensors(torch), hub.remote / "pytorch_model.bin")
  (hub.remote / "optimizer.bin").touch()
  read = weights.read("owner/name")
  assert_equal(read.state, arrays())
  assert read.config is None
  (hub.remote / "pytorch_model.bin").unlink()
  (hub.cached / "pytorch_model.bin").unlink()
  refused("owner/name", "holds neither model.safetensors", FileNotFoundError)


def test_no_connection(hub):
  hub.error = ConnectionError("no route\nto host")
  message = refused("owner/name", r"cannot be fetched .*\(no route\)", OSError)
  for name in ("config.json", "model.safetensors", "pytorch_model.bin", "folder"):
    assert name in message


def test_a_repository_that_is_absent_or_private(hub):
  from huggingface_hub.errors import RepositoryNotFoundError

  hub.error = RepositoryNotFoundError("404", response=mock.MagicMock())
  message = refused("owner/name", "absent or private", FileNotFoundError)
  assert "hf auth login" in message


def test_offline_ends_at_once(tmp_path):
  code = "from jaxrg import weights; weights.read('distilgpt2')"
  environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
  environment.pop("HF_HUB_CACHE", None)
  start = time.monotonic()
  done = subprocess.run(
    [sys.executable, "-c", code], env=environment, capture_output=True, text=True
  )
  assert time.monotonic() - start < 30
  last = done.stderr.strip().splitlines()[-1]
  assert last.startswith("OSError: distilgpt2 is no file or folder here, and cannot be")
  assert "HF_HUB_OFFLINE" in last


def test_importing_is_light():
  code = "import sys, jaxrg.weights; print(*sys.modules)"
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert not {"torch", "huggingface_hub", "jax"} & set(done.stdout.split())
