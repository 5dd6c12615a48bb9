"""A program's text read: known answers, and one small topology's real compiler."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from jaxrg.planning import hlo, plan, roofline, topologies

CHIP = topologies.Chip("toy", 1e9, 1e12, 1e9, 1e8, 2, 4)
SLICE = topologies.Topology("toy:4x2", CHIP, (4, 2), [None] * 8)

TEXT = """HloModule toy, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%product (x: bf16[100,200], y: bf16[200,300]) -> f32[100,300] {
  %x = bf16[100,200]{1,0:T(8,128)(2,1)} parameter(0)
  %y = bf16[200,300]{1,0:T(8,128)(2,1)S(1)} parameter(1)
  ROOT %c = f32[100,300]{1,0:T(8,128)} convolution(%x, %y), dim_labels=bf_io->bf
}

%put (into: f32[7,8,128], one: f32[1,8,128], at: s32[]) -> f32[7,8,128] {
  %into = f32[7,8,128]{2,1,0:T(8,128)} parameter(0)
  %one = f32[1,8,128]{2,1,0:T(8,128)S(1)} parameter(1)
  %at = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %d = f32[7,8,128]{2,1,0} dynamic-update-slice(%into, %one, %at, %zero, %zero)
}

%body (s: (s32[], f32[7,8,128])) -> (s32[], f32[7,8,128]) {
  %s = (s32[], f32[7,8,128]{2,1,0:T(8,128)}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %all = f32[7,8,128]{2,1,0:T(8,128)} get-tuple-element(%s), index=1
  %one = f32[1,8,128]{2,1,0:T(8,128)S(1)} constant({...})
  %new = f32[7,8,128]{2,1,0:T(8,128)} fusion(%all, %one, %i), kind=kLoop, calls=%put, \
metadata={op_name="jit(f)/jvp(Model)/Model.encode/vision/layer_0/mlp/put"}
  ROOT %t = (s32[], f32[7,8,128]{2,1,0:T(8,128)}) tuple(%i, %new)
}

%condition (s: (s32[], f32[7,8,128])) -> pred[] {
  %s = (s32[], f32[7,8,128]{2,1,0:T(8,128)}) parameter(0)
  %seven = s32[] constant(7)
  %i = s32[] get-tuple-element(%s), index=0
  ROOT %less = pred[] compare(%i, %seven), direction=LT
}

ENTRY %main (x: bf16[100,200], y: bf16[200,300], z: (s32[], f32[7,8,128])) -> f32[] {
  %x = bf16[100,200]{1,0:T(8,128)(2,1)} parameter(0)
  %y = bf16[200,300]{1,0:T(8,128)(2,1)} parameter(1)
  %z = (s32[], f32[7,8,128]{2,1,0:T(8,128)}) parameter(2)
  %cs = (bf16[200,300]{1,0:T(8,128)(2,1)S(1)}, bf16[200,300]{1,0:T(8,128)(2,1)}, \
u32[]) copy-start(%y)
  %cd = bf16[200,300]{1,0:T(8,128)(2,1)S(1)} copy-done(%cs)
  %p = f32[100,300]{1,0:T(8,128)} fusion(%x, %cd), kind=kOutput, calls=%product, \
metadata={op_name="jit(f)/transpose(jvp(Model))/Model.encode/text/wi/dot_general"}
  %r = f32[100,300]{1,0:T(8,128)} all-reduce(%p), replica_groups=[2,4]<=[8], \
to_apply=%add
  %gs = (f32[8,128]{1,0}, f32[64,128]{1,0}) all-gather-start(%p), \
replica_groups=mesh['axis_0'=8] {'axis_0'}
  %w = (s32[], f32[7,8,128]{2,1,0:T(8,128)}) while(%z), condition=%condition, \
body=%body
  %gd = f32[64,128]{1,0} all-gather-done(%gs)
  ROOT %e = f32[] constant(0)
}
"""


@pytest.fixture(scope="module")
def module():
  return hlo.parse(TEXT)


@pytest.fixture(scope="module")
def items(module):
  return {item.name: item for item in roofline.items(module, SLICE)}


def test_shapes_are_as_large_as_their_tiles(module):
  entry = module.entry.instructions
  assert entry["x"].shapes[0].num_bytes == 104 * 256 * 2
  assert entry["cd"].shapes[0].memory == hlo.VMEM
  assert hlo.Shape("pred", (3, 5)).num_bytes == 15
  # The minor dimension is the first here, and is what the tile's 128 fill up.
  assert hlo.Shape("f32", (100, 8), (0, 1), (8, 128)).num_bytes == 128 * 8 * 4


def test_a_product_takes_its_arithmetic_or_its_bytes(items):
  """With what was fetched for it: from HBM to the chip, once."""
  product = items["p"]
  assert product.flops == 2 * 100 * 200 * 300
  assert product.num_bytes == 104 * 256 * 2 + 200 * 384 * 2 + 104 * 384 * 4
  assert product.seconds == pytest.approx(product.num_bytes / 1e9)
  fast = topologies.Topology("", topologies.Chip("", 1, 1e6, 1e9, 1, 2, 4), (8,), [0])
  again = {item.name: item for item in roofline.items(hlo.parse(TEXT), fast)}
  assert again["p"].seconds == pytest.approx(product.flops / 1e6)


def test_a_loop_runs_as_often_as_its_condition_says(module, items):
  assert module.trips(module.entry.instructions["w"]) == 7
  update = items["new"]
  assert update.times == 7
  assert update.num_bytes == 8 * 128 * 4 + 4  # In place: one of seven, and which.


def test_collectives(items):
  """Four of the ranks are a ring's; what is behind other work is not exposed."""
  reduce = items["r"]
  assert reduce.sent == 104 * 384 * 4
  assert reduce.seconds == pytest.approx(2 * reduce.sent * 3 / 4 / 2e8)
  gather = items["gs"]
  behind = 7 * items["new"].seconds
  whole = 64 * 128 * 4 * 7 / 8 / (3 * 1e8)
  assert gather.seconds == pytest.approx(max(0, whole - behind))


def test_parts_of_the_model(items):
  assert roofline.part_of(items["p"].source) == "text, backward"
  assert roofline.part_of(items["new"].source) == "vision, forward"
  assert roofline.part_of("jit(f)/add") == "update and the rest"


def convolution(left, right, out, rest):
  shape = lambda dims: f"f32[{','.join(map(str, dims))}]"
  line = f"%c = {shape(out)} convolution(%a, %b), {rest}"
  instruction = hlo._instruction("c", line.split(" = ")[1], False)
  sides = (hlo.Shape("f32", dims) for dims in (left, right))
  return roofline.product_flops(instruction, *sides)


def test_a_product_of_batches_that_is_written_as_a_convolution():
  """The window is as wide as the batch, and all but one of its places is padding."""
  rest = "window={size=12 stride=11 pad=0_0 lhs_dilate=12}, dim_labels=0bf_0io->0bf"
  found = convolution((12, 100, 64), (12, 64, 200), (12, 100, 200), rest)
  assert found == 2 * 12 * 100 * 64 * 200


def test_a_convolution_does_not_count_its_edge():
  rest = "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f"
  found = convolution((1, 4, 4, 2), (3, 3, 2, 5), (1, 4, 4, 5), rest)
  assert found == 2 * 5 * 2 * (3 * 4 - 2) ** 2


def test_kernels_say_what_they_cost():
  text = (
    'f32[2]{0} custom-call(%q), custom_call_target="tpu_custom_call", '
    'backend_config={"cost_estimate":{"flops":"77","transcendentals":"1"}}'
  )
  assert roofline.kernel_flops(hlo._instruction("k", text, False)) == 77
  arrays = "bf16[2,3,128,64]{3,2,1,0}, bf16[2,3,256,64]{3,2,1,0}"
  text = (
    f'f32[2]{{0}} custom-call(%q), custom_call_target="tpu_custom_call", '
    f"operand_layout_constraints={{{arrays}}}, "
    'metadata={op_name="jit(f)/flash_mha_bwd_dq_block_q=128/pallas_call"}'
  )
  found = roofline.kernel_flops(hlo._instruction("k", text, False))
  assert found == 3 * 2 * (2 * 3 * 128 * 256 * 64)


@pytest.mark.parametrize("limit", [1, 7, 8, 9, 100, 1000])
@pytest.mark.parametrize("start", [1, 8, 64])
def test_the_largest_that_fits(limit, start):
  asked = []
  found = plan.largest(lambda rows: asked.append(rows) or rows <= limit, start)
  assert limit * 8 / 9 - 1 < found <= limit
  assert len(asked) < 16


def test_none_fits():
  assert plan.largest(lambda rows: False, 8) == 0


def test_a_slice_of_so_many_chips():
  assert topologies.of_size("v5e", 512) == "v5e:16x32"
  with pytest.raises(ValueError, match="No slice of v5p here has 7 chips"):
    topologies.of_size("v5p", 7)


@pytest.mark.parametrize("name", ["v5e", "v7:2x2", "v5e:big", "H100:8"])
def test_an_unknown_topology_lists_those_that_are(name):
  with pytest.raises(ValueError, match=r"Unknown topology .* known: v4:.*v6e:16x32"):
    topologies.get(name)


def verb(folder, *arguments):
  run = subprocess.run(
    [sys.executable, "-m", "jaxrg.plan", *arguments],
    cwd=pathlib.Path(__file__).parents[1],
    env=os.environ | {"PYTHONPATH": "."},
    capture_output=True,
    text=True,
    timeout=500,
  )
  return run.returncode, run.stdout.splitlines(), run.stderr


needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason='needs ".[plan]"'
)


@needs_libtpu
@pytest.mark.slow
def test_a_real_step_for_four_chips(tmp_path):
  out = tmp_path / "plan"
  options = ("--config=configs/priorrg.py:tiny", "--topology=v5e:2x2", "--per_chip=4")
  status, lines, _ = verb(tmp_path, *options, "--stage=finetune", f"--out={out}")
  assert status == 0
  assert lines[-1].startswith("fits: peak 0.")
  (facts,) = json.loads((out / "plan.json").read_text())
  assert facts["chips"] == 4
  assert facts["rows"] == 16
  # All is multiplied once, but for what the compiler multiplies again or otherwise.
  assert 0.9 < facts["compiled_flops"] / facts["model_flops"] < 1.2
  # Each gradient passes over the links, in float32, and little besides.
  sent = facts["collectives"]["all-reduce"]["bytes"]
  assert 1 < sent / facts["memory"]["parameters"] < 2.5
  assert (out / "plan.png").read_bytes()[:4] == b"\x89PNG"


@needs_libtpu
def test_a_shape_that_no_slice_has(tmp_path):
  options = ("--config=configs/priorrg.py:tiny", "--topology=v5e:3x5")
  status, _, stderr = verb(tmp_path, *options)
  assert status == 1
  assert "error: Unknown topology 'v5e:3x5'; known:" in stderr


@needs_libtpu
def test_rows_that_do_not_spread(tmp_path):
  options = ("--config=configs/priorrg.py:tiny", "--topology=v5e:16x16")
  status, _, stderr = verb(tmp_path, *options)
  assert status == 1
  assert "finetune.batch_size=16 does not divide over the 256 devices" in stderr
