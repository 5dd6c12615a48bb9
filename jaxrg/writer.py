"""An export's model on a split: the reports that it writes, as it is or edited."""

import contextlib
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from etils import epath

from data_pipelines import datasets, loader, records
from jaxrg import attention, exports, inference, inputs, sharding


class Writer:
  """A model and a split, ready to be written or embedded; made once, used often.

  `source` are the raw records of the split, `meta` the parsed ones without images, and
  `places` says of each study that is reported on where its (first) film is in both.
  """

  def __init__(
    self,
    directory: epath.PathLike,
    split: str,
    *,
    data_name: str | None = None,
    data_dir: str | None = None,
    num_beams: int | None = None,
    method: str | None = None,
  ):
    """`method` of the model is what the export must have the parameters of.

    Raises FileNotFoundError or ValueError where there is no such export or split.
    """
    self._mesh = sharding.make_mesh((-1, 1, 1))
    with self._placed():
      self.export = exports.read(directory, self._mesh, method)
    self.config = config = self.export.config
    sharding.check_rows(config.decode.batch_size, self._mesh, "decode.batch_size")
    self.source = datasets.load(
      data_name or config.data.name, split, data_dir or config.data.data_dir
    )
    self.meta = Meta(self.source)
    tokenizer = self.export.tokenizer
    self._read = inputs.to_report_on(config, tokenizer, epath.Path(directory))
    self._examples = self._read(self.source)
    count = len(self._examples)
    self.places = [self._examples.first_film(i) for i in range(count)]
    self._generate = inference.make_generate(
      self.export.model,
      tokenizer,
      num_beams=num_beams or config.decode.num_beams,
      max_length=config.text.report_length,
      length_penalty=config.decode.length_penalty,
    )
    self._embed = inference.make_embed(self.export.model)

  def write(self, *edits: loader.Edit, **changes: Any) -> list[dict]:
    """The split's rows of predictions.jsonl, the inputs edited in turn.

    `changes` are those of `inputs.to_report_on`, of a paper's own.
    """
    return self.rows(self.decode(*edits, **changes))

  def decode(self, *edits: loader.Edit, **changes: Any) -> np.ndarray:
    """The token ids (n t) of the split's reports; arguments as of `write`."""
    with self._placed():
      ids, index = inference.decode_all(
        self._generate,
        self.export.variables,
        self._batches(*edits, **changes),
        self._mesh,
      )
    order = np.argsort(index)
    if not np.array_equal(index[order], np.arange(len(self.places))):
      raise RuntimeError(
        f"{len(index)} reports for the {len(self.places)} of the split: some study is "
        "left out, or written of twice."
      )
    return ids[order]

  def rows(self, ids: np.ndarray) -> list[dict]:
    """The rows of predictions.jsonl of the reports whose ids (n t) these are."""
    texts = map(self.export.tokenizer.decode, ids)
    return [self._row(at, text) for at, text in zip(self.places, texts, strict=True)]

  def looks(self, ids: np.ndarray, topics: Sequence[str] = ()) -> list[attention.Looks]:
    """What the words of the split's reports, whose ids (n t) these are, looked at.

    `topics` name those of EIR.
    """
    attend = attention.make_attend(self.export.model, self.config.paper)
    batches = (rows | {"ids": ids[rows["index"]]} for rows in self._batches())
    tell = lambda rows: attend(self.export.variables, rows, rows["ids"])
    with self._placed():
      weights = inference.collect(tell, batches, self._mesh)
    names = attention.READ[self.config.paper]
    return [
      attention.of_words(
        dict(zip(names, of_report)), row, self.export.tokenizer, topics
      )
      for row, *of_report in zip(ids, *weights, strict=True)
    ]

  def _row(self, at: int, report: str) -> dict:
    record = self.meta[at]
    prior = self.meta[record["prior"]] if record["prior"] >= 0 else None
    return row(record, report, prior)

  def embed(self, *edits: loader.Edit) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n d) of the split's images, edited in turn, and of its reports."""
    with self._placed():
      return inference.embed_all(
        self._embed, self.export.variables, self._batches(*edits), self._mesh
      )

  def classify(self) -> tuple[np.ndarray, np.ndarray]:
    """How likely each topic of the split's studies is present, and its true state."""
    with self._placed():
      return inference.classify_all(
        inference.make_classify(self.export.model),
        self.export.variables,
        self._batches(),
        self._mesh,
      )

  def _batches(self, *edits: loader.Edit, **changes: Any):
    examples = self._examples
    if edits or changes:
      examples = self._read(self.source, *edits, **changes)
    return loader.eval_batches(
      examples,
      batch_size=self.config.decode.batch_size,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )

  @contextlib.contextmanager
  def _placed(self):
    with jax.set_mesh(self._mesh), nn.logical_axis_rules(sharding.AXIS_RULES):
      yield


class Meta(Sequence):
  """The parsed records of a split without their images.

  A prior that is no example of the split is read when it is asked for.
  """

  def __init__(self, source: Sequence[Any]):
    self._source = source
    self._records = [loader.parse_text(source, i) for i in range(len(source))]

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> loader.Record:
    if index < len(self._records):
      return self._records[index]
    return loader.parse_text(self._source, index)

  def __iter__(self) -> Iterator[loader.Record]:
    return iter(self._records)


def _days(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> int | None:
  """How many whole days lie between; None where a date is not known."""
  times = [record["study_time"] for record in (earlier, later)]
  if not all(times):
    return None
  before, after = map(datetime.datetime.fromisoformat, times)
  return (after - before).days


def row(
  record: Mapping[str, Any], prediction: str, prior: Mapping[str, Any] | None = None
) -> dict:
  """A line of predictions.jsonl; of the `prior` record it tells how long ago it was."""
  truth = record["truth"]
  known = (record["labels"] != records.UNMENTIONED).any()
  return {
    "id": record["id"],
    "patient_id": record["patient_id"],
    "study_id": record["study_id"],
    "view": record["view"],
    "has_prior": bool(record["prior"] >= 0),
    "prior_days": None if prior is None else _days(prior, record),
    "has_context": bool(record["indication"] or record["history"]),
    "reference": record["findings"],
    "prediction": prediction,
    "prior_report": record["prior_report"],
    "labels": record["labels"].tolist() if known else None,
    "truth": json.loads(truth) if truth else None,
  }
