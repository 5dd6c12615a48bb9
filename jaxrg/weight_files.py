"""One weight file, of whatever kind, as arrays by name; nothing in it is ever run."""

import contextlib
import os
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy

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


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The arrays of one file by name; its kind is told by its content.

  bfloat16 becomes float32. Raises OSError where the file cannot be read, and ValueError
  where it holds no weights or would run code; both say so in one line.
  """
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
  # The header's length, which may begin as a pickle does, and the header: JSON.
  if head[8:9] == b"{":
    return _read_safetensors(path)
  if head.startswith(PICKLE):
    raise _refusal(path, "it is a pickle, and no whole file of PyTorch's")
  if path.suffix == ".safetensors":
    return _read_safetensors(path)
  raise ValueError(f"{path} is neither safetensors, .npz nor a PyTorch file.")


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
  arrays = _arrays(state, path)
  draft = path.with_name(f"{path.name}.unfinished")
  try:
    with open(draft, "wb") as file:
      mode = os.fstat(file.fileno()).st_mode
      if path.suffix == ".npz":
        _write_npz(file, arrays)
      else:
        metadata = {"format": "pt", **(metadata or {})}
        safetensors.numpy.save_file(arrays, draft, metadata)
    draft.chmod(mode)  # What safetensors puts there is for its owner alone.
    draft.replace(path)
  except OSError as error:
    raise OSError(error.errno, error.strerror, str(path)) from error
  except safetensors.SafetensorError as error:
    raise OSError(f"{path} cannot be written: {_first_line(error)}.") from error
  finally:
    with contextlib.suppress(OSError):
      draft.unlink(missing_ok=True)


def to_bytes(state: Mapping[str, np.ndarray]) -> bytes:
  """The content of a .safetensors file.

  Raises ValueError for what is no numbers.
  """
  return safetensors.numpy.save(_arrays(state, pathlib.Path("")), {"format": "pt"})


def _arrays(
  state: Mapping[str, np.ndarray], path: pathlib.Path
) -> dict[str, np.ndarray]:
  """The arrays as they go into a file."""
  # Not ascontiguousarray, which gives a scalar an axis.
  arrays = {name: np.asarray(array, order="C") for name, array in state.items()}
  for name, array in arrays.items():
    if array.dtype.name == "bfloat16":  # As `read` gives it.
      arrays[name] = array.astype(np.float32)
    _check_numbers(arrays[name], name, path)
  return arrays


def _write_npz(file, arrays: Mapping[str, np.ndarray]) -> None:
  # Not np.savez, whose own arguments would be names that no array can have.
  with zipfile.ZipFile(file, "w") as archive:
    for name, array in arrays.items():
      with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
        np.lib.format.write_array(entry, array, allow_pickle=False)


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
