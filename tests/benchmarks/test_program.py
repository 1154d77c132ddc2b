"""Numbers read from a compiled program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks import program

TEXT = """HloModule jit_step

%fused_computation.1 (p: f32[2,3]) -> f32[3,2] {
  %p = f32[2,3]{1,0} parameter(0)
  ROOT %transpose.1 = f32[3,2]{0,1} transpose(%p), dimensions={1,0}
}

ENTRY %main.5 (x: f32[2,3]) -> f32[3,2] {
  %x = f32[2,3]{1,0} parameter(0)
  %copy.1 = f32[2,3]{0,1} copy(%x)
  %t = f32[3,2]{1,0} transpose(%copy.1), dimensions={1,0}
  %all-reduce.1 = (f32[1,16]{1,0}, bf16[4]{0}) all-reduce(%a, %b), channel_id=2, to_apply=%add
  %all-gather-start = (f32[1]{0}, f32[8]{0}) all-gather-start(%c), channel_id=3
  %all-gather-done = f32[8]{0} all-gather-done(%all-gather-start)
  ROOT %fusion = f32[3,2]{1,0} fusion(%x), kind=kLoop, calls=%fused_computation.1
}
"""


def test_collectives_are_counted_with_their_bytes():
    assert program.communication(TEXT) == {
        "all-reduce": {"count": 1, "bytes": 64 + 8},
        "all-gather": {"count": 1, "bytes": 32},
    }


def test_moves_are_counted_in_all_and_outside_of_fusions():
    assert program.count_moves(TEXT) == {
        "transposes": 2,
        "copies": 1,
        "standalone_transposes": 1,
        "standalone_copies": 1,
    }


@pytest.mark.parametrize(
    ("shape", "size"),
    [("f32[]", 4), ("f32[3,3,2]{2,1,0}", 72), ("(pred[5], s8[2], bf16[2], u4[4])", 13)],
)
def test_bytes_of_shapes(shape, size):
    assert program.shape_bytes(shape) == size


def test_a_real_programs_sum_over_devices_is_found():
    mesh = Mesh(np.asarray(jax.devices()[:4]), ("data",))
    rows = jax.ShapeDtypeStruct((8, 5), jnp.float32)
    rows = rows.update(sharding=NamedSharding(mesh, PartitionSpec("data")))
    compiled = jax.jit(lambda x: x.sum(0)).lower(rows).compile()
    assert program.communication(compiled.as_text()) == {"all-reduce": {"count": 1, "bytes": 20}}
    assert program.cost(compiled)["xla_bytes"] > 0
    assert program.planned_bytes(compiled)["planned"] > 0
