"""Kernels, bytes by kind and by layer, layouts and communication, read from a program's text."""

import pytest

from benchmarks import hlo, kernels

HEAD = """HloModule jit_step

%sum (p: bf16[8,4,4,3]) -> f32[3] {
  %p = bf16[8,4,4,3]{3,2,1,0} parameter(0)
  ROOT %reduce = f32[3]{0} reduce(%p, %p), dimensions={0,1,2}, to_apply=%add
}

%slices (q: f32[10,6]) -> f32[6] {
  %q = f32[10,6]{1,0} parameter(0)
  ROOT %s = f32[1,6]{1,0} slice(%q), slice={[0:1], [0:6]}
}

%body (i: f32[10,6]) -> f32[10,6] {
  %i = f32[10,6]{1,0} parameter(0)
  ROOT %n = f32[10,6]{1,0} negate(%i), metadata={op_name="jit(step)/while/body/layer2/0/neg"}
}

"""


def program_of(*lines):
    """Return a program with these instructions besides two parameters."""
    begin = [
        "ENTRY %main (x: bf16[8,4,4,3]) -> f32[3] {",
        "  %x = bf16[8,4,4,3]{3,2,1,0} parameter(0)",
        "  %y = f32[10,6]{1,0} parameter(1)",
    ]
    return hlo.parse(HEAD + "\n".join([*begin, *(f"  {line}" for line in lines), "}"]))


def found_in(*lines):
    return kernels.kernels(program_of(*lines))


IMAGES = 2 * 8 * 4 * 4 * 3


@pytest.mark.parametrize(
    ("line", "kind", "moved"),
    [
        ("%f = f32[3]{0} fusion(%x), kind=kInput, calls=%sum", "reductions", IMAGES + 12),
        ("%e = f32[10,6]{1,0} negate(%y)", "elementwise", 480),
        ("%c = f32[10,6]{1,0} copy(%y)", "copies", 480),
        ("%c = f32[10,6]{0,1} copy(%y)", "transposes", 480),
        ("%t = f32[6,10]{1,0} transpose(%y), dimensions={1,0}", "transposes", 480),
        ("%d = f32[10,10]{1,0} dot(%y, %y), rhs_contracting_dims={1}", "matrix products", 880),
        ("%a = f32[10,6]{1,0} all-reduce(%y), to_apply=%add", "collectives", 480),
    ],
)
def test_a_kernel_has_a_kind_and_moves_its_operands_and_results(line, kind, moved):
    (kernel,) = found_in(line)
    assert (kernel.kind, kernel.bytes) == (kind, moved)


def test_of_an_operand_that_is_only_sliced_the_slices_count():
    (kernel,) = found_in("%f = f32[1,6]{1,0} fusion(%y), kind=kLoop, calls=%slices")
    assert kernel.bytes == 24 + 24


def test_a_loops_kernels_count_as_often_as_it_runs():
    loop = '%w = f32[10,6]{1,0} while(%y), condition=%c, body=%body, backend_config={"known_trip_c'
    found = found_in(loop + 'ount":{"n":"5"}}')
    assert kernels.by_kind(found) == {"elementwise": {"kernels": 5, "bytes": 5 * 480}}
    assert kernels.by_layer(found) == {"layer2": {"kernels": 5, "bytes": 5 * 480}}


def test_names_of_arrays_are_no_kernels():
    assert found_in("%b = f32[60]{0} bitcast(%y)", "%t = (f32[60]{0}) tuple(%b)") == []


@pytest.mark.parametrize(
    ("op_name", "layer"),
    [
        ("jit(step)/jvp(ResNet)/ResNet._forward/layer3/1/1._convolve/conv3/cond/mul", "layer3"),
        ("jit(step)/transpose(jvp(LinenResNet))/layer2_0/Conv_0/conv", "layer2"),
        ("jit(step)/jvp(ResNet)/ResNet._forward/bn1/reduce_sum", "bn1"),
        ("jit(logits)/LinenResNet/conv1/conv_general_dilated", "conv1"),
        ("jit(step)/jit(_where)/select_n", "update"),
        ("", "update"),
    ],
)
def test_a_layer_is_the_outermost_module(op_name, layer):
    assert kernels.layer_of(op_name) == layer


ON_TPU = "%c = f32[3,3]{1,0} convolution(%x, %x), dim_labels="


def convolution(kind, labels, name="", order="3,2,1,0"):
    return (
        f"%conv = (f32[8,4,4,3]{{{order}}}, u8[0]{{0}}) custom-call(%x, %x), dim_labels={labels}, "
        f'custom_call_target="__cudnn$conv{kind}", metadata={{op_name="{name}"}}'
    )


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (convolution("Forward", "b01f_o01i->b01f"), "convolutions"),
        (convolution("BiasActivationForward", "b01f_o01i->b01f"), "convolutions"),
        (convolution("BackwardFilter", "b01f_o01i->b01f"), "gradients of kernels"),
        (convolution("BackwardInput", "b01f_o01i->b01f"), "gradients of inputs"),
        (
            convolution("Forward", "b01f_o01i->b01f", "jit(step)/transpose(jvp(ResNet))/conv"),
            "gradients of inputs",
        ),
        (f"{ON_TPU}f01b_i01o->01bf", "gradients of kernels"),
        (f"{ON_TPU}b01f_01io->b01f", "convolutions"),
        (f"{ON_TPU}bf_io->bf", "matrix products"),
    ],
)
def test_convolutions_are_told_from_their_gradients(line, kind):
    assert [kernel.kind for kernel in found_in(line)] == [kind]


def test_layouts_of_convolutions_are_read_from_labels_and_orders():
    program = program_of(convolution("Forward", "b01f_o01i->b01f", order="1,3,2,0"))
    layouts = kernels.convolution_layouts(kernels.kernels(program), program)
    assert layouts == {"bf16 NHWC OHWI NWCH": 1}


def test_float32_arrays_as_large_as_a_map_are_found():
    program = program_of(
        convolution("Forward", "b01f_o01i->b01f"),
        "%small = f32[3]{0} fusion(%x), kind=kInput, calls=%sum",
        "%cast = f32[128,3]{1,0} convert(%x)",
    )
    maps = kernels.float32_maps(kernels.kernels(program), program)
    assert [kernel.instruction.name for kernel, _ in maps] == ["conv", "cast"]


def test_collectives_have_bytes_dtypes_and_may_run_beside_others():
    found = found_in(
        "%a = (f32[10,6]{1,0}, bf16[8,4,4,3]{3,2,1,0}) all-reduce(%y, %x), to_apply=%add",
        "%s = (f32[10,6]{1,0}, f32[10,6]{1,0}) all-reduce-start(%y), to_apply=%add",
        "%d = f32[10,6]{1,0} all-reduce-done(%s)",
        '%w = f32[10,6]{1,0} all-reduce-start(%y), backend_config={"is_sync":true}',
    )
    assert kernels.collectives(found) == {
        "all-reduce": {
            "count": 3,
            "bytes": 3 * 240 + IMAGES,
            "asynchronous": 1,
            "dtypes": {"f32": 3 * 240, "bf16": IMAGES},
        }
    }
