"""Published ResNets and DenseNets of every layout, and what is refused of them."""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxrg import sharding, weights
from jaxrg.convert import vision
from jaxrg.models.densenet import DenseNet
from jaxrg.models.norms import NORMS
from jaxrg.models.resnet import ResNet

FULL = {"resnet50": (3, 4, 6, 3), "resnet18": (2, 2, 2, 2)}


class States:
  """Synthetic state dicts: torchvision's names, shapes and counters, random values."""

  def __init__(self):
    self.rng, self.state = np.random.default_rng(0), {}

  def add(self, name, *shape):
    self.state[name] = self.rng.normal(size=shape).astype(np.float32)

  def norm(self, name, width):
    for part in ("weight", "bias", "running_mean", "running_var"):
      self.add(f"{name}.{part}", width)
    self.state[f"{name}.num_batches_tracked"] = np.array(7)

  def linear(self, name, inputs, outputs):
    self.add(f"{name}.weight", outputs, inputs)
    self.add(f"{name}.bias", outputs)


def resnet(blocks=(1, 2, 1, 1), *, bottleneck=True, width=4, channels=3, fc=10):
  s, inputs = States(), width
  s.add("conv1.weight", width, channels, 7, 7)
  s.norm("bn1", width)
  for stage, count in enumerate(blocks):
    inner = width * 2**stage
    outer = inner * (4 if bottleneck else 1)
    widths = (inner, inner, outer) if bottleneck else (inner, inner)
    for b in range(count):
      name, before = f"layer{stage + 1}.{b}", inputs
      for i, features in enumerate(widths, 1):
        size = 3 if i == 2 or not bottleneck else 1
        s.add(f"{name}.conv{i}.weight", features, before, size, size)
        s.norm(f"{name}.bn{i}", features)
        before = features
      if b == 0 and (stage > 0 or bottleneck):
        s.add(f"{name}.downsample.0.weight", outer, inputs, 1, 1)
        s.norm(f"{name}.downsample.1", outer)
      inputs = outer
  s.linear("fc", inputs, fc)
  return s.state


def densenet(blocks=(2, 1, 1, 1), *, growth=4, width=8, channels=3):
  s = States()
  s.add("features.conv0.weight", width, channels, 7, 7)
  s.norm("features.norm0", width)
  for block, count in enumerate(blocks, 1):
    for layer in range(1, count + 1):
      name = f"features.denseblock{block}.denselayer{layer}"
      s.norm(f"{name}.norm1", width)
      s.add(f"{name}.conv1.weight", 4 * growth, width, 1, 1)
      s.norm(f"{name}.norm2", 4 * growth)
      s.add(f"{name}.conv2.weight", growth, 4 * growth, 3, 3)
      width += growth
    if block < len(blocks):
      s.norm(f"features.transition{block}.norm", width)
      s.add(f"features.transition{block}.conv.weight", width // 2, width, 1, 1)
      width //= 2
  s.norm("features.norm5", width)
  s.linear("classifier", width, 10)
  return s.state


MODELS = {
  "bottleneck": (resnet, dict(), ResNet((1, 2, 1, 1), True, 4)),
  "basic": (resnet, dict(bottleneck=False), ResNet((1, 2, 1, 1), False, 4)),
  "dense": (densenet, dict(), DenseNet((2, 1, 1, 1), 4, 8)),
}


def behind(prefix, state):
  return {prefix + key: value for key, value in state.items()}


def heads_as(state, mlp):
  """The state with another head: one linear map, or two and a ReLU between them."""
  kept = {k: v for k, v in state.items() if not k.startswith(("fc.", "classifier."))}
  name = "classifier" if "features.conv0.weight" in state else "fc"
  for i in (0, 2) if mlp else (None,):
    layer = name if i is None else f"{name}.{i}"
    kept |= {f"{layer}.weight": np.ones((3, 3)), f"{layer}.bias": np.ones(3)}
  return kept


def moco(state):
  queue = {"module.queue": np.ones((3, 8)), "module.queue_ptr": np.zeros(1)}
  query = behind("module.encoder_q.", heads_as(state, mlp=True))
  return query | behind("module.encoder_k.", heads_as(state, mlp=True)) | queue


def c2l(state):
  dense = "features.conv0.weight" in state
  prefix = "densenet121.module." if dense else "encoder.module."
  return behind(prefix, heads_as(state, mlp=False))


NAMES = {  # As torchvision's networks list their children.
  "ResNet": ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"),
  "DenseNet": ("conv0", "norm0", "relu0", "pool0", "denseblock1", "transition1")
  + ("denseblock2", "transition2", "denseblock3", "transition3", "denseblock4"),
}


def nguyen(state, whole=True):
  dense = "features.conv0.weight" in state
  names = NAMES["DenseNet" if dense else "ResNet"]
  sequence = {}
  for key, value in state.items():
    child, _, rest = key.removeprefix("features.").partition(".")
    if child in names:  # Neither norm5 nor the head is there.
      sequence[f"feature.{names.index(child)}.{rest}"] = value
  clsgen = behind("classifier.cnn.model.", sequence) | {
    "classifier.img_features.weight": np.ones((4, 2)),
    "classifier.tnn.token_embedding.weight": np.ones((4, 2)),
    "classifier.attention.normalize.bias": np.ones(2),
    "generator.transform.0.attention.attention.in_proj_weight": np.ones((6, 2)),
    "label_embedding.weight": np.ones((4, 2)),
  }
  if not whole:
    return behind("module.", clsgen)
  interpreter = {"module.interpreter.normalize.weight": np.ones(2)}
  return behind("module.clsgen.", clsgen) | interpreter


def xrv(state):
  return behind("model.", state) | {"op_threshs": np.ones(18)}


def generic(state):
  heads = {"projector.0.weight": np.ones((3, 3)), "module.head.bias": np.ones(3)}
  return behind("module.backbone.", state) | heads


LAYOUTS = {  # How a checkpoint of each kind is made of torchvision's names.
  "torchvision": lambda state: state,
  "moco": moco,
  "mococxr": moco,
  "c2l": c2l,
  "nguyen": nguyen,
  "xrv": xrv,
  "generic": generic,
}
PREFIXES = {  # Of a ResNet's names.
  "torchvision": "",
  "moco": "module.encoder_q.",
  "mococxr": "module.encoder_q.",
  "c2l": "encoder.module.",
  "nguyen": "module.clsgen.classifier.cnn.model.",
  "xrv": "model.",
  "generic": "module.backbone.",
}


def flat(tree):
  return traverse_util.flatten_dict(tree, sep="/")


@pytest.mark.parametrize("kind", vision.KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_layouts(kind, model):
  """Spec eir 12, 15: the encoder is found and laid as ours, the rest counted."""
  make, fields, ours = MODELS[model]
  final_norm = (kind, model) != ("nguyen", "dense")
  if model == "dense":
    ours = ours.clone(final_norm=final_norm)
  channels = 1 if kind == "xrv" else 3
  state = make(channels=channels, **fields)
  checkpoint = LAYOUTS[kind](state)
  given = vision.convert(checkpoint, kind)
  image = jnp.zeros((1, 32, 32, channels))
  shapes = jax.eval_shape(ours.init, jax.random.key(0), image)
  variables = dict(params=given.params, batch_stats=given.batch_stats)
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
  for collection in variables.values():
    for path in flat(collection):
      sharding.param_axes(path)
  assert given.architecture == type(ours).__name__
  assert (given.channels, given.mapped) == (channels, len(jax.tree.leaves(variables)))
  assert given.mapped + len(given.dropped) == len(checkpoint)
  assert len(given.missing) == (0 if final_norm else 4)
  expected = {k: v for k, v in state.items() if "num_batches" not in k}
  for key in [k for k in expected if k.startswith(("fc", "classifier"))]:
    del expected[key]
  for key in given.missing:
    del expected[key]
  back = vision.to_torchvision(given.params, given.batch_stats)
  assert back.keys() == expected.keys()
  for key, value in back.items():
    np.testing.assert_array_equal(value, expected[key], strict=True)


def test_where_some_arrays_lie():
  """By hand: what the tables say of a first, a strided and a shortcut convolution."""
  state = resnet()
  given = vision.convert(state, "torchvision")
  params, statistics = flat(given.params), flat(given.batch_stats)
  for theirs, ours in (
    ("conv1", "conv_1"),
    ("layer2.1.conv2", "stage_2_block_1/conv_2"),
    ("layer3.0.downsample.0", "stage_3_block_0/conv_0"),
  ):
    kernel = state[f"{theirs}.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(params[f"{ours}/kernel"], kernel)
  for theirs, ours in (
    ("bn1", "norm_1"),
    ("layer4.0.downsample.1", "stage_4_block_0/norm_0"),
    ("layer2.1.bn3", "stage_2_block_1/norm_3"),
  ):
    for name, path, tree in (
      ("weight", "scale", params),
      ("bias", "bias", params),
      ("running_mean", "mean", statistics),
      ("running_var", "var", statistics),
    ):
      np.testing.assert_array_equal(tree[f"{ours}/{path}"], state[f"{theirs}.{name}"])
  dense = densenet()
  params = flat(vision.convert(dense, "torchvision").params)
  for theirs, ours in (
    ("features.denseblock1.denselayer2.conv1", "block_1_layer_2/conv_1"),
    ("features.transition3.conv", "transition_3/conv_1"),
  ):
    kernel = dense[f"{theirs}.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(params[f"{ours}/kernel"], kernel)
  np.testing.assert_array_equal(params["norm/scale"], dense["features.norm5.weight"])


def test_torchvision_s_resnet50_is_counted():
  """Spec eir 10: 320 entries, 267 without counters, 25,557,032 parameters with fc."""
  state = resnet(FULL["resnet50"], width=64, fc=1000)
  counters = [key for key in state if key.endswith("num_batches_tracked")]
  assert (len(state), len(state) - len(counters)) == (320, 267)
  parameters = {k: v for k, v in state.items() if k not in counters}
  parameters = {k: v for k, v in parameters.items() if ".running_" not in k}
  assert sum(x.size for x in parameters.values()) == 25_557_032
  given = vision.convert(state, "torchvision")
  assert sum(x.size for x in jax.tree.leaves(given.params)) == 23_508_032
  assert (given.mapped, len(given.dropped), given.missing) == (265, 55, ())


def test_torchxrayvision_s_resnet50_is_counted():
  """Spec eir 10: 23,538,642 parameters with a head of 18."""
  state = resnet(FULL["resnet50"], width=64, fc=18, channels=1)
  parameters = [v for k, v in state.items() if "num_batches" not in k]
  statistics = [v for k, v in state.items() if ".running_" in k]
  count = lambda arrays: sum(x.size for x in arrays)
  assert count(parameters) - count(statistics) == 23_538_642
  assert vision.convert(behind("model.", state), "xrv").channels == 1


def test_counters_may_be_absent():
  state = {k: v for k, v in resnet().items() if "num_batches" not in k}
  assert len(vision.convert(state, "torchvision").dropped) == 2


def test_layers_of_older_densenets():
  """The files of torchvision have norm.1 where its classes have norm1."""
  state = densenet()
  old = {}
  for key, value in state.items():
    for name in ("norm", "conv"):
      for i in "12":
        key = key.replace(f".{name}{i}.", f".{name}.{i}.")
    old[key] = value
  assert old.keys() != state.keys()
  new, again = (vision.convert(s, "torchvision").params for s in (state, old))
  jax.tree.map(np.testing.assert_array_equal, new, again)


def test_a_part_of_nguyen_et_al_is_enough():
  whole, part = (nguyen(resnet(), whole) for whole in (True, False))
  whole, part = (vision.convert(state, "nguyen") for state in (whole, part))
  jax.tree.map(np.testing.assert_array_equal, whole.params, part.params)


def test_what_torch_writes_loads_strictly():
  """In both directions, names and shapes, also of what our random numbers are."""
  torch_nets = pytest.importorskip("torch_nets")
  net = torch_nets.ResNet((1, 2, 1, 1), True, 4)
  given = vision.convert(torch_nets.state_of(net), "torchvision")
  assert given.mapped + len(given.dropped) == len(net.state_dict())
  back = vision.to_torchvision(given.params, given.batch_stats)
  torch = pytest.importorskip("torch")
  other = torch_nets.ResNet((1, 2, 1, 1), True, 4)
  other.load_state_dict({k: torch.tensor(v) for k, v in back.items()}, strict=True)
  for ours, theirs in zip(other.parameters(), net.parameters()):
    assert torch.equal(ours, theirs)


# What is refused.


def refused(state, kind, match):
  with pytest.raises(ValueError, match=match) as info:
    vision.convert(state, kind)
  assert "\n" not in str(info.value)


@pytest.mark.parametrize("kind", vision.KINDS)
def test_an_unknown_key_is_named(kind):
  """Spec eir 12, 15: within the encoder, and where it may have its own prefix."""
  state = LAYOUTS[kind](resnet())
  extra = PREFIXES[kind] + "layer1.0.se.weight"
  refused(state | {extra: np.ones(1)}, kind, r"Unknown key '.*layer1\.0\.se\.weight'")
  refused(state | {"swin.norm.bias": np.ones(1)}, kind, r"Unknown key '.*swin\.norm")


def test_a_missing_key_is_named_and_the_rest_counted():
  state = resnet()
  for part in ("weight", "bias", "running_var"):
    del state[f"layer3.0.bn2.{part}"]
  match = r"ResNet checkpoint lacks 'layer3\.0\.bn2\.bias' \(and 2 more\)"
  refused(state, "torchvision", match)
  refused(densenet() | {"features.norm5.weight": None}, "nguyen", "Unknown key 'feat")
  state = densenet()
  del state["features.denseblock1.denselayer1.conv2.weight"]
  refused(state, "torchvision", r"lacks 'features\.denseblock1\.denselayer1\.conv2")


def test_a_block_that_is_not_there_is_named():
  state = {k: v for k, v in resnet((1, 3, 1, 1)).items() if ".1." not in k[6:9]}
  refused(state, "torchvision", r"lacks 'layer2\.1\.bn1\.bias' \(and 14 more\)")


def test_another_network_is_named():
  state = {"patch_embed.proj.weight": np.ones((8, 3, 16, 16))}
  refused(state, "torchvision", "neither a ResNet nor a DenseNet: of 1 tensors none")
  small = resnet() | {"conv1.weight": np.ones((4, 3, 3, 3))}
  refused(small, "torchvision", "neither a ResNet nor a DenseNet")


def test_another_kind_is_named():
  refused(
    resnet(), "moco", r"Unknown key 'conv1\.weight': .* kind 'moco'; set config\.p"
  )
  refused(moco(resnet()), "torchvision", "neither a ResNet")
  refused(resnet(), "none", "Unknown kind 'none'; known: torchvision, moco")


def test_a_teacher_and_a_student_are_not_mixed_up():
  both = behind("encoder.", resnet()) | behind("backbone.", resnet())
  match = r"Both 'encoder\.conv1.*' and 'backbone\.conv1.*' may be conv1"
  refused(both, "generic", match)


def test_the_way_back_is_for_these_encoders_alone():
  with pytest.raises(ValueError, match="'params/vit/norm/scale' is in no ResNet"):
    vision.to_torchvision({"vit": {"norm": {"scale": np.ones(1)}}}, {})


def test_every_kind_has_a_layout_and_a_norm_that_there_is():
  assert LAYOUTS.keys() == vision.KINDS.keys()
  norms = {kind: of.norm for kind, of in vision.KINDS.items()}
  assert norms.pop("generic") is None
  assert set(norms.values()) == NORMS.keys()
  assert (norms["mococxr"], norms["c2l"]) == ("mococxr", "imagenet")


# Files: what lies beside the tensors in those of the sources (spec eir 10).

SIBLINGS = {
  "torchvision": lambda state: state,
  "moco": lambda state: dict(
    epoch=200, arch="resnet50", state_dict=state, optimizer=dict(state={}, lr=[0.03])
  ),
  "c2l": lambda state: dict(
    opt=argparse.Namespace(batch_size=128, model="resnet18", lr_decay_epochs=[60, 80]),
    model=state,
    model_ema=dict.fromkeys(state),
    contrast=dict(params=state.get("conv1.weight")),
    optimizer=dict(state={}),
    epoch=240,
  ),
  "nguyen": lambda state: dict(
    epoch=8,
    stats=(np.float64(0.5), [0.25]),
    model_state_dict=state,
    optimizer_state_dict=dict(state={}),
    scheduler_state_dict=None,
  ),
  "xrv": lambda state: state,
  "generic": lambda state: dict(model=state, args=dict(a=1)),
}


@pytest.mark.parametrize("kind", SIBLINGS)
def test_files_of_torch(tmp_path, kind):
  torch = pytest.importorskip("torch")
  state = LAYOUTS[kind](resnet(channels=1 if kind == "xrv" else 3))
  tensors = {key: torch.tensor(value) for key, value in state.items()}
  torch.save(SIBLINGS[kind](tensors), tmp_path / "w.pth")
  read = weights.read(tmp_path / "w.pth")
  given, expected = (vision.convert(s, kind) for s in (read.state, state))
  jax.tree.map(np.testing.assert_array_equal, given.params, expected.params)
  assert (given.mapped, given.dropped) == (expected.mapped, expected.dropped)


def test_a_whole_pickled_network_is_refused(tmp_path):
  """As torchxrayvision keeps its DenseNets."""
  torch = pytest.importorskip("torch")
  torch_nets = pytest.importorskip("torch_nets")
  torch.save(torch_nets.ResNet((1, 1, 1, 1), False, 4), tmp_path / "w.pt")
  with pytest.raises(
    ValueError, match=r"asks for torch_nets\.ResNet.*save its tensors"
  ):
    weights.read(tmp_path / "w.pt")
