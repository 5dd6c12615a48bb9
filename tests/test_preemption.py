"""A run that is told to end: it saves, and goes on as if it had never been told."""

import signal

import pytest

import micro
from jaxrg import evaluation, exports, logs, preemption, runs, validation
from test_runs import assert_same_run


def tell():
  signal.raise_signal(signal.SIGTERM)


def told(module, name, when=lambda *_, **__: True):
  """Makes the first call of a function for which `when` holds give the notice."""

  def patch(monkeypatch):
    called, before = [], getattr(module, name)

    def telling(*args, **kwargs):
      if not called and when(*args, **kwargs):
        called.append(True)
        tell()
      return before(*args, **kwargs)

    monkeypatch.setattr(module, name, telling)

  return patch


def step(stage, number):
  return lambda log, step, *_: (log._name, step) == (stage, number)


NOTICES = {
  "a step between two saves": (
    told(logs.MetricsLog, "add", step("pretrain", 1)),
    "Stopped after step 1 of 6 of stage pretrain, which is saved",
  ),
  "a step with a save": (
    told(logs.MetricsLog, "add", step("pretrain", 4)),
    "Stopped after step 4 of 6 of stage pretrain",
  ),
  "a step before validation": (
    told(logs.MetricsLog, "add", step("finetune", 3)),
    "Stopped after step 3 of 6 of stage finetune",
  ),
  "validation": (
    told(validation, "_average"),
    "Stopped after step 4 of 6 of stage pretrain",
  ),
  "the last step": (
    told(logs.MetricsLog, "add", step("finetune", 6)),
    "Stopped after step 6 of 6 of stage finetune",
  ),
  "an export": (told(exports, "write"), "Stopped: the same command goes on"),
  "evaluation": (told(evaluation, "evaluate"), "Stopped: the same command goes on"),
}


@pytest.mark.parametrize("notice", NOTICES)
def test_told_to_end_it_saves_and_goes_on(
  notice, finished, miniature, tmp_path, monkeypatch
):
  patch, message = NOTICES[notice]
  workdir = tmp_path / "run"
  with monkeypatch.context() as patched:
    patch(patched)
    with pytest.raises(preemption.Preempted, match=message), preemption.heeded():
      runs.run(micro.get_config(), workdir)
  runs.run(micro.get_config(), workdir)
  assert_same_run(workdir, finished)


def test_a_notice_is_of_one_run_alone():
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(preemption.Preempted), preemption.heeded():
    tell()
  assert not preemption.reached(1)
  assert signal.getsignal(signal.SIGTERM) is before


def test_a_notice_after_the_last_look_is_not_lost():
  def told_while_it_waits():
    with preemption.heeded(), preemption.deferred():
      assert not preemption.reached(1)
      tell()
      assert preemption.reached(2)

  with pytest.raises(preemption.Preempted, match=preemption.AT_ONCE):
    told_while_it_waits()
