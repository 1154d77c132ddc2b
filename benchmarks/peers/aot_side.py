"""Compile a program for an accelerator that is not there, and read it, in a process of its own."""

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import flax_resnet
from benchmarks import case as cases
from benchmarks import hlo, kernels, program, targets
from benchmarks.case import Case
from benchmarks.kernels import Kernel
from benchmarks.peers import jax_side, linen_resnet
from flax_resnet.models import count_macs, count_parameters, variable_shapes
from flax_resnet.onednn.choice import for_inference
from flax_resnet.steps.gradient import normalize
from flax_resnet.steps.mesh import replicated, split
from flax_resnet.steps.state import make_state
from flax_resnet.steps.step import jit_over

# As many arrays are listed; more tell nothing new.
LISTED = 8


def run_case(case: Case, began: float) -> dict[str, Any]:
    """Compile the case's program and return what it moves, keeps and sends.

    Raises:
      InputError: the target is unknown or its compiler not installed, or there is no peer.
    """
    assert case.target is not None
    mesh = targets.target_mesh(case.target, case.devices)
    function, arguments = PROGRAMS[case.phase, case.mode](case, mesh)
    compiled = function.lower(*arguments).compile()
    text = compiled.as_text()
    if case.dump:
        folder = Path(case.dump)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{case.target}_{case.model}_{case.phase}_{case.mode}.hlo.txt").write_text(text)
    planned = program.planned_bytes(compiled)
    return {
        "device": targets.device_kind(mesh),
        "compile_cpu_s": round(time.process_time(), 1),
        **planned,
        "fits": planned["planned"] <= targets.TARGETS[case.target].memory,
        **read(case, text),
    }


def read(case: Case, text: str) -> dict[str, Any]:
    """Return the figures in a compiled program's text."""
    parsed = hlo.parse(text)
    found = kernels.kernels(parsed)
    moved = sum(kernel.times * kernel.bytes for kernel in found)
    model = jax_side.make_model(case)
    passes = 1 if case.phase == "inference" else 3
    flops = 2.0 * count_macs(model, case.image_size) * passes * case.batch_size / case.devices
    maps = kernels.float32_maps(found, parsed)
    assert case.target is not None
    return {
        "parameters": count_parameters(model),
        "kernels": sum(kernel.times for kernel in found),
        "bytes": moved,
        "bytes_per_image": moved * case.devices / case.batch_size,
        "by_kind": kernels.by_kind(found),
        "by_layer": kernels.by_layer(found),
        "float32_maps": {"count": len(maps), "first": [_said(*each) for each in maps[:LISTED]]},
        "convolutions": kernels.convolution_layouts(found, parsed),
        "fused_convolutions": _fused(found),
        "collectives": kernels.collectives(found),
        "estimated_cycles": _cycles(found),
        "flops": flops,
        "bound": targets.bound(case.target, moved, flops, case.dtype),
    }


def train_program(case: Case, mesh: Mesh) -> tuple[Any, tuple[Any, ...]]:
    """Return the trainer's step and the shapes of its arguments."""
    step, model, optimizer = jax_side.make_step(case, mesh)
    make = functools.partial(make_state, model, optimizer, _image_shape(case))
    state = jax.eval_shape(make, jax.random.key(0))
    return step, (_everywhere(state, mesh), _batch(case, mesh))


def linen_train_program(case: Case, mesh: Mesh) -> tuple[Any, tuple[Any, ...]]:
    """Return the step of the same network written with Flax's own layers."""
    model = linen_resnet.linen_twin(jax_side.make_model(case))
    optimizer, _ = jax_side.make_optimizer()
    make = functools.partial(linen_resnet.make_state, model, optimizer, _image_shape(case))
    state = _checked(jax.eval_shape(make, jax.random.key(0)), case)
    step = linen_resnet.make_step(model, optimizer, cases.MEAN, cases.STD)
    everywhere, rows = replicated(mesh), split(mesh)
    jitted = jax.jit(
        step, in_shardings=(everywhere, rows), out_shardings=everywhere, donate_argnums=0
    )
    return jitted, (_everywhere(state, mesh), _batch(case, mesh))


def inference_program(case: Case, mesh: Mesh) -> tuple[Any, tuple[Any, ...]]:
    """Return the logits of uint8 images, of the network as trained or with folded norms."""
    model = jax_side.make_model(case)
    variables = variable_shapes(model)
    if case.mode == "folded":
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
        model, folded = flax_resnet.fold_batch_norm(model, zeros)
        variables = jax.eval_shape(lambda: folded)

    def logits(variables: Any, images: jax.Array) -> Any:
        return model.apply(variables, normalize(images, cases.MEAN, cases.STD), train=False)

    function = jit_over(mesh, for_inference(logits))
    return function, (_everywhere(variables, mesh), _batch(case, mesh)["image"])


def linen_inference_program(case: Case, mesh: Mesh) -> tuple[Any, tuple[Any, ...]]:
    """Return the logits of the same network written with Flax's own layers."""
    model = linen_resnet.linen_twin(jax_side.make_model(case))
    images = jnp.zeros((1, *_image_shape(case)))
    make = functools.partial(model.init, train=False)
    variables = jax.eval_shape(make, jax.random.key(0), images)

    def logits(variables: Any, images: jax.Array) -> Any:
        return model.apply(variables, normalize(images, cases.MEAN, cases.STD), train=False)

    function = jit_over(mesh, logits)
    return function, (_everywhere(variables, mesh), _batch(case, mesh)["image"])


PROGRAMS = {
    ("train", "jit"): train_program,
    ("train", "linen"): linen_train_program,
    ("inference", "jit"): inference_program,
    ("inference", "folded"): inference_program,
    ("inference", "linen"): linen_inference_program,
}


def _image_shape(case: Case) -> tuple[int, int, int]:
    return case.image_size, case.image_size, 3


def _batch(case: Case, mesh: Mesh) -> dict[str, Any]:
    shape = (case.batch_size, *_image_shape(case))
    pixels = jax_side.classifies_pixels(jax_side.make_model(case))
    batch = {
        "image": jax.ShapeDtypeStruct(shape, jnp.uint8),
        "label": jax.ShapeDtypeStruct(shape[:3] if pixels else shape[:1], jnp.int32),
    }
    return jax.tree.map(lambda leaf: leaf.update(sharding=split(mesh)), batch)


def _everywhere(shapes: Any, mesh: Mesh) -> Any:
    return jax.tree.map(lambda leaf: leaf.update(sharding=replicated(mesh)), shapes)


def _checked(state: Any, case: Case) -> Any:
    """Return the peer's state if it has as many parameters as our network."""
    found = sum(leaf.size for leaf in jax.tree.leaves(state[0]["params"]))
    expected = count_parameters(jax_side.make_model(case))
    assert found == expected, f"the peer has {found} parameters, and ours {expected}"
    return state


def _fused(found: Sequence[Kernel]) -> int:
    """Return how many convolutions add a bias or another array in the same call."""
    return sum(
        kernel.times
        for kernel in found
        if "BiasActivation" in kernel.instruction.target and kernel.kind == kernels.FORWARD
    )


def _cycles(found: Sequence[Kernel]) -> dict[str, int] | None:
    """Return the cycles that XLA estimates for a TPU, and how many kernels have no estimate."""
    known = [kernel.times * kernel.instruction.estimated_cycles for kernel in found]
    if not any(known):
        return None
    return {"cycles": sum(known), "kernels_without": sum(each == 0 for each in known)}


def _said(kernel: Kernel, array: hlo.Array) -> str:
    sides = ",".join(map(str, array.sides))
    return f"{array.dtype}[{sides}] of {kernel.instruction.name} ({kernel.layer})"


if __name__ == "__main__":
    cases.child_main(run_case)
