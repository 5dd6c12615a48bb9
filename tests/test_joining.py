"""Processes that cannot be of one run."""

import socket
import time

import jax
import ml_collections
import numpy as np
import pytest
from jax.experimental import multihost_utils

from jaxrg import joining


def test_a_port_in_use():
  with socket.socket() as server:
    server.bind(("", 0))
    server.listen()
    port = server.getsockname()[1]
    with pytest.raises(ValueError, match=rf"port {port} cannot be .*another program"):
      joining.join(f"localhost:{port}", 1, 0)


def test_a_coordinator_without_a_port():
  with pytest.raises(ValueError, match="HOST:PORT is needed"):
    joining.join("localhost", 1, 0)


@pytest.mark.parametrize(
  ("error", "said"),
  [
    (RuntimeError("DEADLINE_EXCEEDED: Barrier timed out."), "Barrier timed out"),
    (ValueError("coordinator_address should be defined.\nMore."), "should be defined"),
  ],
)
def test_they_do_not_meet(monkeypatch, error, said):
  def initialize(*_):
    raise error

  monkeypatch.setattr(jax.distributed, "initialize", initialize)
  with pytest.raises(ValueError, match=rf"coordinator=h:1, as process 1 of 2.*{said}"):
    joining.join("h:1", 2, 1)


def gather(monkeypatch, change):
  def process_allgather(mine):
    rows = np.stack([mine] * 3)
    change(rows)
    return rows

  monkeypatch.setattr(jax, "process_count", lambda: 3)
  monkeypatch.setattr(multihost_utils, "process_allgather", process_allgather)


def test_all_must_have_one_config_and_the_time(monkeypatch):
  config = ml_collections.ConfigDict({"seed": 1})
  joining.check(config)
  gather(monkeypatch, lambda rows: None)
  joining.check(config)
  gather(monkeypatch, lambda rows: rows.__setitem__((1, 0), 5))
  with pytest.raises(ValueError, match=r"Processes \[1\] have another config"):
    joining.check(config)
  gather(monkeypatch, lambda rows: rows.__setitem__((2, 1), int(time.time()) - 500))
  with pytest.raises(ValueError, match=r"clocks of processes \[2\] are \[-(499|500)\]"):
    joining.check(config)
