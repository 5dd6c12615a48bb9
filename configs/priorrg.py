"""PriorRG: `--config=configs/priorrg.py[:VARIANT[,VARIANT]]`.

`thorax` (the default) trains on the embedded data, `thorax_long` does so for an hour
and a half, `tiny` for a minute or two; `mimic_cxr` is the paper's size, on `mimic_abn`
too, and `published` sets every switch to what the authors' code does.
"""

import ml_collections
from ml_collections.config_dict import placeholder

from jaxrg import sharding

VARIANTS = ("tiny", "thorax", "thorax_long", "mimic_cxr", "mimic_abn", "published")


def get_config(variants: str = "thorax") -> ml_collections.ConfigDict:
  """The recipe of the named variants, comma-separated."""
  names = variants.split(",")
  if unknown := [name for name in names if name not in VARIANTS]:
    raise ValueError(f"Unknown variant {unknown[0]!r}; known: {', '.join(VARIANTS)}.")
  sizes = set(names) - {"published"}
  if len(sizes) > 1 and sizes != {"tiny", "thorax"}:
    raise ValueError(f"Of the variants {', '.join(sorted(sizes))} only one can be.")
  config = mimic_cxr() if sizes & {"mimic_cxr", "mimic_abn"} else thorax()
  if "mimic_abn" in names:
    config.data.name = "mimic_abn/ours_518"
  if "thorax_long" in names:
    lengthen(config)
  if "tiny" in names:
    shrink(config)
  if "published" in names:
    publish(config)
  config.variant = variants
  return config


def thorax() -> ml_collections.ConfigDict:
  """Fifteen minutes on two cores; the paper's design, its sizes divided by about 8."""
  config = ml_collections.ConfigDict()
  config.paper = "priorrg"
  config.seed = 0
  config.stages = ("pretrain", "finetune")

  config.data = dict(
    name="thorax/default",
    image_size=128,
    views=("PA", "AP", "LATERAL", "LL", "unk", "AP AXIAL", "PA LLD"),
    data_dir=placeholder(str),  # None: as tfds decides.
    dicom_window="display",  # How `generate` reads DICOM: as the data were made.
    skip_damaged=False,
    in_memory=True,  # 32 kB a study; read anew, each costs a tenth of its step.
    features=placeholder(str),  # A folder of `jaxrg.precompute`, for stage 1.
    without=(),  # Of "prior" and "context", what the model never sees.
  )
  # A vocabulary of the data's own; GPT-2's 50,257 entries cost more than the rest.
  config.tokenizer = dict(name="trained", vocab_size=640)
  config.text = dict(context_length=24, report_length=72)

  # An export that the first stage starts from: another run's, or a converted one.
  config.init_from = placeholder(str)
  # Files, folders or names at the hub of weights to begin with; None: at random.
  config.pretrained = dict(
    vision=placeholder(str), text=placeholder(str), decoder=placeholder(str)
  )

  width, heads = 64, 4
  # The published 0.02 belongs to a width of 768; this is the same share of a signal.
  init_std = 0.02 * (768 / width) ** 0.5
  config.model = dict(
    name="priorrg",
    dtype="float32",
    width=width,
    bottleneck=width,
    num_views=7,
    pixel_mean=0.5307,
    pixel_std=0.2583,
    mask_padding=True,
    mask_statistics=True,
    prior_gradient=False,
    order=("context", "time", "joint"),  # From coarse to fine.
    seeded=True,
    fusion=dict(name="attention"),
    embedding_std=0.02,
    vision=dict(
      stem=dict(name="conv", block=4, channels=(32, 64, 64), depth=2),
      num_layers=4,
      num_heads=heads,
      width=width,
      mlp_dim=2 * width,
      init_std=init_std,
      position_std=1.0,  # The stem's features are 1 too.
    ),
    text=dict(
      vocab_size=656,
      num_layers=2,
      num_heads=heads,
      width=width,
      mlp_dim=2 * width,
      max_length=128,
      dropout_rate=0.0,
      init_std=init_std,
    ),
    temporal=dict(
      num_layers=2,
      num_heads=heads,
      head_dim=width // heads,
      mlp_dim=width,
      # Published: 0.001. The prior is to be heard of within a few hundred steps.
      init_std=init_std,
    ),
    perceiver=dict(
      num_latents=16,
      num_layers=1,
      # The memory holds what eight narrow looks at the film have found, not two.
      num_heads=8,
      head_dim=width // 8,
      mlp_dim=2 * width,
      embedding_std=1.0,
      read_gain=6.0,
    ),
    decoder=dict(
      vocab_size=656,
      num_layers=2,
      num_heads=heads,
      width=width,
      max_length=128,
      dropout_rate=0.0,
      init_std=init_std,
    ),
  )

  optim = dict(
    schedule="cosine",
    learning_rate=2e-3,
    warmup_steps=50,
    groups=(),
    weight_decay=0.01,
    decay_all=False,
    grad_clip=1.0,
    b1=0.9,
    b2=0.98,
    frozen=(),
    skip_unused=(),
    plateau_factor=0.1,
    plateau_patience=10,
  )
  config.pretrain = dict(
    objective="contrastive",
    positives="study",  # Or "patient".
    group_views=False,
    context_length=24,
    num_epochs=1,
    batch_size=64,
    accumulation=1,
    remat="none",  # Or "dots": less memory, and more time.
    augment=dict(shift=0, contrast=0.0),  # Pixels; a share of the greys.
    early_stop=15,
    select_on="validation",
    select_by="loss",  # Or "retrieval".
    optim=dict(optim),
  )
  # logit_scale has no part in this stage.
  config.finetune = dict(
    objective="generation",
    context_length=24,
    keep_end=True,
    num_epochs=5,
    batch_size=16,
    accumulation=1,
    remat="none",  # Or "dots": less memory, and more time.
    augment=dict(shift=0, contrast=0.0),  # Pixels; a share of the greys.
    early_stop=15,
    select_on="validation",
    validation_studies=512,
    optim=dict(optim, learning_rate=1e-3, frozen=("logit_scale",)),
  )
  # More beams find likelier reports: of fewer findings, and alike.
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


def lengthen(config: ml_collections.ConfigDict) -> None:
  """Ninety minutes on two cores: three times the data, and longer on all of it."""
  config.data.name = "thorax/long"
  config.pretrain.num_epochs = 3
  config.finetune.num_epochs = 12


def mimic_cxr() -> ml_collections.ConfigDict:
  """The paper's size and schedule (spec priorrg 9), its switches as we think right."""
  config = thorax()
  config.data.update(
    name="mimic_cxr/ours_518",
    image_size=518,
    in_memory=False,
    dicom_window="mimic_jpg",
  )
  config.tokenizer.name = "gpt2"
  config.text = dict(context_length=300, report_length=100)
  config.pretrained.update(
    vision="microsoft/rad-dino",
    text="microsoft/BiomedVLP-CXR-BERT-specialized",
    decoder="distilgpt2",  # As the paper says; its code begins at random.
  )

  width, vocab_size = 768, 50264
  config.model.update(
    dtype="bfloat16", width=width, bottleneck=width // 2, embedding_std=1.0
  )
  encoder = dict(num_heads=12, width=width, mlp_dim=4 * width, init_std=0.02)
  words = dict(vocab_size=vocab_size, init_std=0.02)
  stem = dict(name="patch", patch_size=14)
  config.model.vision = dict(encoder, stem=stem, num_layers=12, position_std=0.02)
  config.model.text.update(
    encoder, **words, num_layers=6, max_length=512, dropout_rate=0.25
  )
  config.model.temporal.update(
    num_layers=3, num_heads=8, head_dim=192, mlp_dim=width, init_std=0.001
  )
  config.model.perceiver.update(
    num_latents=128, num_layers=3, num_heads=8, head_dim=64, mlp_dim=4 * width
  )
  config.model.perceiver.read_gain = 1.0
  config.model.decoder.update(
    words, num_layers=6, num_heads=12, width=width, max_length=1024, dropout_rate=0.1
  )

  common = dict(schedule="plateau", warmup_steps=0, b2=0.999)
  config.pretrain.update(num_epochs=10, context_length=300)
  config.pretrain.optim.update(common, learning_rate=5e-5, frozen=("vision/",))
  config.finetune.update(
    num_epochs=50, batch_size=32, context_length=300, validation_studies=512
  )
  config.finetune.optim.update(
    common,
    learning_rate=5e-6,
    # The layer fusion is as fresh as the decoder; the published code lets it creep.
    groups=(("decoder/", 5e-5), ("fusion", 5e-5)),
    frozen=("vision/", "logit_scale"),
    plateau_patience=5,
  )
  config.decode.update(num_beams=3, batch_size=16)
  config.log_every = 50
  config.checkpoint.every = 1000
  return config


def shrink(config: ml_collections.ConfigDict) -> None:
  """Changes sizes, and nothing else."""
  config.data.name = "thorax/tiny"
  config.data.image_size = 64
  config.model.vision.stem.channels = (16, 32)
  config.pretrain.num_epochs = 2
  config.pretrain.batch_size = 32
  config.pretrain.optim.warmup_steps = 2
  config.finetune.num_epochs = 4
  config.finetune.optim.warmup_steps = 2
  config.log_every = 5
  config.checkpoint.every = 10


def publish(config: ml_collections.ConfigDict) -> None:
  """Sets every switch to what the authors' code does (spec priorrg 3, 4.3 and 8)."""
  # Padding is read up to the longest context of a batch: theirs, in the file's order.
  config.decode.update(num_beams=3, batch_size=16, cut_references=True)
  if config.data.name == "mimic_cxr/ours_518":  # Priors by the number of the study.
    config.data.name = "mimic_cxr/priorrg_518"
  config.model.dtype = "float32"
  config.pretrained.decoder = None
  config.pretrain.context_length = min(100, config.pretrain.context_length)
  config.finetune.keep_end = False
  frozen = config.finetune.optim.frozen
  config.finetune.optim.frozen = (*frozen, "views", "times")
  config.finetune.optim.groups = tuple(
    group for group in config.finetune.optim.groups if group[0] != "fusion"
  )
  for stage in config.stages:
    config[stage].augment = dict(shift=0, contrast=0.0)
  # Two micro-batches a step, each with a contrastive loss of its own.
  config.pretrain.accumulation = config.finetune.accumulation = 2
  config.model.mask_padding = config.model.mask_statistics = False
  config.model.embedding_std = 1.0
  for part in ("vision", "text", "decoder"):
    config.model[part].init_std = 0.02
  config.model.vision.position_std = 0.02
  config.model.temporal.init_std = 0.001
  config.model.perceiver.read_gain = 1.0
  config.model.text.dropout_rate, config.model.decoder.dropout_rate = 0.25, 0.1
  for stage, patience in (("pretrain", 10), ("finetune", 5)):
    optim = config[stage].optim
    optim.schedule, optim.plateau_patience, optim.warmup_steps = "plateau", patience, 0
    optim.decay_all, optim.grad_clip, optim.b2 = True, 0.0, 0.999
    optim.skip_unused = ("temporal/",)
