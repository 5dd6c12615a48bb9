"""Other people's weight files as arrays by name; nothing in a file is ever run."""

import contextlib
import dataclasses
import json
import os
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np
import safetensors
import safetensors.numpy

SUFFIXES = (".safetensors", ".npz", ".ckpt", ".pt", ".pth", ".bin")
BEST = ("model.safetensors", "pytorch_model.bin")  # Whole, or as an index of shards.
INDEX = ".index.json"

HUB_ID = r"\w[\w.-]*(/\w[\w.-]*)?"
HUB_SECONDS = 3  # That it may take to answer.

ZIP = b"PK\x03\x04"
TORCH_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
PICKLE = b"\x80"
GIT_LFS = b"version https://git-lfs"

# NumPy's names of what safetensors calls U8, I64, F32...
DTYPES = {
  f"{dtype[0].upper()}{8 * int(dtype[1])}": dtype
  for dtype in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")
}
DTYPES |= {"BOOL": "?", "C64": "c8", "BF16": "u2"}  # BF16: half of a float32.

STATES = ("state_dict", "model_state_dict", "model", "module")

# What Lightning keeps beside the weights, and weights-only loading refuses. None of
# these is ever imported: a dict or an `_Inert` takes its place.
DICTS = (
  "pytorch_lightning.utilities.parsing.AttributeDict",
  "lightning.pytorch.utilities.parsing.AttributeDict",
  "lightning_fabric.utilities.data.AttributeDict",
  "lightning.fabric.utilities.data.AttributeDict",
)
INERT = (
  "argparse.Namespace",
  "numpy.core.multiarray.scalar",
  "numpy._core.multiarray.scalar",
  "numpy.dtype",
  "pathlib.PosixPath",
  "pathlib.WindowsPath",
  "pathlib._local.PosixPath",
  "pathlib._local.WindowsPath",
)


@dataclasses.dataclass(frozen=True)
class Weights:
  """Arrays by name, the config.json beside them, and the path that was read."""

  state: dict[str, np.ndarray]
  config: dict | None
  source: str


def read(source: str | os.PathLike) -> Weights:
  """The weights of a file, a folder, or a repository of the Hugging Face hub.

  A file is safetensors, .npz or PyTorch's, told by content; bfloat16 becomes float32.
  Local paths go before the hub, and the hub's cache before the network. Raises
  OSError where nothing can be read, and ValueError where it is no weights or would
  run code; both say so in one line.
  """
  source = os.fspath(source)
  path = pathlib.Path(source)
  if os.path.isdir(source):
    return _load(path / _choose(os.listdir(path), source))
  if os.path.exists(source):
    return _load(path)
  if re.fullmatch(HUB_ID, source) and not source.endswith(SUFFIXES):
    return _load(_from_hub(source))
  raise FileNotFoundError(
    f"{source!r} is no file or folder here, and no name of the Hugging Face hub, which "
    "would be `owner/name`."
  )


def write(
  path: str | os.PathLike,
  state: Mapping[str, np.ndarray],
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes .safetensors, or .npz without the metadata, whole or not at all.

  Raises ValueError for another suffix or what is no numbers, OSError where it fails.
  """
  path = pathlib.Path(path)
  if path.suffix not in (".safetensors", ".npz"):
    raise ValueError(f"{path}: weights are written as .safetensors or .npz.")
  # Not ascontiguousarray, which gives a scalar an axis.
  arrays = {name: np.asarray(array, order="C") for name, array in state.items()}
  for name, array in arrays.items():
    if array.dtype.name == "bfloat16":  # As `read` gives it.
      arrays[name] = array.astype(np.float32)
    _check_numbers(arrays[name], name, path)
  draft = path.with_name(f"{path.name}.unfinished")
  try:
    with open(draft, "wb") as file:
      if path.suffix == ".npz":
        _write_npz(file, arrays)
      else:
        metadata = {"format": "pt", **(metadata or {})}
        safetensors.numpy.save_file(arrays, draft, metadata)
    draft.replace(path)
  except OSError as error:
    raise OSError(error.errno, error.strerror, str(path)) from error
  except safetensors.SafetensorError as error:
    raise OSError(f"{path} cannot be written: {_first_line(error)}.") from error
  finally:
    with contextlib.suppress(OSError):
      draft.unlink(missing_ok=True)


def _write_npz(file, arrays: Mapping[str, np.ndarray]) -> None:
  # Not np.savez, whose own arguments would be names that no array can have.
  with zipfile.ZipFile(file, "w") as archive:
    for name, array in arrays.items():
      with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
        np.lib.format.write_array(entry, array, allow_pickle=False)


def _choose(names: Collection[str], where: str) -> str:
  """Which of the names holds the weights."""
  for name in (f"{best}{suffix}" for best in BEST for suffix in ("", INDEX)):
    if name in names:
      return name
  found = sorted(name for name in names if name.endswith(SUFFIXES))
  if not found:
    raise FileNotFoundError(
      f"{where} holds neither {' nor '.join(BEST)}, nor anything else to read weights "
      "from: give the path of a file."
    )
  if len(found) > 1:
    raise ValueError(
      f"{where} holds several weight files, {', '.join(found)}: give the path of one."
    )
  return found[0]


def _load(path: pathlib.Path) -> Weights:
  state = {}
  for name in _shards(path) or [path.name]:
    state |= _read_file(path.with_name(name))
  config = path.with_name("config.json")
  return Weights(state, _read_json(config) if config.exists() else None, str(path))


def _shards(path: pathlib.Path) -> list[str]:
  """The names of the files that an index refers to; none where `path` is no index."""
  if not path.name.endswith(INDEX):
    return []
  weight_map = _read_json(path).get("weight_map")
  names = list(weight_map.values()) if isinstance(weight_map, dict) else []
  # Nothing from elsewhere: an index is other people's, too.
  if not names or any(pathlib.PurePath(str(name)).name != name for name in names):
    raise ValueError(f"{path} is damaged: it names no files that lie beside it.")
  return sorted(set(names))


def _read_json(path: pathlib.Path) -> dict:
  with contextlib.suppress(ValueError):
    content = json.loads(path.read_bytes())
    if isinstance(content, dict):
      return content
  raise ValueError(f"{path} is damaged: it is no JSON object.")


def _from_hub(name: str) -> pathlib.Path:
  """Where a repository's weights lie in the hub's cache, fetched if need be."""
  os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
  import huggingface_hub as hub

  with _hub_errors(name):
    cached = hub.try_to_load_from_cache(name, "config.json")
  if isinstance(cached, str):
    folder = pathlib.Path(cached).parent
    with contextlib.suppress(FileNotFoundError, ValueError):
      path = folder / _choose(_wanted(os.listdir(folder)), name)
      if all(path.with_name(shard).exists() for shard in _shards(path)):
        return path
  with _hub_errors(name):
    info = hub.HfApi().model_info(name, timeout=HUB_SECONDS)
  names = [file.rfilename for file in info.siblings or ()]
  chosen = _choose(_wanted(names), name)
  fetch = lambda file: hub.hf_hub_download(name, file, etag_timeout=HUB_SECONDS)
  with _hub_errors(name):
    path = pathlib.Path(fetch(chosen))
    if "config.json" in names:
      fetch("config.json")
  for shard in _shards(path):
    with _hub_errors(name):
      fetch(shard)
  return path


def _wanted(names: Iterable[str]) -> list[str]:
  """Those files of a repository that may be its weights."""
  suffixes = (".safetensors", BEST[1], INDEX)
  return [name for name in names if name.endswith(suffixes) and "/" not in name]


@contextlib.contextmanager
def _hub_errors(name: str) -> Iterator[None]:
  from huggingface_hub.errors import RepositoryNotFoundError

  try:
    yield
  except RepositoryNotFoundError as error:
    raise FileNotFoundError(
      f"{name} is no file or folder here, and absent or private at the Hugging Face "
      "hub: check the name, or log in there with `hf auth login`."
    ) from error
  except Exception as error:  # Of its HTTP library, which differs between versions.
    raise OSError(
      f"{name} is no file or folder here, and cannot be fetched from the Hugging Face "
      f"hub ({_first_line(error)}): put its config.json, and its model.safetensors or "
      "pytorch_model.bin, into a folder and give the path of that."
    ) from error


def _read_file(path: pathlib.Path) -> dict[str, np.ndarray]:
  with open(path, "rb") as file:
    head = file.read(64)
  if not head:
    raise ValueError(f"{path} is an empty file.")
  if head.startswith(GIT_LFS):
    raise ValueError(f"{path} is a Git LFS pointer: `git lfs pull` gets the weights.")
  if head.startswith(ZIP):
    return _read_zip(path)
  if head.startswith(TORCH_BEFORE_1_6):
    return _read_torch(path, mmap=False)
  if head.startswith(PICKLE):
    raise _refusal(path, "it is a pickle, and no whole file of PyTorch's")
  # The header's length, and the header, which is JSON.
  if head[8:9] == b"{" or path.suffix == ".safetensors":
    return _read_safetensors(path)
  raise ValueError(f"{path} is neither safetensors, .npz nor a PyTorch file.")


def _refusal(path: pathlib.Path, reason: str) -> ValueError:
  return ValueError(
    f"{path} is refused: {reason}, which may run code. Where you trust it, save its "
    "tensors as .safetensors and give that."
  )


def _damage(path: pathlib.Path, kind: str) -> ValueError:
  return ValueError(f"{path} is a truncated or damaged {kind} file.")


def _read_zip(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    with zipfile.ZipFile(path) as archive:
      names = archive.namelist()
  except Exception as error:  # More than BadZipFile.
    raise _damage(path, "PyTorch or .npz") from error
  if any(name.endswith("/constants.pkl") for name in names):
    raise ValueError(f"{path} is a TorchScript program: save its state_dict instead.")
  if any(name.endswith("/data.pkl") for name in names):
    return _read_torch(path, mmap=True)
  if all(name.endswith(".npy") for name in names):
    return _read_npz(path)
  raise ValueError(f"{path} is a zip archive, but neither NumPy's nor PyTorch's.")


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as archive:
      state = dict(archive)
  except Exception as error:  # Of zipfile, zlib or NumPy.
    if "allow_pickle" in str(error):
      raise _refusal(path, "it holds an array of Python objects, a pickle") from error
    raise _damage(path, ".npz") from error
  for name, array in state.items():
    _check_numbers(array, name, path)
  return state


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  # Not by its NumPy loader, which knows bfloat16 or does not as versions go.
  try:
    tensors = safetensors.deserialize(path.read_bytes())
  except safetensors.SafetensorError as error:
    raise _damage(path, "safetensors") from error
  state = {}
  for name, tensor in tensors:
    kind = tensor["dtype"]
    if kind not in DTYPES:
      raise ValueError(f"{path}: {name} is of type {kind}, which NumPy lacks.")
    array = np.frombuffer(tensor["data"], DTYPES[kind])
    if kind == "BF16":
      array = (array.astype(np.uint32) << 16).view(np.float32)
    state[name] = array.reshape(tensor["shape"])
  return state


class _Inert:
  """Takes all that a pickle gives to the class whose place it has; does nothing."""

  def __new__(cls, *_):
    return object.__new__(cls)

  def __setstate__(self, _):
    pass


def _read_torch(path: pathlib.Path, *, mmap: bool) -> dict[str, np.ndarray]:
  try:
    import torch
  except ImportError:
    torch = None
  # Until 2.6, weights-only loading could be made to run code: CVE-2025-32434.
  if torch is None or torch.__version__ < (2, 6):
    raise ValueError(
      f'{path} is a PyTorch file, which needs `pip install -e ".[convert]"`; a '
      "safetensors file does not."
    )
  stand_ins = [(dict, name) for name in DICTS] + [(_Inert, name) for name in INERT]
  try:
    with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
      warnings.simplefilter("ignore")  # The error says enough.
      content = torch.load(path, map_location="cpu", mmap=mmap, weights_only=True)
  except pickle.UnpicklingError as error:
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    reason = f"asks for {asked[1]}" if asked else "does what PyTorch refuses"
    raise _refusal(path, f"its pickle {reason}") from error
  except Exception as error:  # A damaged pickle asks for anything.
    raise _damage(path, "PyTorch") from error
  state = _state_dict(content, path)
  tensors = {str(k): v for k, v in state.items() if isinstance(v, torch.Tensor)}
  if not tensors:
    raise ValueError(f"{path} holds no tensors, on top or in {' or '.join(STATES)}.")
  arrays = {}
  for name, tensor in tensors.items():
    if tensor.dtype == torch.bfloat16:
      tensor = tensor.float()
    try:
      arrays[name] = tensor.numpy(force=True)
    except (TypeError, RuntimeError, NotImplementedError) as error:
      raise ValueError(f"{path}: {name} is no plain array: {tensor.dtype}.") from error
  return arrays


def _state_dict(content, path: pathlib.Path) -> dict:
  """The state dict that a checkpoint holds, or is."""
  content = content if isinstance(content, dict) else {}
  nested = [key for key in STATES if isinstance(content.get(key), dict)]
  if len(nested) > 1 and STATES[0] not in nested:
    raise ValueError(
      f"{path} holds several states, {', '.join(nested)}: save only one."
    )
  return content[nested[0]] if nested else content


def _check_numbers(array: np.ndarray, name: str, path: pathlib.Path) -> None:
  if array.dtype.kind not in "biufc":
    raise ValueError(f"{path}: {name} is no array of numbers, but of {array.dtype}.")


def _first_line(error: Exception) -> str:
  return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
