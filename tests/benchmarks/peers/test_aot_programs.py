"""What programs compiled for accelerators must keep: kernels, bytes, memory, layouts, messages.

They are compiled without a device, with the extras `aot-gpu` and `aot-tpu`; without these the tests
are skipped. The limits are a little above what jax 0.10.2 compiles. A change that is meant to cost
more changes the limit.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import targets
from benchmarks.case import Case
from benchmarks.peers import aot_side
from flax_resnet.models import blocks

pytestmark = pytest.mark.slow
GPU = pytest.mark.skipif(
    not targets.is_installed("jax_plugins.xla_cuda13"), reason="the extra aot-gpu is missing"
)
TPU = pytest.mark.skipif(not targets.is_installed("libtpu"), reason="the extra aot-tpu is missing")


@dataclasses.dataclass(frozen=True)
class Limits:
    """The most that a program may need; see `aot_side.read` for what is counted."""

    kernels: int
    gigabytes: float
    planned: float
    all_reduces: int = 0
    all_reduce_mebibytes: float = 0.0


TINY = Case(
    "train",
    "jit",
    platform="cpu",
    target="h100",
    model="cifar_resnet20",
    stage_sizes=(1, 1, 1),
    image_size=32,
    num_classes=10,
    batch_size=64,
)
RESNET50 = dataclasses.replace(TINY, model="resnet50", stage_sizes=None, image_size=224)
RESNET50 = dataclasses.replace(RESNET50, num_classes=1000, batch_size=256)
FOLDED = dict(phase="inference", mode="folded")
PROGRAMS = {
    "resnet50-train": (RESNET50, Limits(1450, 97, 11.2)),
    "resnet50-train-8": (
        dataclasses.replace(RESNET50, devices=8, batch_size=8 * 256),
        Limits(2000, 97, 11.8, 101, 54),
    ),
    "resnet50-folded-1": (
        dataclasses.replace(RESNET50, batch_size=1, **FOLDED),
        Limits(170, 0.28, 0.12),
    ),
    "cifar_resnet20-train": (
        dataclasses.replace(TINY, stage_sizes=None, batch_size=128),
        Limits(490, 0.9, 0.11),
    ),
}


@functools.cache
def compiled(case: Case) -> dict[str, Any]:
    """Return the figures of a program, which several tests read."""
    return aot_side.run_case(case, 0.0)


def faults(found: dict[str, Any], limits: Limits) -> list[str]:
    """Return what is wrong with a program for a GPU."""
    sent = found["collectives"].get("all-reduce", {"count": 0, "bytes": 0})
    checks = {
        f"{found['kernels']} kernels": found["kernels"] <= limits.kernels,
        f"{found['bytes'] / 1e9:.2f} GB": found["bytes"] <= limits.gigabytes * 1e9,
        f"{found['planned'] / 1e9:.2f} GB planned": found["planned"] <= limits.planned * 1e9,
        f"float32 maps: {found['float32_maps']}": found["float32_maps"]["count"] == 0,
        f"layouts: {found['convolutions']}": found["convolutions"].keys()
        == {"bf16 NHWC OHWI NHWC"},
        f"{sent['count']} all-reduces": sent["count"] <= limits.all_reduces,
        f"{sent['bytes']} bytes": sent["bytes"] <= limits.all_reduce_mebibytes * 2**20,
        f"communication: {found['collectives'].keys()}": found["collectives"].keys()
        <= {"all-reduce"},
    }
    return [fault for fault, holds in checks.items() if not holds]


@GPU
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_gpus_program_stays_within_its_limits(name: str) -> None:
    case, limits = PROGRAMS[name]
    assert faults(compiled(case), limits) == []


@GPU
def test_with_folded_norms_every_convolution_is_one_fused_call() -> None:
    found = compiled(PROGRAMS["resnet50-folded-1"][0])
    assert found["fused_convolutions"] == sum(found["convolutions"].values()) == 53


@GPU
@pytest.mark.parametrize("name", ["resnet50-train"])
def test_a_step_moves_no_more_bytes_than_the_same_network_of_flax(name: str) -> None:
    case, _ = PROGRAMS[name]
    linen = compiled(dataclasses.replace(case, mode="linen"))
    assert compiled(case)["bytes"] <= linen["bytes"]


def transposed(x: jax.Array) -> jax.Array:
    """Return maps as they are, after a detour over channels first."""
    first = jax.lax.optimization_barrier(x.transpose(0, 3, 1, 2))
    return first.transpose(0, 2, 3, 1)


def widened(x: jax.Array) -> jax.Array:
    """Return maps as they are, after a detour over float32."""
    return jax.lax.optimization_barrier(x.astype(jnp.float32)).astype(x.dtype)


@GPU
@pytest.mark.parametrize(("detour", "fault"), [(transposed, "GB"), (widened, "float32 maps")])
def test_a_transposition_or_a_cast_in_every_block_is_found(
    detour: Any, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = compiled(TINY)
    limits = Limits(2 * plain["kernels"], 1.02 * plain["bytes"] / 1e9, 2 * plain["planned"] / 1e9)
    assert faults(plain, limits) == []
    join = blocks.join
    monkeypatch.setattr(blocks, "join", lambda branch, *rest: join(detour(branch), *rest))
    assert fault in " ".join(faults(aot_side.run_case(TINY, 0.0), limits))
