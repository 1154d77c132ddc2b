"""The functions of oneDNN's C API that a convolution needs, through ctypes."""

import contextlib
import ctypes
import functools
import os
import sys
from ctypes import POINTER, byref, c_float, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

# Values of dnnl_types.h, which belong to the binary interface of version 3.
_FLOAT32, _ANY_FORMAT = 3, 1
_OUT, _SIZES = POINTER(c_void_p), POINTER(c_int64)
_WINDOW = (_SIZES,) * 4  # strides, dilations, padding before and after
_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "engine_create": (_OUT, c_int, c_size_t),
    "memory_desc_create_with_strides": (_OUT, c_int, _SIZES, c_int, _SIZES),
    "memory_desc_create_with_tag": (_OUT, c_int, _SIZES, c_int, c_int),
    "memory_desc_equal": (c_void_p, c_void_p),
    "convolution_forward_primitive_desc_create": (
        *(_OUT, c_void_p, c_int, c_int, *[c_void_p] * 4, *_WINDOW, c_void_p),
    ),
    "convolution_backward_data_primitive_desc_create": (
        *(_OUT, c_void_p, c_int, *[c_void_p] * 3, *_WINDOW, c_void_p, c_void_p),
    ),
    "convolution_backward_weights_primitive_desc_create": (
        *(_OUT, c_void_p, c_int, *[c_void_p] * 4, *_WINDOW, c_void_p, c_void_p),
    ),
    "reorder_primitive_desc_create": (_OUT, *[c_void_p] * 5),
    "primitive_create": (_OUT, c_void_p),
    "primitive_attr_create": (_OUT,),
    "primitive_attr_set_scratchpad_mode": (c_void_p, c_int),
    "primitive_attr_set_post_ops": (c_void_p, c_void_p),
    "memory_desc_get_size": (c_void_p,),
    "primitive_desc_query_md": (c_void_p, c_int, c_int),
    "post_ops_create": (_OUT,),
    "post_ops_append_binary": (c_void_p, c_int, c_void_p),
    "post_ops_append_eltwise": (c_void_p, c_int, c_float, c_float),
}
_PLACES = (
    Path(sys.prefix) / "lib" / "libdnnl.so.3",  # PyPI's onednn-cpu-gomp, conda's onednn
    "libdnnl.so.3",  # Debian's libdnnl3, and whatever the loader finds
)


@functools.cache
def load() -> ctypes.CDLL:
    """Load oneDNN, version 3 or newer.

    Raises:
      OSError: it is not installed.
    """
    # Its threads would otherwise wait for work by spinning, on the cores that XLA needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    library = None
    for place in _PLACES:
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(str(place))
            break
    if library is None:
        raise OSError("oneDNN (libdnnl.so.3) is not installed")
    for name, arguments in _ARGUMENTS.items():
        getattr(library, f"dnnl_{name}").argtypes = arguments
    library.dnnl_memory_desc_get_size.restype = c_size_t
    library.dnnl_primitive_desc_query_md.restype = c_void_p
    library.dnnl_version.restype = ctypes.POINTER(_Version)
    return library


class _Version(ctypes.Structure):
    _fields_ = (("major", c_int), ("minor", c_int), ("patch", c_int))


def version() -> str:
    """Return oneDNN's version, such as 3.2.0."""
    found = load().dnnl_version().contents
    return f"{found.major}.{found.minor}.{found.patch}"


def make(name: str, *arguments: Any) -> int:
    """Call a function of oneDNN that creates an object, and return the object's address.

    Raises:
      NotImplementedError: oneDNN cannot do this, for example on this processor.
    """
    made = c_void_p()
    call(name, byref(made), *arguments)
    return int(made.value or 0)


def call(name: str, *arguments: Any) -> None:
    """Call a function of oneDNN that returns a status."""
    status = getattr(load(), f"dnnl_{name}")(*arguments)
    if status:
        raise NotImplementedError(f"oneDNN's {name} returned status {status}")


@functools.cache
def engine() -> int:
    """Return oneDNN's engine for the CPU."""
    return make("engine_create", 1, 0)


def sizes(values: tuple[int, ...]) -> Any:
    """Return numbers as the array that oneDNN reads."""
    return (c_int64 * 12)(*values)


def layout(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> int:
    """Return the layout of a float32 array; without strides, oneDNN chooses it."""
    if strides is None:
        return make("memory_desc_create_with_tag", len(shape), sizes(shape), _FLOAT32, _ANY_FORMAT)
    return make(
        "memory_desc_create_with_strides", len(shape), sizes(shape), _FLOAT32, sizes(strides)
    )


def num_bytes(layout: int) -> int:
    """Return the size of an array with this layout."""
    return int(load().dnnl_memory_desc_get_size(layout))
