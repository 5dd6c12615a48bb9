"""The authors' PyTorch names, and ours: tables, not code.

A row is (pattern of the source key, our path, transform). Every source key must
match a row or be listed as dropped on purpose.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np
from flax import traverse_util

Transform = Callable[[np.ndarray], np.ndarray]

DROPPED = (
  r"image_encoder\.embeddings\.mask_token",
  r"text_encoder\.cls\..*",
  r"text_encoder\.cls_projection_head\..*",
  r"text_encoder\.bert\.embeddings\.position_ids",
  r".*\.num_batches_tracked",
  r"text_decoder\.encoder_decoder\.decoder\.lm_head\.weight",  # The token table.
)

_NORM = ((r"weight", "scale"), (r"bias", "bias"))


def _same(x):
  return x


def _linear(x):  # (out, in), kernel-1 axes dropped.
  return x.reshape(x.shape[:2]).T


def _conv(x):  # OIHW -> HWIO.
  return x.transpose(2, 3, 1, 0)


def _heads(num_heads) -> Transform:  # (h k, in) -> (in, h, k), or (h k) -> (h, k).
  def split(x):
    return x.T.reshape(*x.shape[1:], num_heads, -1)

  return split


def _out(num_heads) -> Transform:  # (out, h k) -> (h, k, out).
  return lambda x: x.T.reshape(num_heads, -1, x.shape[0])


def _part(index, count, then: Transform, axis=0) -> Transform:
  return lambda x: then(np.split(x, count, axis=axis)[index])


def _dense(source: str, target: str):
  return (
    (rf"{source}\.weight", f"{target}/kernel", _linear),
    (rf"{source}\.bias", f"{target}/bias", _same),
  )


def _norm(source: str, target: str):
  return tuple((rf"{source}\.{a}", f"{target}/{b}", _same) for a, b in _NORM)


def _attention(source: str, target: str, names: Mapping[str, str], heads: int):
  """Rows of separate query, key, value and out projections."""
  rows = []
  for ours, theirs in names.items():
    kernel = _out(heads) if ours == "out" else _heads(heads)
    bias = _same if ours == "out" else _heads(heads)
    rows += [
      (rf"{source}\.{theirs}\.weight", f"{target}/{ours}/kernel", kernel),
      (rf"{source}\.{theirs}\.bias", f"{target}/{ours}/bias", bias),
    ]
  return tuple(rows)


def _vision(heads: int):
  block, ours = r"image_encoder\.encoder\.layer\.(\d+)", r"vision/layer_\1"
  names = dict(
    query=r"attention\.query",
    key=r"attention\.key",
    value=r"attention\.value",
    out=r"output\.dense",
  )
  embeddings, stem = r"image_encoder\.embeddings", "vision/stem"
  return (
    (rf"{embeddings}\.cls_token", f"{stem}/cls", np.ravel),
    (rf"{embeddings}\.position_embeddings", "vision/positions", lambda x: x[0]),
    (
      rf"{embeddings}\.patch_embeddings\.projection\.weight",
      f"{stem}/patch/kernel",
      _conv,
    ),
    (
      rf"{embeddings}\.patch_embeddings\.projection\.bias",
      f"{stem}/patch/bias",
      _same,
    ),
    *_attention(rf"{block}\.attention", f"{ours}/attention", names, heads),
    *_norm(rf"{block}\.norm1", f"{ours}/norm_1"),
    *_norm(rf"{block}\.norm2", f"{ours}/norm_2"),
    *_dense(rf"{block}\.mlp\.fc1", f"{ours}/mlp/wi"),
    *_dense(rf"{block}\.mlp\.fc2", f"{ours}/mlp/wo"),
    (rf"{block}\.layer_scale(\d)\.lambda1", rf"{ours}/scale_\2", _same),
    *_norm(r"image_encoder\.layernorm", "vision/norm"),
  )


def _text(heads: int):
  embeddings = r"text_encoder\.bert\.embeddings"
  block, ours = r"text_encoder\.bert\.encoder\.layer\.(\d+)", r"text/layer_\1"
  names = dict(query=r"self\.query", key=r"self\.key", value=r"self\.value")
  names["out"] = r"output\.dense"
  return (
    (rf"{embeddings}\.word_embeddings\.weight", "text/tokens/embedding", _same),
    (rf"{embeddings}\.position_embeddings\.weight", "text/positions", _same),
    (rf"{embeddings}\.token_type_embeddings\.weight", "text/types", _same),
    *_norm(rf"{embeddings}\.LayerNorm", "text/norm"),
    *_attention(rf"{block}\.attention", f"{ours}/attention", names, heads),
    *_norm(rf"{block}\.attention\.output\.LayerNorm", f"{ours}/norm_1"),
    *_norm(rf"{block}\.output\.LayerNorm", f"{ours}/norm_2"),
    *_dense(rf"{block}\.intermediate\.dense", f"{ours}/mlp/wi"),
    *_dense(rf"{block}\.output\.dense", f"{ours}/mlp/wo"),
  )


def _head(name: str):
  source, ours = rf"{name}_projection\.head", f"{name}_head"
  return (
    *_dense(rf"{source}\.0", f"{ours}/wi"),
    *_batch_norm(rf"{source}\.1", f"{ours}/batch_norm"),
    *_dense(rf"{source}\.3", f"{ours}/wo"),
  )


def _batch_norm(source: str, target: str):
  return (
    *_norm(source, target),
    (rf"{source}\.running_mean", f"batch_stats/{target}/mean", _same),
    (rf"{source}\.running_var", f"batch_stats/{target}/var", _same),
  )


def _temporal(heads: int):
  block, ours = r"temporal_fusion\.layers\.(\d+)", r"temporal/layer_\1"
  names = dict(query="fc_q", key="fc_k", value="fc_v", out="fc_o")
  return (
    *_attention(rf"{block}\.0", f"{ours}/attention", names, heads),
    *_norm(rf"{block}\.0\.ln_1", f"{ours}/norm_1"),
    *_norm(rf"{block}\.0\.ln_2", f"{ours}/norm_2"),
    *_norm(rf"{block}\.1\.net\.0", f"{ours}/norm_3"),
    *_dense(rf"{block}\.1\.net\.1", f"{ours}/mlp/wi"),
    *_dense(rf"{block}\.1\.net\.4", f"{ours}/mlp/wo"),
    *_norm(r"temporal_fusion\.norm", "temporal/norm"),
  )


def _perceiver(heads: int):
  rows = [(r"perceiver\.latents", "perceiver/latents", _same)]
  ours = r"perceiver/layer_\1"
  reads = (
    (r"0", r"1", "cross", "norm_1", "norm_2"),
    (r"2\.0\.0", r"2\.0\.1", "self", "norm_3", "norm_4"),
  )
  for attention, mlp, name, norm_attention, norm_mlp in reads:
    block = rf"perceiver\.layers\.(\d+)\.{attention}"
    target = f"{ours}/{name}_attention"
    split = _heads(heads)
    rows += [
      *_norm(rf"{block}\.norm", f"{ours}/{norm_attention}"),
      (rf"{block}\.fn\.to_q\.weight", f"{target}/query/kernel", split),
      (rf"{block}\.fn\.to_kv\.weight", f"{target}/key/kernel", _part(0, 2, split)),
      (rf"{block}\.fn\.to_kv\.weight", f"{target}/value/kernel", _part(1, 2, split)),
      (rf"{block}\.fn\.to_out\.weight", f"{target}/out/kernel", _out(heads)),
      (rf"{block}\.fn\.to_out\.bias", f"{target}/out/bias", _same),
    ]
    block = rf"perceiver\.layers\.(\d+)\.{mlp}"
    target = f"{ours}/{name}_mlp"
    rows += [*_norm(rf"{block}\.norm", f"{ours}/{norm_mlp}")]
    for index, half in enumerate(("wi", "gate")):
      take = lambda then, index=index: _part(index, 2, then)
      rows += [
        (rf"{block}\.fn\.net\.0\.weight", f"{target}/{half}/kernel", take(_linear)),
        (rf"{block}\.fn\.net\.0\.bias", f"{target}/{half}/bias", take(_same)),
      ]
    rows += _dense(rf"{block}\.fn\.net\.2", f"{target}/wo")
  context = r"perceiver\.layers\.(\d+)\.0\.norm_context"
  return (*rows, *_norm(context, f"{ours}/norm_data"))


def _fusion():
  cbam, projection = r"layer_fusion\.cbam", r"layer_fusion\.projection"
  return (
    (rf"{cbam}\.ca\.se\.0\.weight", "fusion/channel_gate/wi/kernel", _linear),
    (rf"{cbam}\.ca\.se\.2\.weight", "fusion/channel_gate/wo/kernel", _linear),
    (rf"{cbam}\.sa\.conv\.weight", "fusion/spatial_gate/spatial/kernel", _conv),
    *_dense(rf"{projection}\.0", "fusion/wi"),
    *_batch_norm(rf"{projection}\.1", "fusion/batch_norm"),
    *_dense(rf"{projection}\.3", "fusion/wo"),
  )


def _decoder(heads: int):
  root = r"text_decoder\.encoder_decoder\.decoder\.transformer"
  block, ours = rf"{root}\.h\.(\d+)", r"decoder/layer_\1"
  rows = [
    (rf"{root}\.wte\.weight", "decoder/tokens/embedding", _same),
    (rf"{root}\.wpe\.weight", "decoder/positions", _same),
    *_norm(rf"{root}\.ln_f", "decoder/norm"),
    *_norm(rf"{block}\.ln_1", f"{ours}/norm_1"),
    *_norm(rf"{block}\.ln_cross_attn", f"{ours}/norm_2"),
    *_norm(rf"{block}\.ln_2", f"{ours}/norm_3"),
  ]

  # GPT-2 stores (in, out); the transforms expect PyTorch's (out, in).
  def split(index, count):
    heads_of = _heads(heads)
    return _part(index, count, lambda x: heads_of(x.T), axis=-1)

  fused = (
    (r"attn\.c_attn", "self_attention", ("query", "key", "value")),
    (r"crossattention\.q_attn", "cross_attention", ("query",)),
    (r"crossattention\.c_attn", "cross_attention", ("key", "value")),
  )
  for source, target, names in fused:
    for index, name in enumerate(names):
      path = f"{ours}/{target}/{name}"
      take = split(index, len(names))
      rows += [
        (rf"{block}\.{source}\.weight", f"{path}/kernel", take),
        (rf"{block}\.{source}\.bias", f"{path}/bias", take),
      ]
  for source, target in (("attn", "self"), ("crossattention", "cross")):
    path = f"{ours}/{target}_attention/out"
    rows += [
      (
        rf"{block}\.{source}\.c_proj\.weight",
        f"{path}/kernel",
        lambda x: _out(heads)(x.T),
      ),
      (rf"{block}\.{source}\.c_proj\.bias", f"{path}/bias", _same),
    ]
  for source, target in ((r"mlp\.c_fc", "wi"), (r"mlp\.c_proj", "wo")):
    rows += [
      (rf"{block}\.{source}\.weight", f"{ours}/mlp/{target}/kernel", _same),
      (rf"{block}\.{source}\.bias", f"{ours}/mlp/{target}/bias", _same),
    ]
  return tuple(rows)


def priorrg_table(
  *, image_heads=12, text_heads=12, temporal_heads=8, perceiver_heads=8, gpt_heads=12
):
  """The rows of a PriorRG checkpoint of either stage (spec priorrg 7)."""
  return (
    *_vision(image_heads),
    *_text(text_heads),
    *_norm(r"image_projection\.norm", "image_norm"),
    *_head("image"),
    *_head("text"),
    (r"vp_pos_embed", "views", lambda x: x[:, 0]),
    (r"temp_pos_embed", "times", lambda x: x[:, 0]),
    (r"logit_scale", "logit_scale", _same),
    *_norm(r"layer_norm", "no_prior_norm"),
    *_norm(r"layer_norm_fusion", "fusion_norm"),
    *_temporal(temporal_heads),
    *_perceiver(perceiver_heads),
    *_fusion(),
    *_decoder(gpt_heads),
  )


def rename(state: Mapping[str, np.ndarray], table) -> dict:
  """`state` under our paths: {"params": ..., "batch_stats": ...}, nested.

  Raises ValueError naming the first key that no row maps and no entry drops.
  """
  flat = {}
  for key, value in state.items():
    if any(re.fullmatch(pattern, key) for pattern in DROPPED):
      continue
    rows = [row for row in table if re.fullmatch(row[0], key)]
    if not rows:
      raise ValueError(f"Unknown key {key!r} in the checkpoint: no row maps it.")
    for pattern, target, transform in rows:
      path = re.sub(pattern, target, key)
      if not path.startswith("batch_stats/"):
        path = f"params/{path}"
      flat[path] = transform(np.asarray(value))
  return traverse_util.unflatten_dict(flat, sep="/")


def priorrg(state: Mapping[str, np.ndarray], **heads: int) -> tuple[dict, dict]:
  """The model config and variables of an authors' checkpoint of either stage.

  Sizes are read from the shapes; head counts cannot be, and default to the
  paper's. The published treatment of padding is part of the config.
  """
  heads = (
    dict(
      image_heads=12, text_heads=12, temporal_heads=8, perceiver_heads=8, gpt_heads=12
    )
    | heads
  )
  variables = rename(state, priorrg_table(**heads))
  p = variables["params"]
  layers = lambda tree: sum(name.startswith("layer_") for name in tree)
  stem = p["vision"]["stem"]["patch"]["kernel"]
  perceiver, temporal = p["perceiver"], p["temporal"]
  config = dict(
    name="priorrg",
    dtype="float32",
    width=p["times"].shape[1],
    bottleneck=p["image_head"]["wi"]["kernel"].shape[1],
    num_views=p["views"].shape[0],
    pixel_mean=0.5307,
    pixel_std=0.2583,
    mask_padding=False,
    prior_gradient=True,
    embedding_std=1.0,
    vision=dict(
      stem=dict(name="patch", patch_size=stem.shape[0]),
      num_layers=layers(p["vision"]),
      num_heads=heads["image_heads"],
      width=stem.shape[-1],
      mlp_dim=p["vision"]["layer_0"]["mlp"]["wi"]["kernel"].shape[1],
    ),
    text=dict(
      vocab_size=p["text"]["tokens"]["embedding"].shape[0],
      num_layers=layers(p["text"]),
      num_heads=heads["text_heads"],
      width=p["text"]["positions"].shape[1],
      mlp_dim=p["text"]["layer_0"]["mlp"]["wi"]["kernel"].shape[1],
      max_length=p["text"]["positions"].shape[0],
      dropout_rate=0.25,
    ),
    temporal=dict(
      num_layers=layers(temporal),
      num_heads=heads["temporal_heads"],
      head_dim=temporal["layer_0"]["attention"]["query"]["kernel"].shape[2],
      mlp_dim=temporal["layer_0"]["mlp"]["wi"]["kernel"].shape[1],
    ),
    perceiver=dict(
      num_latents=perceiver["latents"].shape[0],
      num_layers=layers(perceiver),
      num_heads=heads["perceiver_heads"],
      head_dim=perceiver["layer_0"]["cross_attention"]["query"]["kernel"].shape[2],
      mlp_dim=perceiver["layer_0"]["cross_mlp"]["wi"]["kernel"].shape[1],
    ),
    # A stage-1 checkpoint has no decoder; the paper's is then meant.
    decoder=dict(
      vocab_size=p["text"]["tokens"]["embedding"].shape[0],
      num_layers=6,
      num_heads=heads["gpt_heads"],
      width=p["times"].shape[1],
      max_length=1024,
      dropout_rate=0.1,
    ),
  )
  if "decoder" in p:
    config["decoder"]["num_layers"] = layers(p["decoder"])
    config["decoder"]["max_length"] = p["decoder"]["positions"].shape[0]
  return config, variables
