"""ONNX: the jaxpr of a network's inference, written operator by operator.

No converter that is kept up runs beside this package's Orbax (`docs/export.md`), and inference of
these networks takes some thirty operations, which `onnx_operators` has.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flax_resnet.errors import InputError, install_extra
from flax_resnet.export.formats import Logits, write_file
from flax_resnet.export.network import Exported

# From 2022 and 2024: current runtimes read them.
OPSET, IR_VERSION = 18, 10


def write_onnx(network: Exported, path: Path) -> float:
    """Write a network to `path`, and the description of its images to `path.json`.

    Returns:
      The `logit_error` of the file in onnxruntime.

    Raises:
      InputError: onnx or onnxruntime is not installed, the network has an unsupported operation,
        the file cannot be written, or its logits are not the network's.
    """
    try:
        import onnxruntime

        data = to_onnx(network)
    except ModuleNotFoundError as error:
        if error.name not in ("onnx", "onnxruntime"):
            raise
        raise InputError(f"ONNX needs onnx and onnxruntime: {install_extra('onnx')}") from None

    def read(path: Path) -> Logits:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"images": images})[0]

    return write_file(_in_float32(network), path, data, read)


def to_onnx(network: Exported) -> bytes:
    """Return a network as an ONNX model from `images` to `logits`, for batches of any size.

    It computes in float32, since few runtimes support bfloat16.
    """
    import onnx
    from onnx import helper

    from flax_resnet.export.onnx_graph import Graph
    from flax_resnet.export.onnx_operators import OPERATORS

    network = _in_float32(network)
    image = jax.ShapeDtypeStruct((1, *network.image_shape), jnp.dtype(network.dtype))
    traced = jax.make_jaxpr(network.__call__)(image)
    graph = Graph(OPERATORS)
    (logits,) = graph.write(traced.jaxpr, traced.consts, ["images"])
    graph.add("Identity", logits, name="logits")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "network",
            [_value_info("images", traced.jaxpr.invars[0].aval)],
            [_value_info("logits", traced.jaxpr.outvars[0].aval)],
            graph.constants,
        ),
        producer_name="flax_resnet",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _in_float32(network: Exported) -> Exported:
    model: Any = network.model
    if hasattr(model, "dtype"):
        model = model.clone(dtype=jnp.float32)
    original = None if network.original is None else _in_float32(network.original)
    return dataclasses.replace(network, model=model, original=original)


def _value_info(name: str, array: Any) -> Any:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(array.dtype))
    return helper.make_tensor_value_info(name, kind, ["b", *array.shape[1:]])
