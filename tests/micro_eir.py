"""EIR with every size shrunk: its real parts, for runs of a few steps."""

import ml_collections

from configs import eir

# Of 48 films and 35 studies, two epochs and one.
STEPS = {"pretrain": 6, "interpret": 4, "write": 8, "refine": 4}


def get_config(changes: dict | None = None) -> ml_collections.ConfigDict:
  """`tiny` with every size shrunk, and `changes` by dotted path."""
  config = eir.get_config("tiny")
  config.data.image_size = 32
  config.tokenizer.update(vocab_size=300, words=150)
  config.data.max_films = 2
  config.text.update(history_length=16, report_length=24)
  config.graph.update(max_nodes=40, max_edges=300, name_length=4)
  small = dict(num_heads=2, mlp_dim=16)
  config.model.update(width=16, num_topics=18)
  # Of few layers, as most of a small run's time goes into compiling them.
  config.model.vision.name = "densenet121"
  config.model.vision.densenet.update(blocks=(1, 1), growth=4, base_width=8)
  config.model.head.width = 8
  config.model.words.vocab_size = 300
  config.model.history.update(small, max_length=16)
  config.model.graph.update(small, num_layers=1)
  config.model.aggregation.num_heads = 2
  config.model.aggregation.cross_modal.update(num_layers=1, mlp_dim=16)
  config.model.generator.update(num_layers=1, mlp_dim=16, max_length=24)
  config.model.interpreter.update(small, max_length=24)
  config.pretrain.update(num_epochs=2, batch_size=16)
  config.pretrain.contrast.update(queue=32, groups=2)
  config.pretrain.optim.warmup_steps = 1
  config.retrieve.update(count=4, batch_size=16)
  for name in ("interpret", "write", "refine"):
    config[name].update(num_epochs=2 if name == "write" else 1, batch_size=8)
    config[name].optim.warmup_steps = 1
  config.refine.optim.frozen = ("interpreter",)  # As at the paper's size.
  config.decode.batch_size = 8
  config.checkpoint.every = 2
  config.log_every = 1
  config.update_from_flattened_dict(changes or {})
  return config
