"""The description of one measurement in its own process, its inputs, and how results return."""

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import Repeat, measure

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# Small enough that hundreds of updates on one random batch stay finite.
LEARNING_RATE = 0.01
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4


@dataclass(frozen=True)
class Case:
    """A network, a phase (train | inference | memory | ceilings) and how long to watch it.

    `memory` is training for a few steps or, for JAX on a CPU, compilation only.
    """

    phase: str
    mode: str
    """jit or, for inference, folded for JAX; eager, compile or, for inference, frozen for torch;
    linen for the same network written with Flax's own layers."""
    platform: str
    """gpu or cpu; a framework that does not find it raises an error."""
    model: str = "resnet50"
    dtype: str = "bfloat16"
    batch_size: int = 256
    image_size: int = 224
    num_classes: int = 1000
    shallow: bool = False
    """Use one block of 64 channels per stage, only to check that everything runs."""
    stage_sizes: tuple[int, ...] | None = None
    """Blocks of each stage, if not those of the network."""
    norm_group: int | None = None
    """Number of images that batch norm normalizes together; None means all."""
    scan_blocks: bool = False
    cpu_kernels: str = "auto"
    """Convolutions of JAX on CPUs: auto, xla or onednn."""
    default_malloc: bool = False
    """Let the C library return freed memory, which programs of both frameworks keep otherwise."""
    remat: bool = False
    """Recompute blocks for the gradient; torch calls it checkpointing."""
    target: str | None = None
    """An accelerator to compile for without having it; see `targets`."""
    devices: int = 1
    """How many of them share the batch."""
    repeats: int = 8
    repeat_s: float = 1.5
    warm_up_s: float = 3.0
    limit_s: float = 240.0
    """After this many seconds no further repeat starts."""
    dump: str | None = None
    """A folder for the text of the compiled program."""
    cache: str | None = None
    """A folder for the compilers' caches; without one they start cold."""


def inputs(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images (n, h, w, 3) and int32 labels (n,), the same for every framework."""
    rng = np.random.default_rng(0)
    shape = (case.batch_size, case.image_size, case.image_size, 3)
    images = rng.integers(256, size=shape, dtype=np.uint8)
    return images, rng.integers(case.num_classes, size=case.batch_size, dtype=np.int32)


def timed_repeats(run: Callable[[int], Any], case: Case, began: float) -> list[Repeat]:
    """Time `run` as `case` specifies; `began` is when the process started to work on it."""
    return measure(
        run,
        repeats=case.repeats,
        repeat_s=case.repeat_s,
        warm_up_s=case.warm_up_s,
        deadline=began + case.limit_s,
    )


def said(number: float) -> float | str:
    """Return a number as a JSON value: non-finite numbers become strings."""
    return number if math.isfinite(number) else str(number)


def child_main(
    run_case: Callable[[Any, float], dict[str, Any]], kind: Callable[..., Case] = Case
) -> None:
    """Run the case in the first argument (JSON) and write its outcome to the second (a path).

    `run_case` receives the case, which is of this kind, and its start time.
    """
    began = time.perf_counter()
    outcome = run_case(kind(**json.loads(sys.argv[1])), began)
    text = json.dumps(outcome, default=_plain, allow_nan=False)
    Path(sys.argv[2]).write_text(text)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{value!r} is not a JSON value")
