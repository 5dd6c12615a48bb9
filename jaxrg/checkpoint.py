"""Checkpoints of a run, and the export of its variables; the one user of Orbax."""

import contextlib
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath
from orbax.checkpoint import v1 as ocp


@contextlib.contextmanager
def open_dir(
  directory: epath.PathLike, *, keep: int
) -> Iterator[ocp.training.Checkpointer]:
  """A checkpointer over `directory`, keeping the newest few and the best one.

  It saves when it is told to; leaving it waits for what is still being written.
  """
  policies = ocp.training.preservation_policies
  best = policies.BestN(
    get_metric_fn=lambda metrics: metrics["score"],
    n=1,
    keep_checkpoints_without_metrics=False,
  )
  try:
    with ocp.training.Checkpointer(
      epath.Path(directory),
      preservation_policy=policies.AnyPreservationPolicy(
        [policies.LatestN(keep), best]
      ),
      # What a killed process left half-written.
      cleanup_tmp_directories=True,
    ) as checkpoints:
      yield checkpoints
  except OSError as error:
    if error.strerror and error.filename is None:  # Orbax, of a full disk.
      raise OSError(error.errno, error.strerror, str(directory)) from error
    raise


def save(checkpoints, step: int, state: Any, *, score: float | None = None) -> None:
  """Saves the state in the background; `score` is what validation said of it."""
  metrics = None if score is None else {"score": score}
  checkpoints.save_checkpointables_async(
    step, {"state": state}, force=True, overwrite=True, metrics=metrics
  )


def restore(checkpoints, abstract_state: Any, step: int | None = None) -> Any | None:
  """The state of `step`, or the newest that is whole; None in a new run.

  It warns of newer ones that are damaged: their steps will run again, to the same
  states. Raises OSError where none is whole, and ValueError where the checkpoint does
  not fit the abstract state.
  """
  if step is not None:
    return _load(checkpoints, abstract_state, step)
  steps = sorted((found.step for found in checkpoints.checkpoints), reverse=True)
  for step, before in itertools.pairwise(steps):
    try:
      return _load(checkpoints, abstract_state, step)
    except OSError as error:
      logging.warning("%s\nGoing on from step %d instead.", error, before)
  return _load(checkpoints, abstract_state, steps[-1]) if steps else None


def _load(checkpoints, abstract_state: Any, step: int) -> Any:
  path = checkpoints.directory / str(step)
  try:
    return checkpoints.load_checkpointables(step, {"state": abstract_state})["state"]
  except (ValueError, KeyError, OSError) as error:
    cause = error.__cause__ or error  # Orbax says of any that its handler is no fit.
    if isinstance(cause, OSError) or _is_damage(cause):
      raise OSError(f"{path}: the checkpoint is damaged: {reason(cause)}") from error
    raise ValueError(
      f"{path}: the checkpoint does not fit this config: {reason(cause)}"
    ) from error


def export(directory: epath.PathLike, variables: Any, files: dict[str, bytes]) -> None:
  """Writes `variables` and the files beside them, all or nothing.

  An export holds params and batch statistics, and whatever inference needs to know
  of them. A directory that is there already is replaced.
  """
  directory = epath.Path(directory)
  draft = directory.parent / f"{directory.name}.unfinished"
  if jax.process_index() == 0 and draft.exists():
    draft.rmtree()
  ocp.save(draft / "variables", variables, overwrite=True)
  if jax.process_index() == 0:
    for name, data in files.items():
      path = draft / name
      path.parent.mkdir(parents=True, exist_ok=True)
      try:
        path.write_bytes(data)
      except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    if directory.exists():
      directory.rmtree()
    draft.rename(directory)


def load_variables(directory: epath.PathLike, abstract: Any) -> Any:
  """The variables of an export, placed as `abstract` says.

  Raises OSError where they cannot be read, ValueError or KeyError where they do not
  fit.
  """
  path = _variables(directory)
  try:
    return ocp.load(path, abstract)
  except ValueError as error:
    if _is_damage(error):
      raise OSError(f"{path} is damaged: {reason(error)}") from error
    raise


def load_arrays(directory: epath.PathLike) -> Any:
  """The variables of an export in host memory, as they were written.

  Raises OSError where they cannot be read.
  """
  empty = lambda x: np.empty(x.shape, x.dtype)
  return load_variables(directory, jax.tree.map(empty, variable_shapes(directory)))


def variable_shapes(directory: epath.PathLike) -> Any:
  """The tree of an export's variables, each with its `shape` and `dtype`."""
  return ocp.metadata(_variables(directory)).metadata


def _variables(directory: epath.PathLike) -> epath.Path:
  # Orbax refuses what is relative.
  path = epath.Path(directory).resolve() / "variables"
  if not path.exists():
    raise FileNotFoundError(
      f"{directory} is no export: it has no `variables`. Give the `export` folder "
      "of a finished run."
    )
  return path


def reason(error: Exception) -> str:
  """What an error says first, without TensorStore's account of its settings."""
  first = str(error).strip().partition("\n")[0]
  return first.partition(" [tensorstore_spec")[0] or type(error).__name__


def _is_damage(error: Exception) -> bool:
  # TensorStore's errors begin with a status code; of other libraries it is JSON.
  return bool(re.match("[A-Z_]+: ", str(error))) or isinstance(
    error, json.JSONDecodeError
  )


def digest(flat: Mapping[str, Any]) -> str:
  """Of arrays by path, whole on this process: sha256, hexadecimal."""
  found = hashlib.sha256()
  for path, array in sorted(flat.items()):
    array = np.asarray(array)
    found.update(f"{path} {array.dtype} {array.shape}\n".encode())
    found.update(array.tobytes())
  return found.hexdigest()


def load_config(directory: epath.PathLike) -> dict:
  """The config that an export carries."""
  path = epath.Path(directory) / "config.json"
  if not path.exists():
    raise FileNotFoundError(
      f"{directory} is no export: it has no config.json. Give the `export` folder "
      "of a finished run."
    )
  with contextlib.suppress(json.JSONDecodeError):
    return json.loads(path.read_text())
  raise ValueError(f"{path} is damaged: it is not JSON.")
