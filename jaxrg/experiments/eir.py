"""What the paper claims of EIR, and what its reviewers would ask."""

import ml_collections

from jaxrg.experiments import priorrg
from jaxrg.experiments.arms import Arm
from jaxrg.experiments.probing import Encoder, Probing

_MOCO = {"pretrain.contrast.name": "moco_v2"}
MOCO = Arm("moco_v2", _MOCO)
C2L = Arm("c2l", {"pretrain.contrast.name": "c2l"})
# At random, but for batch statistics: those of an epoch of the data.
UNTRAINED = Arm("untrained", _MOCO | priorrg.UNTRAINED.overrides)
# The rate of long schedules, of some hundred epochs.
SLOW = Arm("slow", _MOCO | {"pretrain.optim.learning_rate": 0.06})
# What two sights of a film differ in is all that an encoder learns to look past.
_CROP, _ROTATION, _CONTRAST = (
  f"pretrain.augment.{name}" for name in ("crop", "rotation", "contrast")
)
NO_CROPS = Arm("no-crops", _MOCO | {_CROP: (1.0, 1.0), _ROTATION: 0.0})
NO_GREYS = Arm("no-greys", _MOCO | {_CONTRAST: 0.0})
SMALL_CROPS = Arm("small-crops", _MOCO | {_CROP: (0.2, 1.0)})


def _priorrg(base: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """PriorRG's config of the same variant, on the same data from the same seed on.

  Raises ValueError where there is none.
  """
  try:
    from configs import priorrg as other  # Beside the packages; it is not installed.
  except ImportError:
    raise ValueError(
      "PriorRG's encoder needs configs/priorrg.py: run this beside the folder configs."
    ) from None
  try:
    config = other.get_config(base.variant)
  except ValueError as error:
    raise ValueError(f"config.variant of configs/priorrg.py: {error}") from error
  config.seed, config.mesh = base.seed, base.mesh
  config.data.update(name=base.data.name, data_dir=base.data.data_dir)
  return config


EXPERIMENTS = {
  experiment.name: experiment
  for experiment in (
    Probing(
      "probe",
      "What can be read off an image encoder, and is it more than at random?",
      {
        "untrained": Encoder(UNTRAINED),
        "moco_v2": Encoder(MOCO),
        "c2l": Encoder(C2L),
        "priorrg_untrained": Encoder(priorrg.UNTRAINED, _priorrg),
        "priorrg": Encoder(priorrg.DEFAULT, _priorrg),
      },
      references=("untrained", "priorrg_untrained"),
    ),
    Probing(
      "contrast",
      "What makes an encoder that tells films apart see the disease?",
      {
        "untrained": Encoder(UNTRAINED),
        "moco_v2": Encoder(MOCO),
        "no-crops": Encoder(NO_CROPS),
        "no-greys": Encoder(NO_GREYS),
        "small-crops": Encoder(SMALL_CROPS),
        "slow": Encoder(SLOW),
        "c2l": Encoder(C2L),
      },
      references=("untrained", "moco_v2"),
    ),
  )
}
