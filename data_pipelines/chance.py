"""Chance that depends on names alone: the same on every machine, in every order."""

import hashlib
from typing import Any


def uniform(*key: Any) -> float:
  """A number in [0, 1) that depends on the key alone, on every machine."""
  digest = hashlib.blake2b("\n".join(map(str, key)).encode(), digest_size=8).digest()
  return (int.from_bytes(digest, "little") >> 11) / 2**53
