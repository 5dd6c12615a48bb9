"""From a film on disk to a report: the ten lines of Python that a user needs."""

import dataclasses
import os
from collections.abc import Mapping

import jax
import numpy as np

from data_pipelines import familiarity, images, records
from jaxrg import cli, exports, inference, inputs

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
    exports.require_writer(checkpoint)
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
    self._encode = inputs.priorrg.make_encode(self._export.tokenizer, **config.text)

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
    size = self._export.config.data.image_size
    pixels = [images.process(images.read(path), size) for path, _ in films]
    judgements, warnings = {}, []
    if self._statistics is None:
      warnings.append(NOT_COMPARED)
    else:
      judgements = {
        os.fspath(path): familiarity.judge(x, self._statistics)
        for (path, _), x in zip(films, pixels)
      }
    refused = any(j.verdict == familiarity.REFUSED for j in judgements.values())
    findings = None
    if force or not refused:
      views = [view or images.view(path) or "unk" for path, view in films]
      if unknown := [view for view in views if view not in known]:
        warnings.append(records.unknown_views(unknown))
      rows = [np.int32(records.view_row(view, known)) for view in views]
      example = {
        "index": np.int32(0),
        "image": pixels[0],
        "view": rows[0],
        "prior_image": pixels[-1] if prior else np.zeros_like(pixels[0]),
        "prior_view": rows[-1],
        "has_prior": np.bool_(bool(prior)),
        **self._encode({"findings": "", "indication": indication, "history": history}),
      }
      batch = jax.tree.map(lambda x: np.asarray(x)[None], example)
      ids, _ = self._generate(self._export.variables, batch)
      findings = self._export.tokenizer.decode(np.asarray(ids)[0])
    caution = cli.INTENDED_USE
    composed = records.is_composed(self._export.config.data.name)
    if composed and self._export.converted_from is None:
      caution = f"{caution} {ONE_ANATOMY}"
    return Report(findings, judgements, caution, tuple(warnings))
