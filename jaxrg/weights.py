"""Where other people's weights lie: in a file, in a folder, or at the hub."""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Collection, Iterable, Iterator

import numpy as np

from jaxrg import weight_files

SUFFIXES = (".safetensors", ".npz", ".ckpt", ".pt", ".pth", ".bin")
BEST = ("model.safetensors", "pytorch_model.bin")  # Whole, or as an index of shards.
INDEX = ".index.json"

HUB_ID = r"\w[\w.-]*(/\w[\w.-]*)?"
HUB_SECONDS = 3  # That it may take to answer.


@dataclasses.dataclass(frozen=True)
class Weights:
  """Arrays by name, the config.json beside them, and the path that was read."""

  state: dict[str, np.ndarray]
  config: dict | None
  source: str


def read(source: str | os.PathLike) -> Weights:
  """The weights of a file, a folder, or a repository of the Hugging Face hub.

  A file is safetensors, .npz or PyTorch's, told by content; bfloat16 becomes float32.
  Raises OSError where nothing can be read, and ValueError where it is no weights or
  would run code; both say so in one line.
  """
  return _load(find(source))


def find(source: str | os.PathLike) -> pathlib.Path:
  """The file that `read` reads; of a repository, it is fetched.

  Local paths go before the hub, and the hub's cache before the network. Raises
  OSError where there is none, and ValueError where there are several.
  """
  source = os.fspath(source)
  path = pathlib.Path(source)
  if os.path.isdir(source):
    return path / _choose(os.listdir(path), source)
  if os.path.exists(source):
    return path
  if re.fullmatch(HUB_ID, source) and not source.endswith(SUFFIXES):
    return _from_hub(source)
  raise FileNotFoundError(
    f"{source!r} is no file or folder here, and no name of the Hugging Face hub, which "
    "would be `owner/name`."
  )


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
    state |= weight_files.read(path.with_name(name))
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
    reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    raise OSError(
      f"{name} is no file or folder here, and cannot be fetched from the Hugging Face "
      f"hub ({reason}): put its config.json, and its model.safetensors or "
      "pytorch_model.bin, into a folder and give the path of that."
    ) from error
