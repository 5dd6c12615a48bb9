"""PriorRG at the published size out of transformers' blocks, for `full_size.py`.

Written from the paper's description, under the names of the authors' checkpoints.
As there, the prior's path is computed for the rows that have one.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

WIDTH, VOCABULARY, PAD, BOS, VIEWS = 768, 50264, 50257, 50256, 7


def attend(query, key, value, heads):
  """Attention of (b t e) over (b s e), by heads."""
  cut = lambda x: x.unflatten(-1, (heads, -1)).transpose(1, 2)
  y = F.scaled_dot_product_attention(cut(query), cut(key), cut(value))
  return y.transpose(1, 2).flatten(-2)


class Head(nn.Module):
  """Bottleneck with batch statistics over rows and tokens."""

  def __init__(self):
    super().__init__()
    self.head = nn.Sequential(
      nn.Conv1d(WIDTH, 384, 1), nn.BatchNorm1d(384), nn.ReLU(), nn.Conv1d(384, WIDTH, 1)
    )

  def forward(self, x):
    return self.head(x.transpose(1, 2)).transpose(1, 2)


class ImageHead(Head):
  def __init__(self):
    super().__init__()
    self.norm = nn.LayerNorm(WIDTH)

  def forward(self, x):
    return super().forward(self.norm(x))


class Read(nn.Module):
  """The current image reads the prior one (STF)."""

  def __init__(self, heads=8, inner=1536):
    super().__init__()
    self.heads = heads
    self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
    self.fc_q, self.fc_k, self.fc_v = (nn.Linear(WIDTH, inner) for _ in range(3))
    self.fc_o = nn.Linear(inner, WIDTH)
    for layer in (self.fc_q, self.fc_k, self.fc_v, self.fc_o):
      nn.init.normal_(layer.weight, std=0.001)
      nn.init.zeros_(layer.bias)

  def forward(self, x, prior):
    prior = self.ln_2(prior)
    query, key, value = self.fc_q(self.ln_1(x)), self.fc_k(prior), self.fc_v(prior)
    return x + self.fc_o(attend(query, key, value, self.heads))


class Residual(nn.Module):
  def __init__(self):
    super().__init__()
    self.net = nn.Sequential(
      nn.LayerNorm(WIDTH),
      nn.Linear(WIDTH, WIDTH),
      nn.GELU(),
      nn.Identity(),
      nn.Linear(WIDTH, WIDTH),
    )

  def forward(self, x):
    return x + self.net(x)


class TemporalFusion(nn.Module):
  def __init__(self, layers=3):
    super().__init__()
    self.layers = nn.ModuleList(
      nn.ModuleList([Read(), Residual()]) for _ in range(layers)
    )
    self.norm = nn.LayerNorm(WIDTH)

  def forward(self, x, prior):
    for read, mlp in self.layers:
      x = mlp(read(x, prior))
    return self.norm(x)


class LatentRead(nn.Module):
  """Attention of latents over data, or over themselves."""

  def __init__(self, heads=8, inner=512):
    super().__init__()
    self.heads = heads
    self.to_q = nn.Linear(WIDTH, inner, bias=False)
    self.to_kv = nn.Linear(WIDTH, 2 * inner, bias=False)
    self.to_out = nn.Linear(inner, WIDTH)

  def forward(self, x, data):
    key, value = self.to_kv(data).chunk(2, dim=-1)
    return self.to_out(attend(self.to_q(x), key, value, self.heads))


class GatedMlp(nn.Module):
  def __init__(self):
    super().__init__()
    self.net = nn.ModuleDict(
      {"0": nn.Linear(WIDTH, 8 * WIDTH), "2": nn.Linear(4 * WIDTH, WIDTH)}
    )

  def forward(self, x):
    x, gate = self.net["0"](x).chunk(2, dim=-1)
    return self.net["2"](x * F.gelu(gate))


class Normed(nn.Module):
  """A residual branch behind its norm, and the data's, where there is data."""

  def __init__(self, fn, data=False):
    super().__init__()
    self.fn, self.norm = fn, nn.LayerNorm(WIDTH)
    if data:
      self.norm_context = nn.LayerNorm(WIDTH)

  def forward(self, x, data=None):
    y = self.norm(x)
    if data is not None:
      return x + self.fn(y, self.norm_context(data))
    return x + (self.fn(y, y) if isinstance(self.fn, LatentRead) else self.fn(y))


class Perceiver(nn.Module):
  def __init__(self, latents=128, layers=3):
    super().__init__()
    self.latents = nn.Parameter(torch.randn(latents, WIDTH))
    within = lambda: nn.ModuleList(
      [nn.ModuleList([Normed(LatentRead()), Normed(GatedMlp())])]
    )
    self.layers = nn.ModuleList(
      nn.ModuleList([Normed(LatentRead(), data=True), Normed(GatedMlp()), within()])
      for _ in range(layers)
    )

  def forward(self, data, x=None):
    x = self.latents.expand(len(data), -1, -1) if x is None else x
    for read, mlp, within in self.layers:
      x = mlp(read(x, data))
      for block in within[0]:
        x = block(x)
    return x


class LayerFusion(nn.Module):
  """All layers of the image encoder as the channels of one picture (ALF)."""

  def __init__(self, layers=12):
    super().__init__()
    conv = lambda i, o, size=1, bias=False: nn.Conv2d(
      i, o, size, padding=size // 2, bias=bias
    )
    wi, wo = conv(layers, layers // 4), conv(layers // 4, layers)
    channels = nn.ModuleDict({"se": nn.Sequential(wi, nn.ReLU(), wo)})
    spatial = nn.ModuleDict({"conv": conv(2, 1, 7)})
    self.cbam = nn.ModuleDict({"ca": channels, "sa": spatial})
    self.projection = nn.Sequential(
      conv(layers, layers // 2, bias=True),
      nn.BatchNorm2d(layers // 2),
      nn.ReLU(),
      conv(layers // 2, 1, bias=True),
    )

  def forward(self, hidden):
    squeeze = self.cbam["ca"]["se"]
    y = squeeze(F.adaptive_max_pool2d(hidden, 1)) + squeeze(hidden.mean((2, 3), True))
    y = hidden * torch.sigmoid(y)
    pooled = torch.cat([y.amax(1, True), y.mean(1, True)], dim=1)
    y = y * torch.sigmoid(self.cbam["sa"]["conv"](pooled))
    return self.projection(y + hidden).squeeze(1)


class PriorRG(nn.Module):
  def __init__(self, stage: int):
    super().__init__()
    self.stage = stage
    self.image_encoder = transformers.Dinov2Model(
      transformers.Dinov2Config(image_size=518)
    ).requires_grad_(False)
    bert = transformers.BertConfig(
      vocab_size=VOCABULARY,
      num_hidden_layers=6,
      pad_token_id=PAD,
      hidden_dropout_prob=0.25,
      attention_probs_dropout_prob=0.25,
    )
    self.text_encoder = nn.ModuleDict(
      {"bert": transformers.BertModel(bert, add_pooling_layer=False)}
    )
    self.image_projection, self.text_projection = ImageHead(), Head()
    self.vp_pos_embed = nn.Parameter(torch.randn(VIEWS, 1, WIDTH))
    self.temp_pos_embed = nn.Parameter(torch.randn(2, 1, WIDTH))
    self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
    self.layer_norm = nn.LayerNorm(WIDTH)
    self.temporal_fusion, self.perceiver = TemporalFusion(), Perceiver()
    if stage == 2:
      for table in (self.vp_pos_embed, self.temp_pos_embed, self.logit_scale):
        table.requires_grad_(False)
      self.layer_fusion, self.layer_norm_fusion = LayerFusion(), nn.LayerNorm(WIDTH)
      config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_layer=6,
        add_cross_attention=True,
        is_decoder=True,
        bos_token_id=BOS,
        pad_token_id=PAD,
        eos_token_id=None,
      )
      self.text_decoder = transformers.GPT2LMHeadModel(config)

  def train(self, mode: bool = True):
    super().train(mode)
    self.image_encoder.eval()
    return self

  def encode_image(self, pixels, every_layer=False):
    with torch.no_grad():
      output = self.image_encoder(pixels, output_hidden_states=every_layer)
    return output.hidden_states[1:] if every_layer else (), output.last_hidden_state

  def encode_text(self, ids, mask):
    x = self.text_encoder["bert"](ids, attention_mask=mask).last_hidden_state
    return self.text_projection(x)

  def place(self, features, view, time):
    x = self.image_projection(features + self.vp_pos_embed[view])
    return x + self.temp_pos_embed[time]

  def over_time(self, last, batch):
    x, has_prior = self.place(last, batch["view"], 0), batch["has_prior"]
    fused = self.layer_norm(x)
    if has_prior.any():
      _, prior = self.encode_image(batch["prior_image"][has_prior])
      prior = self.place(prior, batch["prior_view"][has_prior], 1)
      fused = fused.masked_scatter(
        has_prior[:, None, None], self.temporal_fusion(x[has_prior], prior)
      )
    return fused

  def over_context(self, x, batch):
    context = self.encode_text(batch["context"], batch["context_mask"])
    z_context = self.perceiver(context)
    return z_context, self.perceiver(x, z_context)

  def contrastive_loss(self, batch):
    _, last = self.encode_image(batch["image"])
    latents = self.over_context(self.over_time(last, batch), batch)
    image = torch.cat(latents, dim=1).mean(1)
    report = self.encode_text(batch["report"], batch["report_mask"])[:, 0]
    logits = F.normalize(image) @ F.normalize(report).T * self.logit_scale.exp()
    # Every study of the batch is another.
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2

  def encode(self, batch):
    hidden, last = self.encode_image(batch["image"], every_layer=True)
    fused = self.place(self.layer_fusion(torch.stack(hidden, 1)), batch["view"], 0)
    z_context, z_time = self.over_context(self.over_time(last, batch), batch)
    z_joint = self.perceiver(self.layer_norm_fusion(fused), z_time)
    return torch.cat([z_context, z_time, z_joint], dim=1)

  def generation_loss(self, batch):
    memory = self.encode(batch)
    ids, mask = batch["tokens"], batch["tokens_mask"]
    logits = self.text_decoder(
      ids[:, :-1],
      attention_mask=mask[:, :-1],
      encoder_hidden_states=memory,
      use_cache=False,
    ).logits
    labels = ids[:, 1:].masked_fill(~mask[:, 1:], -100)
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def generate(decoder, memory, num_beams: int, max_length: int):
  """Beam search of a GPT-2 that reads `memory`, by transformers' `generate`."""
  shell = transformers.EncoderDecoderModel(encoder=Memory(), decoder=decoder)
  return shell.generate(
    encoder_outputs=BaseModelOutput(last_hidden_state=memory),
    num_beams=num_beams,
    max_length=max_length,
    early_stopping=False,
    do_sample=False,
    decoder_start_token_id=BOS,
    pad_token_id=PAD,
  )


class Memory(transformers.PreTrainedModel):
  """The encoder that `EncoderDecoderModel` wants; its output is given instead."""

  config_class = transformers.BertConfig
  main_input_name = "input_ids"

  def __init__(self):
    super().__init__(transformers.BertConfig(hidden_size=WIDTH))

  def get_output_embeddings(self):
    return None


def tensors(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
  """The batch, its pixels standardised, with channels first."""
  batch = {k: torch.from_numpy(v) for k, v in batch.items() if k != "study"}
  for name in ("image", "prior_image"):
    grey = (batch[name].permute(0, 3, 1, 2) / 255 - 0.5307) / 0.2583
    batch[name] = grey.expand(-1, 3, -1, -1).contiguous()
  return {k: v.long() if v.dtype == torch.int32 else v for k, v in batch.items()}


def make(what: str, num_beams: int, max_length: int) -> Callable[[dict], int]:
  """What is to be measured, of a batch; returns the number of decoder steps."""
  torch.set_num_threads(2)
  torch.manual_seed(0)
  model = PriorRG(stage=1 if what == "stage1" else 2)

  if what == "encode":
    model.eval()

    @torch.no_grad()
    def run(batch):
      model.encode(tensors(batch))
      return 0

    return run

  if what == "generate":
    steps = []
    model.eval().text_decoder.register_forward_hook(lambda *_: steps.append(1))

    @torch.no_grad()
    def run(batch):
      steps.clear()
      ids = generate(
        model.text_decoder, model.encode(tensors(batch)), num_beams, max_length
      )
      assert ids.shape == (len(batch["image"]), max_length)
      return len(steps)

    return run

  decoder = [p for n, p in model.named_parameters() if n.startswith("text_decoder")]
  others = [
    p
    for n, p in model.named_parameters()
    if p.requires_grad and not n.startswith("text_decoder")
  ]
  groups = [dict(params=others, lr=5e-5 if what == "stage1" else 5e-6)]
  groups += [dict(params=decoder, lr=5e-5)] if decoder else []
  optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
  loss_of = model.contrastive_loss if what == "stage1" else model.generation_loss
  model.train()

  def run(batch):
    optimizer.zero_grad()
    loss = loss_of(tensors(batch))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    return 0

  return run
