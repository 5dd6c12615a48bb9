"""The table of the authors' PriorRG checkpoints, of either stage (spec priorrg 7)."""

import copy
from collections.abc import Mapping
from typing import Any

from jaxrg.convert import backbones
from jaxrg.convert import table as t
from jaxrg.convert.table import Row, Table

# What neither stage of the model uses: the text encoder's language-model head, its
# projection head and the image encoder's mask token; 12 tensors, 758,360 parameters.
# The counters of batches are buffers that nothing reads.
UNUSED = (
  r"image_encoder\.embeddings\.mask_token",
  r"text_encoder\.cls\..*",
  r"text_encoder\.cls_projection_head\..*",
  r".*\.num_batches_tracked",
)
DROPPED = (
  *UNUSED,
  r"text_encoder\.bert\.embeddings\.position_ids",  # Buffers of older releases.
  r"text_decoder\..*\.(attn|crossattention)\.(bias|masked_bias)",
)
WORDS = "text_encoder.bert.embeddings.word_embeddings.weight"
MLM = "text_encoder.cls.predictions"
DECODER = "text_decoder.encoder_decoder.decoder"
STAGE_2 = ("layer_fusion.", "layer_norm_fusion.", "text_decoder.")


# The paper's; no shape tells them.
HEADS = dict(
  image_heads=12, text_heads=12, temporal_heads=8, perceiver_heads=8, gpt_heads=12
)

# How their code joins the parts, which no weight tells either.
JOINING = dict(
  order=("context", "time", "joint"), seeded=True, fusion=dict(name="attention")
)


def table(
  stage: int,
  *,
  image_heads: int,
  text_heads: int,
  temporal_heads: int,
  perceiver_heads: int,
  gpt_heads: int,
) -> Table:
  """The rows of stage 1 or 2."""
  vision, text = backbones.dinov2(image_heads), backbones.bert(text_heads)
  rows = [
    *t.prefixed(vision.rows, "image_encoder.", "vision/"),
    *t.prefixed(text.rows, "text_encoder.bert.", "text/"),
    *t.norm("image_projection.norm", "image_norm"),
    *_head("image"),
    *_head("text"),
    Row("vp_pos_embed", ("views",), t.row_of(1)),
    Row("temp_pos_embed", ("times",), t.row_of(1)),
    Row("logit_scale", ("logit_scale",)),
    *t.norm("layer_norm", "no_prior_norm"),
    *_temporal(temporal_heads),
    *_perceiver(perceiver_heads),
  ]
  tied = {f"{MLM}.decoder.weight": WORDS, f"{MLM}.decoder.bias": f"{MLM}.bias"}
  if stage == 2:
    decoder = backbones.gpt2(gpt_heads, cross_attention=True)
    rows += [
      *t.norm("layer_norm_fusion", "fusion_norm"),
      *_fusion(),
      *t.prefixed(decoder.rows, f"{DECODER}.transformer.", "decoder/"),
    ]
    tied[f"{DECODER}.lm_head.weight"] = f"{DECODER}.transformer.wte.weight"
  return Table(f"PriorRG stage-{stage}", tuple(map(t.placed, rows)), DROPPED, tied)


def _head(name: str) -> tuple[Row, ...]:
  source, ours = f"{name}_projection.head", f"{name}_head"
  return (
    *t.dense(f"{source}.0", f"{ours}/wi", t.linear(1)),
    *t.batch_norm(f"{source}.1", f"{ours}/batch_norm"),
    *t.dense(f"{source}.3", f"{ours}/wo", t.linear(1)),
  )


def _temporal(heads: int) -> tuple[Row, ...]:
  block, ours = "temporal_fusion.layers.{}", "temporal/layer_{}"
  names = dict(query="fc_q", key="fc_k", value="fc_v", out_="fc_o")
  names = {ours: f"{block}.0.{theirs}" for ours, theirs in names.items()}
  return (
    *t.attention(f"{ours}/attention", heads, **names),
    *t.norm(f"{block}.0.ln_1", f"{ours}/norm_1"),
    *t.norm(f"{block}.0.ln_2", f"{ours}/norm_2"),
    *t.norm(f"{block}.1.net.0", f"{ours}/norm_3"),
    *t.dense(f"{block}.1.net.1", f"{ours}/mlp/wi"),
    *t.dense(f"{block}.1.net.4", f"{ours}/mlp/wo"),
    *t.norm("temporal_fusion.norm", "temporal/norm"),
  )


def _perceiver(heads: int) -> tuple[Row, ...]:
  block, ours = "perceiver.layers.{}", "perceiver/layer_{}"
  rows = [
    Row("perceiver.latents", ("perceiver/latents",)),
    *t.norm(f"{block}.0.norm_context", f"{ours}/norm_data"),
  ]
  reads = (
    ("0", "1", "cross", "norm_1", "norm_2"),
    ("2.0.0", "2.0.1", "self", "norm_3", "norm_4"),
  )
  for attention, mlp, name, norm_attention, norm_mlp in reads:
    source, target = f"{block}.{attention}", f"{ours}/{name}_attention"
    keys_values = (f"{target}/key/kernel", f"{target}/value/kernel")
    rows += [
      *t.norm(f"{source}.norm", f"{ours}/{norm_attention}"),
      Row(f"{source}.fn.to_q.weight", (f"{target}/query/kernel",), t.heads(heads)),
      Row(f"{source}.fn.to_kv.weight", keys_values, t.heads(heads)),
      *t.dense(f"{source}.fn.to_out", f"{target}/out", t.out(heads)),
    ]
    source, target = f"{block}.{mlp}", f"{ours}/{name}_mlp"
    rows += [
      *t.norm(f"{source}.norm", f"{ours}/{norm_mlp}"),
      Row(
        f"{source}.fn.net.0.weight",
        (f"{target}/wi/kernel", f"{target}/gate/kernel"),
        t.linear(),
      ),
      Row(f"{source}.fn.net.0.bias", (f"{target}/wi/bias", f"{target}/gate/bias")),
      *t.dense(f"{source}.fn.net.2", f"{target}/wo"),
    ]
  return tuple(rows)


def _fusion() -> tuple[Row, ...]:
  cbam, projection = "layer_fusion.cbam", "layer_fusion.projection"
  gate, spatial = "fusion/channel_gate", "fusion/spatial_gate/spatial"
  return (
    Row(f"{cbam}.ca.se.0.weight", (f"{gate}/wi/kernel",), t.linear(2)),
    Row(f"{cbam}.ca.se.2.weight", (f"{gate}/wo/kernel",), t.linear(2)),
    Row(f"{cbam}.sa.conv.weight", (f"{spatial}/kernel",), t.CONV),
    *t.dense(f"{projection}.0", "fusion/wi", t.linear(2)),
    *t.batch_norm(f"{projection}.1", "fusion/batch_norm"),
    *t.dense(f"{projection}.3", "fusion/wo", t.linear(2)),
  )


def config(params: Mapping[str, Any], heads: Mapping[str, int]) -> dict:
  """The model config of the published behaviour, sizes read from the shapes."""
  temporal, perceiver = params["temporal"], params["perceiver"]
  text = backbones.bert_config(params["text"], heads["text_heads"])
  width = params["times"].shape[1]
  # A stage-1 checkpoint has no decoder; the paper's is then meant.
  decoder = dict(
    vocab_size=text["vocab_size"],
    num_layers=6,
    num_heads=heads["gpt_heads"],
    width=width,
    max_length=1024,
  )
  if "decoder" in params:
    decoder = backbones.gpt2_config(params["decoder"], heads["gpt_heads"])
  return dict(
    name="priorrg",
    dtype="float32",
    width=width,
    bottleneck=params["image_head"]["wi"]["kernel"].shape[1],
    num_views=params["views"].shape[0],
    pixel_mean=0.5307,
    pixel_std=0.2583,
    mask_padding=False,
    mask_statistics=False,
    prior_gradient=True,
    **copy.deepcopy(JOINING),
    embedding_std=1.0,
    vision=backbones.dinov2_config(params["vision"], heads["image_heads"]),
    text=text | dict(dropout_rate=0.25),
    temporal=dict(
      num_layers=backbones.count_layers(temporal),
      num_heads=heads["temporal_heads"],
      head_dim=temporal["layer_0"]["attention"]["query"]["kernel"].shape[2],
      mlp_dim=temporal["layer_0"]["mlp"]["wi"]["kernel"].shape[1],
    ),
    perceiver=dict(
      num_latents=perceiver["latents"].shape[0],
      num_layers=backbones.count_layers(perceiver),
      num_heads=heads["perceiver_heads"],
      head_dim=perceiver["layer_0"]["cross_attention"]["query"]["kernel"].shape[2],
      mlp_dim=perceiver["layer_0"]["cross_mlp"]["wi"]["kernel"].shape[1],
    ),
    decoder=decoder | dict(dropout_rate=0.1),
  )
