"""States saved and restored, on this mesh or another; exports whole or not at all."""

import shutil

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrg import checkpoint, sharding


def state(value=0.0, rows=8, mesh=(-1, 1, 1)):
  place = NamedSharding(sharding.make_mesh(mesh), P(("data", "fsdp")))
  return {
    "step": jax.numpy.int32(value),
    "params": jax.device_put(np.arange(rows) + np.float32(value), place),
  }


def abstract(state):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )


def save_all(directory, scores, keep=2):
  """Saves step 1, 2, ... with their scores; None: without one."""
  with checkpoint.open_dir(directory, keep=keep) as checkpoints:
    for step, score in enumerate(scores, 1):
      checkpoint.save(checkpoints, step, state(step), score=score)
  return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def test_the_newest_state_comes_back(tmp_path):
  save_all(tmp_path, [None, None])
  with checkpoint.open_dir(tmp_path, keep=2) as checkpoints:
    restored = checkpoint.restore(checkpoints, abstract(state()))
    older = checkpoint.restore(checkpoints, abstract(state()), 1)
  np.testing.assert_array_equal(restored["params"], np.arange(8) + 2)
  assert restored["step"] == 2
  assert older["step"] == 1


def test_a_new_run_has_nothing_to_restore(tmp_path):
  with checkpoint.open_dir(tmp_path, keep=2) as checkpoints:
    assert checkpoint.restore(checkpoints, abstract(state())) is None


def test_a_state_comes_back_on_another_mesh(tmp_path):
  save_all(tmp_path, [None])
  other = state(mesh=(2, 1, 4))
  with checkpoint.open_dir(tmp_path, keep=2) as checkpoints:
    restored = checkpoint.restore(checkpoints, abstract(other))
  np.testing.assert_array_equal(restored["params"], np.arange(8) + 1)
  assert restored["params"].sharding == other["params"].sharding


@pytest.mark.parametrize(
  ("scores", "kept"),
  [
    ([None, None, None, None], [3, 4]),
    ([0.1, 0.9, None, 0.5, None], [2, 4, 5]),
    # Of equals the newest is the best, as `state.record_score` counts.
    ([0.9, 0.9, 0.1, 0.1, 0.1], [2, 4, 5]),
    ([-3.0, -2.0, -5.0, None, None], [2, 4, 5]),
  ],
)
def test_the_newest_and_the_best_are_kept(tmp_path, scores, kept):
  assert save_all(tmp_path, scores) == kept


def test_a_state_of_another_config(tmp_path):
  save_all(tmp_path, [None])
  with checkpoint.open_dir(tmp_path, keep=2) as checkpoints:
    for wanted in (state(rows=16), state() | {"more": jax.numpy.zeros(3)}):
      with pytest.raises(ValueError, match="does not fit this config") as info:
        checkpoint.restore(checkpoints, abstract(wanted))
      assert str(info.value).startswith(str(tmp_path / "1"))
      assert "\n" not in str(info.value)


def test_a_damaged_checkpoint(tmp_path):
  save_all(tmp_path, [None])
  cut_arrays(tmp_path / "1")
  with (
    checkpoint.open_dir(tmp_path, keep=2) as checkpoints,
    pytest.raises(OSError, match=rf"^{tmp_path / '1'}: .* is damaged: ") as info,
  ):
    checkpoint.restore(checkpoints, abstract(state()))
  assert "\n" not in str(info.value)


def cut_arrays(step):
  for path in (step / "state").glob("**/d/*"):
    path.write_bytes(path.read_bytes()[:10])


def lose_arrays(step):
  shutil.rmtree(step / "state/d")


def cut_index(step):
  path = step / "state/_METADATA"
  path.write_bytes(path.read_bytes()[:30])


@pytest.mark.parametrize("damage", [cut_arrays, lose_arrays, cut_index])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
  tmp_path, damage, caplog
):
  save_all(tmp_path, [None, 0.5, None])
  damage(tmp_path / "3")
  with checkpoint.open_dir(tmp_path, keep=2) as checkpoints:
    restored = checkpoint.restore(checkpoints, abstract(state()))
    assert restored["step"] == 2
    told = [record.getMessage() for record in caplog.records]
    [warning] = [line for line in told if "the checkpoint is damaged" in line]
    assert warning.startswith(f"{tmp_path / '3'}: the checkpoint is damaged: ")
    assert warning.endswith("Going on from step 2 instead.")
    # The steps after it run again, and take its place.
    checkpoint.save(checkpoints, 3, state(3))
  with checkpoint.open_dir(tmp_path, keep=2) as checkpoints:
    assert checkpoint.restore(checkpoints, abstract(state()))["step"] == 3


def test_what_a_killed_save_left_is_in_nobodys_way(tmp_path):
  save_all(tmp_path, [None])
  leftover = tmp_path / "2.orbax-checkpoint-tmp"
  shutil.copytree(tmp_path / "1/state", leftover / "state")
  with checkpoint.open_dir(tmp_path, keep=2) as checkpoints:
    assert checkpoint.restore(checkpoints, abstract(state()))["step"] == 1
    checkpoint.save(checkpoints, 2, state(2))
  assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def variables(value=1.0):
  return {
    "params": {"kernel": jax.numpy.full(3, value)},
    "batch_stats": {"mean": jax.numpy.zeros(2)},
  }


def test_an_export_is_its_variables_and_files(tmp_path):
  directory = tmp_path / "export"
  checkpoint.export(directory, variables(), {"a.json": b"{}", "b/c": b"x"})
  shapes = checkpoint.variable_shapes(directory)
  assert shapes["batch_stats"]["mean"].shape == (2,)
  loaded = checkpoint.load_variables(directory, abstract(variables()))
  assert jax.tree.all(jax.tree.map(np.array_equal, loaded, variables()))
  assert (directory / "b/c").read_bytes() == b"x"
  assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_an_export_replaces_another_and_what_was_left_of_one(tmp_path):
  directory = tmp_path / "export"
  checkpoint.export(directory, variables(1.0), {"old": b""})
  (tmp_path / "export.unfinished/variables").mkdir(parents=True)
  (tmp_path / "export.unfinished/left").touch()
  checkpoint.export(directory, variables(2.0), {"new": b""})
  loaded = checkpoint.load_variables(directory, abstract(variables()))
  assert loaded["params"]["kernel"][0] == 2
  assert sorted(path.name for path in directory.iterdir()) == ["new", "variables"]


def test_a_folder_that_is_no_export(tmp_path):
  with pytest.raises(FileNotFoundError, match="is no export"):
    checkpoint.load_variables(tmp_path, abstract(variables()))
  with pytest.raises(FileNotFoundError, match="is no export"):
    checkpoint.load_config(tmp_path)
  (tmp_path / "config.json").write_text('{"stage": "fine')
  with pytest.raises(ValueError, match=r"config\.json is damaged"):
    checkpoint.load_config(tmp_path)
