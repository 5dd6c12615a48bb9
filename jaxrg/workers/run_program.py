"""Runs a program of this folder: python run.py greedy batch.npz ids.npy

It needs `pip install jax flatbuffers` and nothing else.
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
from jax import export

if len(sys.argv) != 4:
  sys.exit("usage: python run.py encode|greedy|beam BATCH.npz OUT.npy")
name, source, target = sys.argv[1:]
folder = pathlib.Path(__file__).parent
program = export.deserialize(bytearray((folder / f"{name}.stablehlo").read_bytes()))
(names, inputs), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
variables, batch = jnp.load(folder / "variables.npz"), jnp.load(source)
outputs = jax.jit(program.call)(
  {key: variables[key] for key in names}, {key: batch[key] for key in inputs}
)
jnp.save(target, jax.tree.leaves(outputs)[0])  # Hidden states, or ids of tokens.
