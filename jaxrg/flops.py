"""How many floating-point operations a computation asks for, by its mathematics.

What a machine makes of it, fuses, pads or computes twice, has no part in it: products
of matrices and convolutions count 2 for each product and its sum, all else nothing.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from jaxrg.models import layers

# bfloat16 operations a second, of one device; from the makers' data sheets, dense.
PEAKS = {
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5": 459e12,
  "TPU v6 lite": 918e12,
  "NVIDIA A100": 312e12,
  "NVIDIA H100": 989e12,
  "NVIDIA H200": 989e12,
}


def peak(device_kind: str) -> float | None:
  """Operations a second of a device in bfloat16, or None where they are not known."""
  kinds = [kind for kind in PEAKS if device_kind.startswith(kind)]
  return PEAKS[max(kinds, key=len)] if kinds else None


def count(function: Callable, *arguments: Any, loop: int = 1) -> int:
  """Of a call with such arguments, arrays or their shapes; over all devices.

  A loop whose end depends on data counts `loop` times. Attention counts as if all of
  its weights were kept: nothing is computed twice.
  """
  with layers.long_attention(layers.attend_at_once):
    return _of_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr, loop)


def _of_jaxpr(jaxpr: core.Jaxpr, loop: int) -> int:
  return sum(_of_equation(equation, loop) for equation in jaxpr.eqns)


def _of_equation(equation: Any, loop: int) -> int:
  params = equation.params
  match equation.primitive.name:
    case "dot_general":
      (contracted, _), _ = params["dimension_numbers"]
      shape = equation.invars[0].aval.shape
      size = math.prod(equation.outvars[0].aval.shape)
      return 2 * size * math.prod(shape[i] for i in contracted)
    case "conv_general_dilated":
      kernel = equation.invars[1].aval.shape
      _, inputs, *places = params["dimension_numbers"].rhs_spec
      window = math.prod(kernel[i] for i in (inputs, *places))
      return 2 * math.prod(equation.outvars[0].aval.shape) * window
    case "cond":
      return max(_of_jaxpr(branch.jaxpr, loop) for branch in params["branches"])
    case "scan":
      return params["length"] * _of_jaxpr(params["jaxpr"].jaxpr, loop)
    case "while":
      return loop * _of_jaxpr(params["body_jaxpr"].jaxpr, loop)
  return sum(_of_jaxpr(inner, loop) for inner in _inner(params))


def _inner(params: dict[str, Any]) -> list[core.Jaxpr]:
  """The jaxprs that a primitive such as jit or while calls."""
  found = []
  for value in params.values():
    if isinstance(value, core.ClosedJaxpr):
      found.append(value.jaxpr)
    elif isinstance(value, core.Jaxpr):
      found.append(value)
  return found
