"""The stream is a pure function of (seed, step); evaluation scores everything once."""

import os
import shutil

import numpy as np
import pytest

from data_pipelines import datasets, images, loader, records

SIZE, COUNT, BATCH = 4, 22, 8


class Source:
  """In-memory raw records as tfds gives them; `damaged` ones cannot be read."""

  def __init__(self, rows, damaged=()):
    self.rows, self.damaged = rows, damaged

  def __len__(self):
    return len(self.rows)

  def __getitem__(self, index):
    if index in self.damaged:
      raise RuntimeError("crc mismatch\nin chunk 3")
    return self.rows[index]


def raw_record(index):
  """Every third record has the one before it as its prior; study 0 has two views."""
  prior = index - 1 if index % 3 == 2 else -1
  image = np.full((SIZE, SIZE, 1), index + 1, np.uint8)
  row = {name: b"" for name, (dtype, _) in records.FIELDS.items() if dtype is str}
  return row | {
    "id": f"p_s{max(index, 1)}_{index}".encode(),
    "study_id": f"s{max(index, 1)}".encode(),
    "view": (b"PA", b"LATERAL", b"sideways")[index % 3],
    "image": image,
    "prior": prior,
    "findings": f"Sentence {index}.".encode(),
    "labels": np.full(len(records.LABELS), -2, np.int8),
  }


def source(damaged=()):
  return Source([raw_record(i) for i in range(COUNT)], damaged)


def studies_of(rows, *, image_size=SIZE, views=records.VIEWS, edit=None):
  encode = lambda record: {"length": np.int32(len(record["findings"]))}
  options = dict(image_size=image_size, views=views, edit=edit)
  return loader.Studies(rows, encode, **options)


def studies(damaged=(), edit=None):
  return studies_of(source(damaged), edit=edit)


def train_batches(count, **kwargs):
  stream = loader.train_stream(studies(), **({"batch_size": BATCH, "seed": 0} | kwargs))
  return [next(stream) for _ in range(count)]


def assert_same(batches, others):
  assert len(batches) == len(others)
  for batch, other in zip(batches, others):
    assert batch.keys() == other.keys()
    for name in batch:
      np.testing.assert_array_equal(batch[name], other[name])


def indices(batches):
  return np.concatenate([batch["index"] for batch in batches]).tolist()


@pytest.mark.parametrize("step", [1, 2, 7])
def test_a_later_start_continues_the_stream(step):
  assert_same(train_batches(12)[step:], train_batches(12 - step, start_step=step))


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_global_batches_in_order(count):
  parts = [
    train_batches(5, process_index=p, process_count=count, start_step=3)
    for p in range(count)
  ]
  assert parts[0][0]["index"].shape == (BATCH // count,)
  joined = [
    {name: np.concatenate([part[name] for part in step]) for name in step[0]}
    for step in zip(*parts)
  ]
  assert_same(joined, train_batches(5, start_step=3))


def test_an_epoch_holds_every_record_once():
  # 8 x 11 rows are four epochs of 22.
  rows = np.reshape(indices(train_batches(11)), (4, COUNT))
  assert (np.sort(rows) == np.arange(COUNT)).all()
  assert len({tuple(epoch) for epoch in rows.tolist()}) == 4


def test_the_seed_decides_the_order():
  assert indices(train_batches(3)) == indices(train_batches(3))
  assert indices(train_batches(3)) != indices(train_batches(3, seed=1))


GROUPS = [f"s{max(i // 3, 1)}" for i in range(COUNT)]  # Of 6, 3, ... 3, 1.


def test_groups_stay_side_by_side_in_every_epoch():
  rows = np.reshape(indices(train_batches(11, groups=GROUPS)), (4, COUNT)).tolist()
  orders = set()
  for epoch in rows:
    assert sorted(epoch) == list(range(COUNT))
    groups = [GROUPS[i] for i in epoch]
    runs = [g for g, before in zip(groups, [None, *groups]) if g != before]
    assert len(runs) == len(set(GROUPS))
    orders.add(tuple(runs))
  assert len(orders) == 4
  assert rows != np.reshape(indices(train_batches(11)), (4, COUNT)).tolist()


def test_groups_are_ordered_by_seed_and_step():
  batches = train_batches(12, groups=GROUPS)
  assert_same(train_batches(7, groups=GROUPS, start_step=5), batches[5:])
  assert indices(train_batches(3, groups=GROUPS, seed=1)) != indices(batches[:3])
  parts = [
    train_batches(12, groups=GROUPS, process_index=p, process_count=2) for p in (0, 1)
  ]
  joined = [np.concatenate([b["index"] for b in step]) for step in zip(*parts)]
  assert np.concatenate(joined).tolist() == indices(batches)


def test_groups_are_of_the_chosen_indices():
  chosen, groups = [3, 20, 7, 11], ["x", "y", "x", "y"]
  batches = train_batches(4, batch_size=2, indices=chosen, groups=groups)
  assert {tuple(batch["index"].tolist()) for batch in batches} == {(3, 7), (20, 11)}
  with pytest.raises(ValueError, match="shorter"):
    train_batches(1, batch_size=2, indices=chosen, groups=groups[:3])


def test_without_groups_the_order_is_as_ever():
  """Runs resume by it: a change of it would be a change of every run."""
  rows = [batch["index"].tolist() for batch in train_batches(2)]
  assert rows == [[21, 2, 13, 14, 9, 7, 17, 6], [18, 3, 20, 15, 12, 11, 5, 4]]


def test_chosen_indices_alone_are_streamed():
  chosen = np.arange(3, 13)
  seen = indices(train_batches(5, indices=chosen, batch_size=2))
  assert sorted(seen) == chosen.tolist()


def eval_rows(batch_size=BATCH, count=1, **kwargs):
  """Index and validity of all rows of all processes."""
  rows = []
  for p in range(count):
    batches = loader.eval_batches(
      studies(), batch_size=batch_size, process_index=p, process_count=count, **kwargs
    )
    batches = list(batches)
    assert {len(batch["index"]) for batch in batches} == {batch_size // count}
    rows += [(int(i), bool(v)) for b in batches for i, v in zip(b["index"], b["valid"])]
  return rows


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [8, 64])
def test_evaluation_scores_every_example_once(batch_size, count):
  rows = eval_rows(batch_size, count)
  assert sorted(i for i, valid in rows if valid) == list(range(COUNT))
  assert len(rows) % batch_size == 0


def test_evaluation_of_chosen_examples_keeps_their_order():
  rows = eval_rows(4, indices=[7, 2, 20, 9, 1])
  assert [i for i, valid in rows if valid] == [7, 2, 20, 9, 1]


def test_an_example_is_its_record_with_its_prior():
  example = studies()[5]
  assert example["image"].dtype == np.uint8
  assert (example["image"] == 6).all()
  assert (example["prior_image"] == 5).all()
  assert example["has_prior"]
  assert example["view"] == records.VIEWS.index("unk")
  assert example["prior_view"] == records.VIEWS.index("LATERAL")
  assert example["length"] == len("Sentence 5.")


def test_views_are_rows_of_the_table_that_is_given():
  example = studies_of(source(), views=("LATERAL", "PA", "unk", "sideways"))[5]
  assert (example["view"], example["prior_view"]) == (3, 0)


def test_a_film_whose_view_is_unknown_is_counted_once():
  rows = source()
  rows.rows[3]["view"] = b""  # Missing, which is what unk is for.
  table = ("LATERAL", "unk")
  split = studies_of(rows, views=table)
  for _ in range(2):
    assert split[5]["view"] == split[3]["view"] == table.index("unk")
    assert split[6]["prior_view"] == table.index("unk")
  assert split.unknown_views == {5: "sideways", 6: "PA"}
  assert records.unknown_views(["RL"]) == (
    "1 film has a view that is not in config.data.views and was read as unk: RL (1)"
  )
  assert records.unknown_views(["RL", "XTABLE", "RL"]).endswith(
    "3 films have a view that is not in config.data.views and were read as unk: "
    "RL (2), XTABLE (1)"
  )


def test_an_image_comes_in_the_size_that_is_asked_for():
  rows = source()
  rows.rows[5]["image"] = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
  example = studies_of(rows, image_size=8)[5]
  assert (example["image"].shape, example["prior_image"].shape) == ((8, 8, 1),) * 2
  expected = images.process(rows.rows[5]["image"], 8)
  np.testing.assert_array_equal(example["image"], expected)


def test_a_missing_prior_is_zeros_and_a_mask():
  example = studies()[4]
  assert not example["has_prior"]
  assert not example["prior_image"].any()
  assert example["prior_view"] == records.VIEWS.index("unk")


def test_views_of_a_study_share_its_key():
  keys = [tuple(studies()[i]["study"].tolist()) for i in range(4)]
  assert keys[0] == keys[1]
  assert len(set(keys)) == 3


def test_priors_can_be_denied_and_exchanged():
  denied = studies(edit=lambda index, record: record | {"prior": np.int64(-1)})
  assert not any(denied[i]["has_prior"] for i in range(COUNT))
  turned = lambda index, record: record | {"prior": np.int64(COUNT - 1 - index)}
  exchanged = studies(edit=turned)[5]
  assert exchanged["has_prior"]
  assert (exchanged["prior_image"] == COUNT - 5).all()
  assert exchanged["prior_view"] == records.VIEWS.index("LATERAL")


def test_an_edit_is_of_the_current_study_alone():
  """What it makes of a record is not what others have as their prior."""
  changes = {"view": "AP", "findings": "Short."}

  def edit(index, record):
    image = np.full_like(record["image"], 200 + index)
    return record | changes | {"image": image}

  plain, edited = studies()[5], studies(edit=edit)[5]
  assert (edited["image"] == 205).all()
  assert edited["view"] == records.VIEWS.index("AP")
  assert edited["length"] == len("Short.")
  for name in ("prior_image", "prior_view", "has_prior", "study", "patient", "index"):
    np.testing.assert_array_equal(edited[name], plain[name])


@pytest.mark.parametrize("index", [7, 8], ids=["itself", "its prior"])
def test_a_damaged_record_is_named(index):
  with pytest.raises(ValueError, match=r"^Record 7 .*damaged: crc mismatch") as info:
    studies(damaged=[7])[index]
  assert "\n" not in str(info.value)
  assert "skip_damaged" in str(info.value)


def test_a_damaged_record_stops_the_stream():
  stream = loader.train_stream(studies(damaged=[7]), batch_size=COUNT, seed=0)
  with pytest.raises(ValueError, match="Record 7 "):
    next(stream)


@pytest.mark.parametrize(
  ("field", "value"), [("labels", None), ("prior", b"x"), ("findings", b"\xff")]
)
def test_a_field_that_cannot_be_read_is_damage(field, value):
  rows = source()
  rows.rows[4][field] = value
  with pytest.raises(ValueError, match="Record 4 "):
    loader.parse(rows, 4)


def test_an_empty_report_is_named_and_skipped():
  rows = source()
  rows.rows[4]["findings"] = b" \n"
  with pytest.raises(ValueError, match=r"^Record p_s4_4 has an empty report\."):
    list(loader.parse_texts(rows, skip_damaged=False))
  assert len(list(loader.parse_texts(rows, skip_damaged=True))) == COUNT - 1
  # As a prior it is an image like any other.
  assert studies_of(rows).readable()[1] == [4]


def test_damaged_records_can_be_skipped_and_counted():
  good, bad = studies(damaged=[7]).readable()
  # Record 8 has 7 as its prior.
  assert bad == [7, 8]
  assert good == [i for i in range(COUNT) if i not in bad]


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"batch_size": 23}, "A batch of 23 needs as many records, but the split has 22"),
    ({"batch_size": 4, "indices": [1, 2, 3]}, "the split has 3"),
    ({"batch_size": 6, "process_count": 4}, "batch_size=6 .* over 4 processes"),
  ],
)
def test_batches_that_cannot_be(options, message):
  with pytest.raises(ValueError, match=message):
    train_batches(1, **options)


def test_evaluation_batches_that_cannot_be():
  with pytest.raises(ValueError, match=r"batch_size=6 .* over 4 processes"):
    eval_rows(6, 4)


def test_a_damaged_file_of_a_real_set(tmp_path):
  """Overturned bytes in an ArrayRecord file are found; what is whole is read."""
  datasets.load("thorax/tiny", "validation")
  shutil.copytree(os.environ["TFDS_DATA_DIR"], tmp_path, dirs_exist_ok=True)
  (path,) = tmp_path.glob("thorax/tiny/*/*validation.array_record*")
  data = bytearray(path.read_bytes())
  middle = len(data) // 2
  data[middle : middle + 8] = bytes(8)
  path.write_bytes(data)
  rows = datasets.load("thorax/tiny", "validation", tmp_path)
  good, bad = studies_of(rows, image_size=64).readable()
  assert 1 <= len(bad) < 10
  assert len(good) > 30
  with pytest.raises(ValueError, match=rf"^Record {bad[0]} of the split is damaged: "):
    list(loader.parse_texts(rows, skip_damaged=False))
  # A whole record may have a damaged prior.
  kept = list(loader.parse_texts(rows, skip_damaged=True))
  assert len(good) <= len(kept) < len(rows)
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 3])
  rows = datasets.load("thorax/tiny", "validation", tmp_path)
  with pytest.raises(ValueError, match=r"^Record 0 of the split is damaged: "):
    loader.parse(rows, 0)


def test_an_example_in_memory_is_read_once():
  rows = source()
  options = dict(image_size=SIZE, views=records.VIEWS)
  encode = lambda record: {"length": np.int32(len(record["findings"]))}
  kept = loader.Studies(rows, encode, in_memory=True, **options)
  first = [kept[i] for i in range(COUNT)]
  rows.rows = None  # Whoever reads on would fail.
  assert_same([kept[i] for i in range(COUNT)], first)
  assert_same(first, [studies()[i] for i in range(COUNT)])


def test_some_of_a_split_are_spread_over_it():
  assert loader.spread(9, 3) == [0, 4, 8]
  assert loader.spread(3, 9) == [0, 1, 2]


def test_whose_films_are_composed():
  assert records.is_composed("thorax")
  assert records.is_composed("thorax/tiny")
  assert not records.is_composed("mimic_cxr")
  assert not records.is_composed("thoraxes/tiny")
