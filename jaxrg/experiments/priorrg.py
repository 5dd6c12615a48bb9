"""What the paper claims of PriorRG, and what its reviewers would ask."""

import dataclasses
import functools

import numpy as np

from data_pipelines import interventions
from jaxrg.experiments.arms import Arm
from jaxrg.experiments.comparison import Comparison, Condition, Trial, of_meta
from jaxrg.experiments.errors import ErrorAnalysis
from jaxrg.experiments.retrieval import Retrieval

SEED = 0  # Of what conditions draw: the same for every arm and every seed of it.
GREY = 128

DEFAULT = Arm("default")
UNTRAINED = Arm(
  "untrained", {"pretrain.num_epochs": 1, "pretrain.optim.learning_rate": 0.0}
)
NO_STAGE_1 = Arm("no-stage-1", {"stages": ("finetune",)})
GROUPED = Arm("grouped-views", {"pretrain.group_views": True})
NO_PRIOR = Arm("no-prior", {"data.without": ("prior",)})
NO_CONTEXT = Arm("no-context", {"data.without": ("context",)})
NEITHER = Arm("neither", {"data.without": ("prior", "context")})
FINE_TO_COARSE = Arm("fine-to-coarse", {"model.order": ("joint", "time", "context")})
PARALLEL = Arm("parallel", {"model.seeded": False})
LAST_LAYER = Arm("last-layer", {"model.fusion.name": "last"})
MEAN_LAYER = Arm("mean-layer", {"model.fusion.name": "mean"})


def _both(meta, source):
  edit = interventions.without(("prior", "context"))
  return interventions.Intervention(edit, np.ones(len(meta), bool))


def _dropped(share: float) -> Condition:
  """Concerns all studies with a prior, dropped or not: so shares can be compared."""

  def make(meta, source):
    had_one = np.array([record["prior"] >= 0 for record in meta], bool)
    change = interventions.drop_priors(meta, share, SEED)
    return dataclasses.replace(change, applies=had_one)

  return Condition(f"priors-dropped-{share:g}", make)


DENIED_PRIOR = _dropped(1)
DENIED_CONTEXT = of_meta("no-context", interventions.without_context)
DENIED_BOTH = Condition("no-prior-no-context", _both)
SHARES = (0.25, 0.5, 0.75)
LEVELS = (0.25, 0.5, 1.0)

AS_IT_IS = Trial("with all as it is", DEFAULT)
_against = functools.partial(Trial, arm=DEFAULT)

EXPERIMENTS = {
  experiment.name: experiment
  for experiment in (
    Retrieval(
      "retrieval",
      "Does stage 1 teach whose report an image has?",
      {"before stage 1": UNTRAINED, "after stage 1": DEFAULT},
    ),
    Comparison(
      "inputs",
      "What are the prior image and the context worth?",
      (
        Trial("both", DEFAULT),
        Trial("trained without prior", NO_PRIOR),
        Trial("trained without context", NO_CONTEXT),
        Trial("trained without either", NEITHER),
        Trial("denied the prior", DEFAULT, DENIED_PRIOR),
        Trial("denied the context", DEFAULT, DENIED_CONTEXT),
        Trial("denied either", DEFAULT, DENIED_BOTH),
      ),
    ),
    Comparison(
      "priors",
      "Which prior does a report need?",
      (
        AS_IT_IS,
        *(
          _against(f"{share:.0%} of the priors dropped", condition=_dropped(share))
          for share in SHARES
        ),
        _against("100% of the priors dropped", condition=DENIED_PRIOR),
        _against(
          "prior of another view",
          condition=of_meta("prior-view", interventions.prior_of_another_view),
        ),
        _against(
          "oldest prior (a long gap)",
          condition=of_meta("oldest-prior", interventions.oldest_prior),
        ),
        _against(
          "another patient's prior",
          condition=of_meta("other-prior", interventions.other_patients_prior),
        ),
      ),
    ),
    Comparison(
      "contexts",
      "Is the context read, or only its presence?",
      (
        AS_IT_IS,
        *(
          _against(
            f"{level:.0%} of the indication is noise",
            condition=of_meta(
              f"noise-{level}", interventions.noisy_indication, level, SEED
            ),
          )
          for level in LEVELS
        ),
        _against(
          "indication masked",
          condition=of_meta("no-indication", interventions.masked_indication),
        ),
        _against(
          "another patient's context",
          condition=of_meta("other-context", interventions.swapped_context),
        ),
        _against("no context", condition=DENIED_CONTEXT),
      ),
    ),
    Comparison(
      "grounding",
      "Does the text follow the image?",
      (
        AS_IT_IS,
        _against(
          "another patient's image",
          condition=Condition("other-image", interventions.swapped_image),
        ),
        _against(
          "blank image", condition=of_meta("blank", interventions.blank_image, GREY)
        ),
      ),
    ),
    Comparison(
      "seeding",
      "Does the order in which the Perceiver is seeded matter?",
      (
        Trial("coarse to fine", DEFAULT),
        Trial("fine to coarse", FINE_TO_COARSE),
        Trial("parallel", PARALLEL),
      ),
      side_by_side=20,
    ),
    Comparison(
      "fusion",
      "What is the fusion of layers worth?",
      (
        Trial("attention-enhanced", DEFAULT),
        Trial("last layer", LAST_LAYER),
        Trial("plain mean", MEAN_LAYER),
      ),
    ),
    Comparison(
      "pretraining",
      "What is stage 1 worth, and the grouping of a study's views in it?",
      (
        Trial("stage 1, then stage 2", DEFAULT),
        Trial("stage 2 alone", NO_STAGE_1),
        Trial("views of a study grouped", GROUPED),
      ),
    ),
    ErrorAnalysis("errors", "What is wrong in what a report does find?", DEFAULT),
  )
}
