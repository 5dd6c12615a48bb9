"""From a film on disk to a report: the ten lines of Python that a user needs."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from etils import epath

from data_pipelines import cli, familiarity, images, records
from data_pipelines.films import ABSENT
from data_pipelines.loader import Record
from jaxrg import embedding, exports, inference, inputs, retriever
from jaxrg.evidence import Evidence

NOT_COMPARED = (
  "NOT COMPARED: whether this is like the films that the model was trained on, nobody "
  "can say: the export has no familiarity.npz. It would report on a tibia, too."
)
ONE_ANATOMY = (
  "The model has seen films composed from one CT only: this is a smoke test."
)


@dataclasses.dataclass(frozen=True)
class Report:
  """What was written, and what speaks against trusting it."""

  findings: str | None  # None where a picture was refused.
  judgements: Mapping[str, familiarity.Judgement]  # By file; none without statistics.
  caution: str
  warnings: tuple[str, ...] = ()  # What else is to be known of the films.
  evidence: Evidence | None = None  # Of EIR's reports.


class Reporter:
  """A model, ready to write; made once, used for any number of films."""

  def __init__(
    self,
    checkpoint: str | os.PathLike,
    *,
    num_beams: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
  ):
    self._export = exports.read(checkpoint)
    self._statistics = exports.read_familiarity(checkpoint)
    config = self._export.config
    if num_beams is None:
      num_beams = 1 if temperature else config.decode.num_beams
    self._generate = inference.make_generate(
      self._export.model,
      self._export.tokenizer,
      num_beams=num_beams,
      max_length=config.text.report_length,
      length_penalty=config.decode.length_penalty,
      temperature=temperature,
      top_p=top_p,
      seed=seed,
    )
    reads = {"priorrg": WithPrior, "eir": WithSimilar}[config.paper]
    self._reads = reads(self._export, epath.Path(checkpoint))

  def report(
    self,
    image: str | os.PathLike,
    *,
    prior: str | os.PathLike | None = None,
    indication: str = "",
    history: str = "",
    view: str | None = None,
    prior_view: str | None = None,
    force: bool = False,
  ) -> Report:
    """The findings of one film; a view that is not given is the file's own, or unk.

    Raises ValueError or OSError, naming the file, where a film cannot be read, and
    ValueError for a view that the model does not know, or a part that it never sees.
    """
    parts = {"prior": prior, "context": indication or history}
    for part in self._export.config.data.without:
      if parts[part]:
        raise ValueError(
          f"This model was trained without {part} (config.data.without); give it none."
        )
    known = self._export.config.data.views
    for name, given in (("view", view), ("prior_view", prior_view)):
      if given is not None and given not in known:
        raise ValueError(f"{name}={given}: the model knows {', '.join(known)}.")
    films = [(image, view)] + ([(prior, prior_view)] if prior else [])
    size, window = (
      self._export.config.data[key] for key in ("image_size", "dicom_window")
    )
    pixels = [images.process(images.read(path, window), size) for path, _ in films]
    judgements, warnings = {}, []
    if self._statistics is None:
      warnings.append(NOT_COMPARED)
    else:
      judgements = {
        os.fspath(path): familiarity.judge(x, self._statistics)
        for (path, _), x in zip(films, pixels)
      }
    refused = any(j.verdict == familiarity.REFUSED for j in judgements.values())
    findings = evidence = None
    if force or not refused:
      views = [view or images.view(path) or "unk" for path, view in films]
      if unknown := [view for view in views if view not in known]:
        warnings.append(records.unknown_views(unknown))
      rows = [records.view_row(view, known) for view in views]
      record = {"findings": "", "indication": indication, "history": history}
      example, evidence = self._reads(pixels, rows, record)
      batch = jax.tree.map(lambda x: np.asarray(x)[None], example)
      ids, _ = self._generate(self._export.variables, batch)
      findings = self._export.tokenizer.decode(np.asarray(ids)[0])
    caution = cli.INTENDED_USE
    composed = records.is_composed(self._export.config.data.name)
    if composed and self._export.converted_from is None:
      caution = f"{caution} {ONE_ANATOMY}"
    return Report(findings, judgements, caution, tuple(warnings), evidence)


class WithPrior:
  """What PriorRG reads of a film, and of an earlier one where it is given."""

  def __init__(self, export: exports.Export, folder: epath.Path):
    self._encode = inputs.priorrg.make_encode(export.tokenizer, **export.config.text)

  def __call__(
    self, films: Sequence[np.ndarray], views: Sequence[int], record: Record
  ) -> tuple[dict[str, np.ndarray], Evidence | None]:
    has_prior = len(films) > 1
    return {
      "index": np.int32(0),
      "image": films[0],
      "view": np.int32(views[0]),
      "prior_image": films[-1] if has_prior else np.zeros_like(films[0]),
      "prior_view": np.int32(views[-1]),
      "has_prior": np.bool_(has_prior),
      **self._encode(record),
    }, None


class WithSimilar:
  """What EIR reads of a film: the history, and the graph of the studies like it."""

  def __init__(self, export: exports.Export, folder: epath.Path):
    self._config = config = export.config
    tokenizer = export.tokenizer
    self._embed = embedding.make_embed(export.model, config.retrieve.vectors)
    asked = inputs.eir.read_topics(folder)
    self._encode = inputs.eir.make_encode(config, tokenizer, asked)
    self._pad = inputs.eir.make_pad(config, tokenizer)
    self._grow, self._retriever = inputs.eir.make_grow(config, folder), None
    if inputs.eir.reads_neighbours(config):
      self._retriever = retriever.read(folder / inputs.eir.RETRIEVER)

  def __call__(
    self, films: Sequence[np.ndarray], views: Sequence[int], record: Record
  ) -> tuple[dict[str, np.ndarray], Evidence | None]:
    count, similar = self._config.data.max_films, ()
    image = np.zeros((count, *films[0].shape), np.uint8)
    image[0] = films[0]
    if self._retriever is not None:
      found = self._retriever.similar(self._embed, films[0], self._grow.count)
      similar = tuple(found)
    graph = self._grow([study for study, _ in similar])
    unknown = np.full(len(records.LABELS), records.UNMENTIONED)
    return {
      "index": np.int32(0),
      "image": image,
      "view": np.int32([views[0]] + [ABSENT] * (count - 1)),
      "has_view": np.arange(count) < 1,
      **self._encode(record | {"labels": unknown}),
      **self._pad(graph),
    }, Evidence(similar, graph)
