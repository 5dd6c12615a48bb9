"""torchvision's ResNet and DenseNet in plain torch.nn, under torchvision's names."""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn


class Block(nn.Module):
  def __init__(self, inputs, width, stride, bottleneck):
    super().__init__()
    sizes = (1, 3, 1) if bottleneck else (3, 3)
    widths = (width, width, 4 * width) if bottleneck else (width, width)
    self.count, channels, strided = len(sizes), inputs, sizes.index(3)
    for i, (size, features) in enumerate(zip(sizes, widths)):
      step = stride if i == strided else 1
      conv = nn.Conv2d(channels, features, size, step, size // 2, bias=False)
      self.add_module(f"conv{i + 1}", conv)
      self.add_module(f"bn{i + 1}", nn.BatchNorm2d(features))
      channels = features
    if stride != 1 or inputs != channels:
      conv = nn.Conv2d(inputs, channels, 1, stride, bias=False)
      self.downsample = nn.Sequential(conv, nn.BatchNorm2d(channels))

  def forward(self, x):
    y = x
    for i in range(1, self.count + 1):
      y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
      y = y.relu() if i < self.count else y
    return ((self.downsample(x) if hasattr(self, "downsample") else x) + y).relu()


class ResNet(nn.Module):
  def __init__(self, blocks, bottleneck, base_width=64, channels=3):
    super().__init__()
    self.conv1 = nn.Conv2d(channels, base_width, 7, 2, 3, bias=False)
    self.bn1 = nn.BatchNorm2d(base_width)
    self.maxpool = nn.MaxPool2d(3, 2, 1)
    inputs, self.stages = base_width, len(blocks)
    for stage, count in enumerate(blocks):
      layer = []
      for i in range(count):
        stride = 2 if stage and i == 0 else 1
        width = base_width * 2**stage
        layer.append(Block(inputs, width, stride, bottleneck))
        inputs = width * (4 if bottleneck else 1)
      self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))

  def forward(self, x):
    x = self.maxpool(self.bn1(self.conv1(x)).relu())
    for stage in range(1, self.stages + 1):
      x = getattr(self, f"layer{stage}")(x)
    return x


class DenseLayer(nn.Module):
  def __init__(self, inputs, growth):
    super().__init__()
    self.norm1 = nn.BatchNorm2d(inputs)
    self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
    self.norm2 = nn.BatchNorm2d(4 * growth)
    self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

  def forward(self, x):
    y = self.conv1(self.norm1(x).relu())
    return torch.cat([x, self.conv2(self.norm2(y).relu())], 1)


class DenseNet(nn.Module):
  def __init__(self, blocks, growth, base_width=64, channels=3, final_norm=True):
    super().__init__()
    conv0 = nn.Conv2d(channels, base_width, 7, 2, 3, bias=False)
    children = [("conv0", conv0), ("norm0", nn.BatchNorm2d(base_width))]
    children += [("relu0", nn.ReLU()), ("pool0", nn.MaxPool2d(3, 2, 1))]
    width = base_width
    for block, count in enumerate(blocks, 1):
      layers = OrderedDict()
      for i in range(1, count + 1):
        layers[f"denselayer{i}"] = DenseLayer(width, growth)
        width += growth
      children.append((f"denseblock{block}", nn.Sequential(layers)))
      if block < len(blocks):
        parts = [("norm", nn.BatchNorm2d(width)), ("relu", nn.ReLU())]
        parts.append(("conv", nn.Conv2d(width, width // 2, 1, bias=False)))
        parts.append(("pool", nn.AvgPool2d(2, 2)))
        width //= 2
        children.append((f"transition{block}", nn.Sequential(OrderedDict(parts))))
    if final_norm:
      children += [("norm5", nn.BatchNorm2d(width)), ("relu5", nn.ReLU())]
    self.features = nn.Sequential(OrderedDict(children))

  def forward(self, x):
    return self.features(x)


def randomise(net, seed=0):
  """The network with random weights and running statistics.

  As in trained networks a block of a ResNet adds little to what goes round it: else
  fifty layers of batch statistics would make 1e-4 of torch's own rounding.
  """
  generator = torch.Generator().manual_seed(seed)
  normal = lambda x: torch.randn(x.shape, generator=generator)
  with torch.no_grad():
    for module in net.modules():
      if isinstance(module, nn.Conv2d):
        fan_in = module.weight[0].numel()
        module.weight.copy_(normal(module.weight) * (2 / fan_in) ** 0.5)
      elif isinstance(module, nn.BatchNorm2d):
        for x in (module.bias, module.running_mean):
          x.copy_(0.2 * normal(x))
        for x in (module.weight, module.running_var):
          x.copy_(0.5 + torch.rand(x.shape, generator=generator))
    for module in net.modules():
      if isinstance(module, Block):
        getattr(module, f"bn{module.count}").weight.mul_(0.1)
  return net


def state_of(net) -> dict[str, np.ndarray]:
  return {name: value.numpy().copy() for name, value in net.state_dict().items()}


def channels_first(image: np.ndarray) -> torch.Tensor:
  return torch.tensor(np.asarray(image).transpose(0, 3, 1, 2))


def channels_last(x: torch.Tensor) -> np.ndarray:
  return x.detach().numpy().transpose(0, 2, 3, 1)
