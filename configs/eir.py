"""EIR: `--config=configs/eir.py[:VARIANT[,VARIANT]]`.

`thorax` (the default) trains on the embedded data, `thorax_long` for longer and on more
of them, `tiny` for a minute or two; `mimic_cxr` and, for Open-I, `iu_xray` are of the
size of the paper and of the code that it builds on (spec eir 8.1), and `published` sets
every switch to what that code does.
"""

import ml_collections
from ml_collections.config_dict import placeholder

from jaxrg import sharding

VARIANTS = ("tiny", "thorax", "thorax_long", "mimic_cxr", "iu_xray", "published")


def get_config(variants: str = "thorax") -> ml_collections.ConfigDict:
  """The recipe of the named variants, comma-separated."""
  names = variants.split(",")
  if unknown := [name for name in names if name not in VARIANTS]:
    raise ValueError(f"Unknown variant {unknown[0]!r}; known: {', '.join(VARIANTS)}.")
  sizes = set(names) - {"published"}
  if len(sizes) > 1 and sizes != {"tiny", "thorax"}:
    raise ValueError(f"Of the variants {', '.join(sorted(sizes))} only one can be.")
  config = mimic_cxr() if sizes & {"mimic_cxr", "iu_xray"} else thorax()
  if "iu_xray" in names:
    config.data.update(name="iu_xray/nguyen_256", dicom_window="display")
    config.refine.optim.learning_rate = 3e-5
  if "thorax_long" in names:
    lengthen(config)
  if "tiny" in names:
    shrink(config)
  if "published" in names:
    publish(config)
  config.variant = variants
  return config


def thorax() -> ml_collections.ConfigDict:
  """For two cores; the paper's design, its sizes divided by 4."""
  config = ml_collections.ConfigDict()
  config.paper = "eir"
  config.seed = 0
  config.stages = ("pretrain", "interpret", "retrieve", "write", "refine")

  config.data = dict(
    name="thorax/default",
    image_size=128,
    views=("PA", "AP", "LATERAL", "LL", "unk", "AP AXIAL", "PA LLD"),
    max_films=1,  # Of a study, by the order of the views.
    data_dir=placeholder(str),  # None: as tfds decides.
    dicom_window="display",  # How `generate` reads DICOM: as the data were made.
    skip_damaged=False,
    in_memory=True,
    without=("prior",),  # Of it and "context", what the model never sees.
  )
  config.tokenizer = dict(name="unigram", vocab_size=1000, words=900)
  # Of a history that is not there nothing is read; published are its two end tokens.
  config.text = dict(history_length=24, report_length=96, mask_missing=True)
  config.graph = dict(
    triples="rules",  # Or a file of RadGraph's JSON.
    neighbours=3,  # Of which the reports are read; 0: the base graph alone.
    max_triples=30,  # Of a report.
    max_nodes=48,
    max_edges=512,
    name_length=6,  # Tokens of a node's name.
    drop_absent=True,
  )

  # An export that the first stage starts from.
  config.init_from = placeholder(str)
  # A file, folder or name at the hub of weights to begin with, and of which kind.
  config.pretrained = dict(vision=placeholder(str), kind=placeholder(str))

  width, num_heads = 64, 4
  encoder = dict(num_heads=num_heads, dropout_rate=0.1)
  config.model = dict(
    name="eir",
    dtype="float32",
    norm="mococxr",  # What pixels are made of; it belongs to pretrained weights.
    width=width,
    num_topics=54,  # CheXpert's 14 labels, and phrases of the training reports.
    num_states=2,
    use_text=True,
    use_graph=True,
    history_dropout=0.0,  # How often training takes it from a study.
    graph_dropout=0.0,
    vision=dict(
      name="resnet18",  # Of these, the one that is named counts.
      resnet=dict(base_width=16, stem_pool=True),
      densenet=dict(blocks=(6, 12, 24, 16), growth=32, base_width=64, final_norm=True),
      vit=dict(
        stem=dict(name="patch", patch_size=16),
        num_layers=4,
        num_heads=num_heads,
        width=width,
        mlp_dim=4 * width,
        init_std=0.02,
        position_std=0.02,
      ),
    ),
    head=dict(name="mlp", width=128),
    words=dict(vocab_size=1000, init_std=1.0),
    history=dict(encoder, num_layers=1, max_length=128, mlp_dim=width),
    graph=dict(encoder, num_layers=1, mlp_dim=4 * width, relation_bias=False),
    topics=dict(name="dense", dropout_rate=0.1),
    aggregation=dict(
      encoder,
      name="cross_modal",
      cross_modal=dict(order="text_graph", num_layers=2, mlp_dim=4 * width),
    ),
    classifier=dict(num_heads=1),
    threshold=0.25,  # Tuned on validation when a run ends.
    generator=dict(
      num_layers=2, num_heads=1, mlp_dim=width, max_length=96, dropout_rate=0.1
    ),
    interpreter=dict(encoder, num_layers=1, mlp_dim=width, max_length=96),
    reading="soft_token",  # What of its words the interpreter sees.
  )

  config.pretrain = dict(
    objective="momentum",
    films=placeholder(str),  # A data set of others than the rest's: "photographs".
    contrast=dict(
      name="c2l",  # Or "moco_v2".
      queue=4096,
      momentum=0.99,  # Of few steps; the paper's .999 is of many.
      temperature=0.2,
      groups=4,
      enqueue_mixed=False,
    ),
    augment=dict(
      crop=(0.5, 1.0), rotation=10.0, contrast=0.2, flip=False, cutout=(0, 0.0)
    ),
    num_epochs=1,
    batch_size=128,
    accumulation=1,
    remat="none",  # Or "dots": less memory, and more time.
    early_stop=1000,  # The last state is taken.
    select_on="validation",
    optim=_optim(
      name="sgd", learning_rate=0.3, warmup_steps=20, momentum=0.9, weight_decay=1e-4
    ),
  )
  config.retrieve = dict(
    objective="retrieval",
    count=10,
    batch_size=256,
    vectors="features",  # Whitened; or "head", as it is.
    width=128,  # Of features, at most.
  )
  teach = dict(
    batch_size=16,
    accumulation=1,
    remat="none",  # Or "dots": less memory, and more time.
    early_stop=15,
    select_on="validation",
  )
  optim = dict(name="adamw", momentum=0.9, weight_decay=0.01)
  config.interpret = dict(
    teach,
    objective="interpretation",
    num_epochs=2,
    optim=_optim(**optim, learning_rate=1e-3, warmup_steps=50),
  )
  config.write = dict(
    teach,
    objective="reporting",
    fresh=(),  # Parts that begin at random, whatever stages before have learnt.
    num_epochs=2,
    states="label",  # What reports are learnt from: or "predicted", or "scheduled".
    weights=dict(generator=1.0, classifier=1.0),
    # So few steps that the generator learns to heed its topics by a high rate alone.
    optim=_optim(
      **optim,
      learning_rate=2e-3,
      warmup_steps=100,
      groups=((r"(generator|labels|classifier)/", 8e-3),),
    ),
  )
  config.refine = dict(
    teach,
    objective="review",
    num_epochs=1,
    states="label",
    weights=dict(generator=1.0, classifier=1.0, interpreter=1.0),
    # In one epoch of words the image encoder learns nothing that is worth its time.
    optim=_optim(
      **optim, learning_rate=1e-4, warmup_steps=0, frozen=("interpreter", "vision")
    ),
  )
  config.decode = dict(
    num_beams=1, length_penalty=1.0, batch_size=64, cut_references=False
  )
  config.log_every = 20
  config.checkpoint = dict(every=500, keep=2)
  config.profile = 0  # Steps to trace for xprof, in each stage, once it has warmed up.
  config.watchdog = 1200  # Seconds for a step, after which a run ends itself.
  config.fused_attention = False  # By a kernel, on TPUs alone.
  config.mesh = (-1, 1, 1)  # data, fsdp, tensor
  config.axis_rules = sharding.AXIS_RULES
  return config


def _optim(**changes) -> dict:
  fields = dict(
    schedule="cosine",
    milestones=(),  # Of "steps": shares of the stage after which the rate falls.
    factor=0.1,
    groups=(),
    decay_all=False,
    grad_clip=1.0,
    b1=0.9,
    b2=0.999,
    frozen=(),
    skip_unused=(),
    plateau_factor=0.1,
    plateau_patience=10,
  )
  return fields | changes


def lengthen(config: ml_collections.ConfigDict) -> None:
  """Three times the data, and up to three times as long on all of it."""
  config.data.name = "thorax/long"
  config.write.num_epochs = 6


def mimic_cxr() -> ml_collections.ConfigDict:
  """The paper's size (spec eir 8.1), its switches as we think right."""
  config = thorax()
  config.data.update(
    name="mimic_cxr/ours_256",
    image_size=256,
    max_films=2,
    in_memory=False,
    dicom_window="mimic_jpg",
  )
  config.text.update(history_length=128, report_length=256)
  config.graph.update(max_nodes=96, max_edges=640)
  config.pretrained.kind = "torchvision"

  width = 256
  encoder = dict(num_heads=8)
  config.model.update(dtype="bfloat16", norm="imagenet", width=width, num_topics=114)
  config.model.vision.name = "resnet50"
  config.model.vision.resnet.base_width = 64
  config.model.vision.vit.update(num_layers=12, num_heads=12, width=768, mlp_dim=3072)
  config.model.history.update(encoder, max_length=1000, mlp_dim=width)
  config.model.graph.update(encoder, num_layers=2, mlp_dim=4 * width)
  config.model.aggregation.update(encoder)
  config.model.aggregation.cross_modal.mlp_dim = 4 * width
  config.model.generator.update(num_layers=12, mlp_dim=width, max_length=1000)
  config.model.interpreter.update(encoder, mlp_dim=width, max_length=1000)

  config.pretrain.update(num_epochs=120)
  config.pretrain.contrast.update(queue=16384, momentum=0.999)
  config.pretrain.optim.update(learning_rate=0.015, warmup_steps=5000)
  rates = dict(interpret=(20, 5e-4), write=(50, 3e-4), refine=(50, 3e-6))
  for name, (num_epochs, rate) in rates.items():
    config[name].update(num_epochs=num_epochs, batch_size=8)
    config[name].optim.update(
      schedule="steps",
      milestones=(0.5,),
      learning_rate=rate,
      warmup_steps=0,
      groups=(),
    )
  config.refine.optim.frozen = ("interpreter",)
  config.decode.update(num_beams=3, batch_size=16)
  config.log_every = 50
  config.checkpoint.every = 1000
  return config


def shrink(config: ml_collections.ConfigDict) -> None:
  """Changes sizes, and the learning rate with the size of a batch."""
  config.data.name = "thorax/tiny"
  config.data.image_size = 64
  config.model.vision.resnet.base_width = 8
  config.pretrain.batch_size = 32
  config.pretrain.contrast.queue = 256
  config.pretrain.optim.update(warmup_steps=2, learning_rate=0.075)
  for name in ("interpret", "write"):
    config[name].optim.warmup_steps = 2
  config.log_every = 5
  config.checkpoint.every = 10


def publish(config: ml_collections.ConfigDict) -> None:
  """Sets every switch to what the code that EIR builds on does (spec eir 2.3, 6.6)."""
  if config.data.name == "mimic_cxr/ours_256":
    config.data.name = "mimic_cxr/nguyen_256"
  config.model.dtype = "float32"
  config.model.head.name = "linear"
  config.pretrain.contrast.update(
    momentum=0.999, temperature=0.07, enqueue_mixed=True, groups=1
  )
  config.pretrain.augment = dict(
    crop=(0.2, 1.0), rotation=10.0, contrast=0.4, flip=True, cutout=(3, 1 / 7)
  )
  config.pretrain.optim.update(
    schedule="steps", milestones=(0.5, 2 / 3, 5 / 6), warmup_steps=0, learning_rate=0.03
  )
  config.graph.drop_absent = False
  config.text.mask_missing = False
  config.model.reading = "residual"
  config.decode.update(num_beams=1, cut_references=True)
  for name in ("pretrain", "interpret", "write", "refine"):
    config[name].optim.update(decay_all=True, grad_clip=0.0, groups=())
  config.refine.optim.frozen = ("interpreter",)
