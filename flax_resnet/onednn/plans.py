"""What oneDNN executes for one convolution, and for its gradients.

A plan is a sequence of primitives: the convolution, and before or after it a reorder of the kernel,
whose format oneDNN chooses. Images stay NHWC.
"""

import enum
import functools
from dataclasses import dataclass, field
from typing import NamedTuple

from flax_resnet.onednn.c_api import call, engine, layout, load, make, num_bytes, sizes

# Values of dnnl_types.h, which belong to the binary interface of version 3.
_TRAINING, _INFERENCE, _DIRECT, _RELU, _ADD, _USER_SCRATCHPAD = 64, 96, 1, 0x20, 0x1FFF0, 1
_SOURCE, _SOURCE_1, _DESTINATION, _WEIGHTS, _BIAS, _SCRATCHPAD = 1, 2, 17, 33, 41, 80
_SOURCE_GRADIENT, _DESTINATION_GRADIENT, _WEIGHTS_GRADIENT = 129, 145, 161
_FIRST_POST_OP = 1 << 15
_QUERY_WEIGHTS, _QUERY_WEIGHTS_GRADIENT, _QUERY_SCRATCHPAD = 131, 132, 136
_ALIGNMENT = 64


class Kind(enum.IntEnum):
    """What a plan computes."""

    FORWARD = 0
    TO_IMAGES = 1
    TO_KERNEL = 2


class Convolution(NamedTuple):
    """A convolution of NHWC images with an HWIO kernel, and what follows it.

    Attributes:
      images, kernel, output: shapes.
      bias, summand, relu: whether a bias is added, then an array like the output, and whether
        negative results become 0.
    """

    kind: Kind
    images: tuple[int, ...]
    kernel: tuple[int, ...]
    output: tuple[int, ...]
    stride: int
    dilation: int
    pad: int
    groups: int
    bias: bool = False
    summand: bool = False
    relu: bool = False


class Argument(NamedTuple):
    """An argument of a primitive: bytes from `offset` on in a buffer of the call."""

    role: int
    layout: int
    buffer: int
    offset: int = 0


@dataclass
class Plan:
    """Primitives with their arguments, and the bytes of the workspace that they need.

    The buffers of a call are numbered: operands, then the result, then the workspace.
    """

    steps: list[tuple[int, list[Argument]]] = field(default_factory=list)
    workspace: int = 0

    def reserve(self, layout: int) -> int:
        """Reserve room for an array in the workspace, and return its offset."""
        offset = self.workspace
        self.workspace += -(-num_bytes(layout) // _ALIGNMENT) * _ALIGNMENT
        return offset


@functools.cache
def make_plan(case: Convolution) -> Plan:
    """Return the plan of a convolution; equal cases share one.

    Raises:
      NotImplementedError: oneDNN cannot compute this.
    """
    images, output, kernel = _images(case.images), _images(case.output), _kernel(case)
    bias = layout((case.output[-1],), (1,)) if case.bias else None
    attributes = _attributes(case, output)
    description = _describe(case, images, output, bias, attributes)
    to_kernel = case.kind == Kind.TO_KERNEL
    query = load().dnnl_primitive_desc_query_md
    own_kernel = query(description, (_QUERY_WEIGHTS, _QUERY_WEIGHTS_GRADIENT)[to_kernel], 0)
    scratch = query(description, _QUERY_SCRATCHPAD, 0)

    plan = Plan()
    operands = 2 + case.bias + case.summand
    result, workspace = operands, operands + 1
    users_kernel = result if to_kernel else 1
    reorders = not load().dnnl_memory_desc_equal(own_kernel, kernel)
    place = (workspace, plan.reserve(own_kernel)) if reorders else (users_kernel, 0)
    roles = {
        Kind.FORWARD: ((_SOURCE, images, 0), (_DESTINATION, output, result)),
        Kind.TO_IMAGES: ((_SOURCE_GRADIENT, images, result), (_DESTINATION_GRADIENT, output, 0)),
        Kind.TO_KERNEL: ((_SOURCE, images, 0), (_DESTINATION_GRADIENT, output, 1)),
    }[case.kind]
    arguments = [Argument(*role) for role in roles]
    arguments.append(Argument(_WEIGHTS_GRADIENT if to_kernel else _WEIGHTS, own_kernel, *place))
    arguments.append(Argument(_SCRATCHPAD, scratch, workspace, plan.reserve(scratch)))
    if bias:
        arguments.append(Argument(_BIAS, bias, 2))
    if case.summand:
        arguments.append(Argument(_FIRST_POST_OP | _SOURCE_1, output, 2 + case.bias))
    plan.steps.append((make("primitive_create", description), arguments))
    if reorders:
        ends = [Argument(_SOURCE, kernel, users_kernel), Argument(_SOURCE, own_kernel, *place)]
        source, target = reversed(ends) if to_kernel else ends
        target = target._replace(role=_DESTINATION)
        step = _reorder(plan, source, target, workspace)
        plan.steps.insert(1 if to_kernel else 0, step)
    return plan


def _images(shape: tuple[int, ...]) -> int:
    n, height, width, channels = shape
    strides = (height * width * channels, 1, width * channels, channels)
    return layout((n, channels, height, width), strides)


def _kernel_shape(case: Convolution) -> tuple[int, ...]:
    height, width, channels, features = case.kernel
    if case.groups == 1:
        return (features, channels, height, width)
    return (case.groups, features // case.groups, channels, height, width)


def _kernel(case: Convolution) -> int:
    _, width, channels, features = case.kernel
    strides = (1, features, width * channels * features, channels * features)
    by_group = (features // case.groups,) if case.groups > 1 else ()
    return layout(_kernel_shape(case), by_group + strides)


def _attributes(case: Convolution, output: int) -> int:
    attributes = make("primitive_attr_create")
    call("primitive_attr_set_scratchpad_mode", attributes, _USER_SCRATCHPAD)
    operations = make("post_ops_create")
    if case.summand:
        call("post_ops_append_binary", operations, _ADD, output)
    if case.relu:
        call("post_ops_append_eltwise", operations, _RELU, 0.0, 0.0)
    call("primitive_attr_set_post_ops", attributes, operations)
    return attributes


def _describe(
    case: Convolution,
    images: int,
    output: int,
    bias: int | None,
    attributes: int,
) -> int:
    """Return the description of the convolution's primitive."""
    kernel = layout(_kernel_shape(case), None)
    reach = case.dilation * (case.kernel[0] - 1) + 1
    after = [
        (size - 1) * case.stride + reach - length - case.pad
        for length, size in zip(case.images[1:3], case.output[1:3], strict=True)
    ]
    pair = (case.stride,) * 2, (case.dilation - 1,) * 2, (case.pad,) * 2, tuple(after)
    window = tuple(sizes(each) for each in pair)
    name = "convolution_{}_primitive_desc_create"
    forward = make(
        name.format("forward"),
        *(engine(), _TRAINING if not case.relu and not bias else _INFERENCE, _DIRECT),
        *(images, kernel, bias, output, *window),
        attributes if case.kind == Kind.FORWARD else None,
    )
    if case.kind == Kind.FORWARD:
        return forward
    direction, gradients = {
        Kind.TO_IMAGES: ("backward_data", (images, kernel, output)),
        Kind.TO_KERNEL: ("backward_weights", (images, kernel, None, output)),
    }[case.kind]
    return make(name.format(direction), engine(), _DIRECT, *gradients, *window, forward, attributes)


def _reorder(
    plan: Plan, source: Argument, target: Argument, workspace: int
) -> tuple[int, list[Argument]]:
    attributes = make("primitive_attr_create")
    call("primitive_attr_set_scratchpad_mode", attributes, _USER_SCRATCHPAD)
    description = make(
        "reorder_primitive_desc_create",
        *(source.layout, engine(), target.layout, engine(), attributes),
    )
    scratch = load().dnnl_primitive_desc_query_md(description, _QUERY_SCRATCHPAD, 0)
    room = Argument(_SCRATCHPAD, scratch, workspace, plan.reserve(scratch))
    return make("primitive_create", description), [source, target, room]
