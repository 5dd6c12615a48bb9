r"""Computes once what a frozen image encoder makes of the films of stage 1.

  python -m jaxrg.precompute --config=configs/priorrg.py:mimic_cxr --out=DIR
  python -m jaxrg.main --config=configs/priorrg.py:mimic_cxr --config.data.features=DIR

The disk that it takes is told before it begins. A run that was stopped is simply
started again.
"""

import flax.linen as nn
import jax
from absl import app, flags
from etils import epath
from ml_collections import config_flags

from data_pipelines import cli
from jaxrg import checks, features, sharding, train

_CONFIG = config_flags.DEFINE_config_file("config", None, lock_config=True)
_OUT = flags.DEFINE_string("out", None, "Where the features go.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Films at once.", lower_bound=1)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  if jax.process_count() > 1:
    raise app.UsageError("One process computes features, with all of its devices.")
  config = _CONFIG.value
  name = features.stage(config)
  checks.check(config)
  mesh = sharding.make_mesh((-1, 1, 1))
  before = [epath.Path(config.init_from).resolve()] if config.init_from else []
  with jax.set_mesh(mesh), nn.logical_axis_rules(config.axis_rules):
    variables = train.first_variables(config, name, mesh, before)
  out = epath.Path(_OUT.value).expanduser().absolute()
  told = features.compute(
    config, variables, out, batch_size=_BATCH_SIZE.value, mesh=mesh
  )
  print(told)


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "out"])
  cli.run(main)
