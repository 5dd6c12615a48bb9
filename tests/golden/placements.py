"""Where everything of the published sizes lives, for diffs to show.

  python tests/golden/placements.py

writes a file for each stage: path, shape and placement of parameters, moments, batch
statistics and queues on a mesh of data 2, fsdp 2, tensor 2.
"""

import os
import pathlib
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = pathlib.Path(__file__).with_name("placements")


def stages():
  """(paper, stage) of every stage that trains."""
  from configs import eir, priorrg
  from jaxrg import inputs

  configs = {"priorrg": priorrg, "eir": eir}
  for paper, module in configs.items():
    config = module.get_config("mimic_cxr")
    for name in inputs.trained(config):
      yield paper, name, config


def describe(config, name) -> str:
  """A line for each array of a stage's state."""
  from jaxrg import learning, sharding

  mesh = sharding.make_mesh((2, 2, 2))
  state = learning.abstract_state(learning.learning(config, name, 10**6), mesh)
  lines = []
  for path, x in jax.tree.leaves_with_path(state):
    spec = ", ".join(str(axis) for axis in x.sharding.spec)
    shape = "x".join(map(str, x.shape)) or "scalar"
    lines.append(f"{jax.tree_util.keystr(path)} {x.dtype}[{shape}] ({spec})")
  return "\n".join(lines) + "\n"


if __name__ == "__main__":
  sys.path.insert(0, str(ROOT))
  for paper, name, config in stages():
    (FOLDER / f"{paper}_{name}.txt").write_text(describe(config, name))
