r"""Says what a config will cost on TPUs, before there are any.

  python -m jaxrg.plan --config=configs/priorrg.py:mimic_cxr --stage=finetune \
      --topology=v5e:16x16 --per_chip=16 [--program=decode] [--out=FOLDER]
  python -m jaxrg.plan ... --scaling=8,32,128,512    the same rows a chip on ever more
  python -m jaxrg.plan ... --search                  the most rows a chip that fit

Their own compiler (`pip install -e ".[plan]"`) makes the program, of which the text is
read. The last line says whether it fits. It takes minutes.
"""

import json
import math
import os

from absl import app, flags
from etils import epath
from ml_collections import config_flags

from data_pipelines import cli, files

# Before JAX begins: this machine's own devices have no part in it.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from jaxrg import inputs
from jaxrg.planning import compiling, picture, plan, topologies

PROGRAMS = {"train": compiling.train_program, "decode": compiling.decode_program}

_CONFIG = config_flags.DEFINE_config_file("config", None, lock_config=True)
_STAGE = flags.DEFINE_string("stage", None, "The stage; by default the last.")
_PROGRAM = flags.DEFINE_enum("program", "train", list(PROGRAMS), "A step, or reports.")
_TOPOLOGY = flags.DEFINE_string("topology", "v5e:16x16", "Family and shape of a slice.")
_PER_CHIP = flags.DEFINE_integer(
  "per_chip", None, "Studies a chip; by default the config's batch in all.", 1
)
_SCALING = flags.DEFINE_list("scaling", [], "Numbers of chips to compare.")
_SEARCH = flags.DEFINE_bool("search", False, "Find the most studies a chip that fit.")
_OUT = flags.DEFINE_string("out", None, "A folder for plan.txt, plan.json, plan.png.")


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  config, name = _CONFIG.value, _STAGE.value
  name = inputs.trained(config)[-1] if name is None else name
  if name not in inputs.trained(config):
    known = ", ".join(inputs.trained(config))
    raise ValueError(f"Unknown --stage {name!r}; of this config there are: {known}.")
  if _SCALING.value:
    family = _TOPOLOGY.value.partition(":")[0]
    names = [topologies.of_size(family, int(count)) for count in _SCALING.value]
    plans = [_plan(config, name, topology) for topology in names]
    said = plan.scaling_table(plans)
  elif _SEARCH.value:
    plans, said = _search(config, name)
  else:
    plans = [_plan(config, name, _TOPOLOGY.value)]
    said = plan.text(plans[0])
  if _OUT.value:
    out = epath.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    files.write(out / "plan.txt", said + "\n")
    files.write(out / "plan.json", json.dumps([*map(plan.to_dict, plans)], indent=1))
    files.write(out / "plan.png", picture.draw(plans[-1]))
  print(said)
  return 0 if plans[-1].fits else 1


def _plan(config, name: str, topology_name: str, per_chip: int | None = None):
  topology = topologies.get(topology_name)
  mesh = compiling.make_mesh(config.mesh, topology)
  per_chip = per_chip or _PER_CHIP.value
  config = config.copy_and_resolve_references()
  section = config[name] if _PROGRAM.value == "train" else config.decode
  if per_chip:
    section.batch_size = per_chip * math.prod(mesh.shape.values())
  program = PROGRAMS[_PROGRAM.value](config, name, mesh)
  try:
    return plan.make(program, topology, mesh, fused=config.fused_attention)
  except compiling.TooLargeError as error:
    raise ValueError(
      f"{program.name} of {program.rows} studies does not fit {topology.name}: it "
      f"needs {error.needed / 1e9:.1f} GB of a chip's {error.available / 1e9:.1f}, "
      f"{(error.needed - error.available) / 1e9:.1f} GB too many. Fewer --per_chip, "
      f"--config.{name}.accumulation=2, --config.{name}.remat=dots, more of "
      "--config.mesh on fsdp or tensor would lower that."
    ) from error


def _search(config, name: str):
  found = {}

  def fits(per_chip: int) -> bool:
    try:
      found[per_chip] = _plan(config, name, _TOPOLOGY.value, per_chip)
    except ValueError as error:
      if isinstance(error.__cause__, compiling.TooLargeError):
        return False
      raise
    print(f"{per_chip} a chip: {plan.verdict(found[per_chip])}", flush=True)
    return found[per_chip].fits

  most = plan.largest(fits, _PER_CHIP.value or 8)
  if not most:
    raise ValueError(f"Not even one study a chip fits {_TOPOLOGY.value}.")
  return [found[most]], plan.text(found[most])


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  cli.run(main)
