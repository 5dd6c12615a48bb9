"""Serialised programs: what an export computes, for those who have jax and no jaxrg.

Each is StableHLO (`jax.export`) of `(variables, batch)`, flat dictionaries both, for
any number of rows.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util

from jaxrg import inference, inputs
from jaxrg.exports import Export

RUNNER = epath.Path(__file__).parent / "workers/run_program.py"
PLATFORMS = ("cpu", "cuda", "tpu")
ENCODERS = {"priorrg": "encode", "eir": "enhance"}  # What a paper's decoder reads.
BEAMS = 3  # Of `beam`, where the config's own search has but one.

Program = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]


def write(
  export: Export, folder: epath.PathLike, platforms: Sequence[str] = PLATFORMS
) -> str:
  """Writes the programs `encode`, `greedy` and `beam` of an export; says what they are.

  Beside them: `variables.npz`, `example.npz` (one row of what they take), `run.py`,
  which runs them, and `programs.json`, which describes them. Raises FileExistsError
  where the folder is there already, ValueError for an unknown platform.
  """
  if unknown := set(platforms) - set(PLATFORMS):
    raise ValueError(f"Unknown platform {min(unknown)!r}; known: {PLATFORMS}.")
  folder = epath.Path(folder)
  if folder.exists():
    raise FileExistsError(17, "is there already; give another folder", str(folder))
  flat = traverse_util.flatten_dict(export.variables, sep="/")
  batch = inputs.example(export.config, "__call__")
  files, about, needed = {}, {}, set()
  for name, program in _programs(export).items():
    exported = serialise(program, flat, batch, platforms)
    (variables, rows), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    needed |= variables.keys()
    shapes = lambda tree: [_describe(x) for x in jax.tree.leaves(tree)]
    about[name] = {
      "inputs": {key: _describe(x) for key, x in rows.items()},
      "outputs": shapes(exported.out_avals),
    }
    files[f"{name}.stablehlo"] = bytes(exported.serialize())
  facts = {
    "jax": jax.__version__,
    "platforms": list(platforms),
    "search": _search(export.config),
    "programs": about,
  }
  files["programs.json"] = (json.dumps(facts, indent=2) + "\n").encode()
  files["tokenizer.json"] = export.tokenizer.to_json().encode()
  files["run.py"] = RUNNER.read_bytes()
  inputs_read = set().union(*(program["inputs"] for program in about.values()))
  arrays = {
    "variables.npz": {key: flat[key] for key in sorted(needed)},
    "example.npz": {key: batch[key] for key in sorted(inputs_read)},
  }
  _write(folder, files, jax.device_get(arrays))
  return f"{folder}: {', '.join(about)} for {', '.join(platforms)}."


def serialise(
  program: Program,
  variables: Mapping[str, jax.Array],
  batch: Mapping[str, jax.Array],
  platforms: Sequence[str],
) -> jax.export.Exported:
  """The program for any number of rows, of those of its inputs that it reads."""
  every = (_structs(variables), _structs(batch))
  exported = jax.export.export(jax.jit(program))(*every)
  paths, _ = jax.tree.flatten_with_path(every)
  kept = set(exported.module_kept_var_idx)
  read = {path: x for i, (path, x) in enumerate(paths) if i in kept}
  known, rows = (
    {path[1].key: x for path, x in read.items() if path[0].idx == i} for i in (0, 1)
  )
  unread = {key: x for key, x in every[0].items() if key not in known}

  def of_what_it_reads(variables, batch):
    # A module may look up, to no effect, what a method does not need.
    return program(jax.tree.map(jnp.zeros_like, unread) | variables, batch)

  (count,) = jax.export.symbolic_shape("b")
  of_any_size = lambda x: jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype)
  return jax.export.export(jax.jit(of_what_it_reads), platforms=platforms)(
    known, jax.tree.map(of_any_size, rows)
  )


def _programs(export: Export) -> dict[str, Program]:
  config, model = export.config, export.model
  unflatten = lambda flat: traverse_util.unflatten_dict(flat, sep="/")

  def encode(variables, batch):
    method = ENCODERS[config.paper]
    return model.apply(unflatten(variables), batch, method=method)

  def searching(num_beams):
    search = _search(config)["beam" if num_beams > 1 else "greedy"]
    generate = inference.make_generate(model, export.tokenizer, **search)
    return lambda variables, batch: generate(unflatten(variables), batch)

  beams = _search(config)["beam"]["num_beams"]
  return {"encode": encode, "greedy": searching(1), "beam": searching(beams)}


def _search(config: Any) -> dict[str, dict[str, float]]:
  """The settings of each search, by program."""
  beams = config.decode.num_beams if config.decode.num_beams > 1 else BEAMS
  length = {"max_length": config.text.report_length}
  penalty = {"length_penalty": config.decode.length_penalty}
  return {
    "greedy": {"num_beams": 1} | length,
    "beam": {"num_beams": beams} | length | penalty,
  }


def _structs(tree: Any) -> Any:
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), dict(tree))


def _describe(x: Any) -> str:
  return f"{jnp.dtype(x.dtype).name}[{', '.join(map(str, x.shape))}]"


def _write(
  folder: epath.Path,
  files: Mapping[str, bytes],
  arrays: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
  """All or nothing."""
  draft = folder.parent / f"{folder.name}.unfinished"
  if draft.exists():
    draft.rmtree()
  draft.mkdir(parents=True)
  for name, data in files.items():
    (draft / name).write_bytes(data)
  for name, contents in arrays.items():
    with (draft / name).open("wb") as file:
      np.savez(file, **contents)
  draft.rename(folder)
