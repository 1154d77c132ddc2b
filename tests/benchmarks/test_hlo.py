"""The text of compiled programs."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import hlo

TEXT = """HloModule jit_step

%fused (a: bf16[8,4,4,3]) -> bf16[8,4,4,3] {
  ROOT %negate = bf16[8,4,4,3]{3,2,1,0} negate(%a)
}

ENTRY %main (x: bf16[8,4,4,3], k: bf16[5,3,3,3]) -> (bf16[8,4,4,5], /*index=1*/u8[0]) {
  %x = bf16[8,4,4,3]{3,2,1,0:T(8,128)S(1)} parameter(0)
  %k = bf16[5,3,3,3]{3,2,1,0} parameter(1)
  %fusion.1 = bf16[8,4,4,3]{3,2,1,0} fusion(%x), kind=kLoop, calls=%fused
  ROOT %conv = (bf16[8,4,4,5]{3,2,1,0}, /*index=1*/u8[0]{0}) custom-call(%fusion.1, %k), \
window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, \
custom_call_target="__cudnn$convForward", metadata={op_name="jit(step)/layer1/conv"}
}
"""


def test_a_program_is_its_computations_and_their_instructions():
    program = hlo.parse(TEXT)
    assert program.computations.keys() == {"fused", "main"}
    assert [each.opcode for each in program.entry.instructions] == [
        "parameter",
        "parameter",
        "fusion",
        "custom-call",
    ]
    fusion, conv = program.entry.instructions[2:]
    assert (fusion.operands, fusion.called) == (("x",), ("fused",))
    assert conv.operands == ("fusion.1", "k")
    assert conv.target == "__cudnn$convForward"
    assert conv.op_name == "jit(step)/layer1/conv"
    assert program.entry.root is conv


def test_arrays_have_types_sides_order_and_place():
    x, k = (each.arrays[0] for each in hlo.parse(TEXT).entry.instructions[:2])
    assert (x.dtype, x.sides, x.bytes) == ("bf16", (8, 4, 4, 3), 2 * 8 * 4 * 4 * 3)
    assert x.on_chip
    assert not k.on_chip
    assert x.order == (0, 1, 2, 3)
    assert [array.bytes for array in hlo.arrays("(pred[5]{0}, f32[], s4[2,2]{0,1})")] == [5, 4, 2]


def test_the_orders_of_axes_in_memory_have_letters():
    image, kernel = hlo.arrays("(bf16[8,3,4,4]{1,3,2,0}, bf16[3,3,3,5]{2,1,0,3})")
    assert hlo.image_order(image, "bf01") == "NHWC"
    assert hlo.kernel_order(kernel, "01io") == "OHWI"


def test_loops_have_trips_and_a_tpus_kernels_cycles():
    line = (
        "ENTRY %main (x: f32[]) -> f32[] {\n"
        '  ROOT %w = f32[] while(%x), condition=%c, body=%b, backend_config={"known_trip_count":'
        '{"n":"17"},"estimated_cycles":"300"}\n}'
    )
    (loop,) = hlo.parse(line).entry.instructions
    assert (loop.trips, loop.estimated_cycles, loop.called) == (17, 300, ("c", "b"))


def test_a_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("HloModule nothing")


def test_a_real_program_is_read():
    rows = jax.ShapeDtypeStruct((4, 3), jnp.float32)
    compiled = jax.jit(lambda x: jnp.sin(x).sum(0)).lower(rows).compile()
    program = hlo.parse(compiled.as_text())
    parameters = [each for each in program.entry.instructions if each.opcode == "parameter"]
    assert [each.arrays[0].sides for each in parameters] == [(4, 3)]
    assert program.entry.root.arrays[0].sides == (3,)
