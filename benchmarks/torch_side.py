"""The peer's training step and inference, channels last, in a process that has only torch."""

import contextlib
import importlib.metadata
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812, torch's own name for it

from benchmarks import case as cases
from benchmarks.case import Case
from benchmarks.torch_networks import create_network

_PACKAGES = ("torch", "torchvision", "timm", "triton")


def run_case(case: Case, began: float) -> dict[str, Any]:
    """Measure training or inference on the first device.

    Raises:
      RuntimeError: torch does not see the platform that the case asks for.
    """
    if case.platform == "gpu" and not torch.cuda.is_available():
        raise RuntimeError("torch sees no GPU; expected one for platform gpu")
    device = torch.device("cuda" if case.platform == "gpu" else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    model = create_network(case).to(device, memory_format=torch.channels_last)
    numbers, labels = cases.inputs(case)
    # NHWC bytes seen as NCHW: this is what channels_last means.
    images = torch.from_numpy(numbers).to(device).permute(0, 3, 1, 2)
    make = _inference if case.phase == "inference" else _train
    step = make(case, model, images, torch.from_numpy(labels).long().to(device))
    wait = torch.cuda.synchronize if case.platform == "gpu" else _nothing

    def run(steps: int) -> Any:
        for _ in range(steps):
            outcome = step()
        wait()
        return outcome

    start = time.perf_counter()
    run(1)
    first, first_at = time.perf_counter(), time.monotonic()
    run(2)  # cuDNN tries its algorithms, with workspaces that later steps do not need.
    memory = _Memory(case)
    repeats = cases.timed_repeats(run, case, began)
    loss = cases.said(float(run(1))) if case.phase == "train" else None
    kept = {"kept": _kept_bytes(run)} if case.phase == "memory" and not case.remat else {}
    return {
        "device": torch.cuda.get_device_name() if case.platform == "gpu" else "cpu",
        "repeats": repeats,
        "first_step_s": first - start,
        "first_step_at": first_at,
        "memory": memory.peaks() | kept,
        "work": {"parameters": sum(values.numel() for values in model.parameters())},
        "loss": loss,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "packages": _versions(),
    }


def _train(
    case: Case, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> Callable[[], Any]:
    model.train()
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=cases.LEARNING_RATE,
        momentum=cases.MOMENTUM,
        weight_decay=cases.WEIGHT_DECAY,
        fused=True,
    )
    normalize = _normalizer(images)

    def forward(pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(normalize(pixels)).float(), labels)

    loss_fn = _compiled(case, forward)

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with _autocast(case):
            loss = loss_fn(images, labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _inference(
    case: Case, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> Callable[[], Any]:
    del labels
    model.eval()
    normalize = _normalizer(images)

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        return model(normalize(pixels)).float()

    logits = _compiled(case, forward)

    def step() -> torch.Tensor:
        with torch.inference_mode(), _autocast(case):
            return logits(images)

    return step


def _normalizer(images: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    scale, shift = (
        torch.tensor(values, device=images.device).view(1, 3, 1, 1)
        for values in (
            [1 / (255 * std) for std in cases.STD],
            [mean / std for mean, std in zip(cases.MEAN, cases.STD, strict=True)],
        )
    )
    return lambda pixels: pixels * scale - shift


def _compiled(case: Case, function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as the mode asks; `frozen` takes the weights for constants, and folds norms away."""
    if case.mode == "eager":
        return function
    return torch.compile(function, options={"freezing": True} if case.mode == "frozen" else None)


def _autocast(case: Case) -> contextlib.AbstractContextManager[Any]:
    if case.dtype == "float32":
        return contextlib.nullcontext()
    kind = "cuda" if case.platform == "gpu" else "cpu"
    return torch.autocast(kind, dtype=getattr(torch, case.dtype))


def _kept_bytes(run: Callable[[int], Any]) -> int:
    """Return what a step's forward pass keeps for its backward pass, each storage once.

    What checkpointing keeps is not seen.
    """
    found: dict[int, int] = {}

    def note(values: torch.Tensor) -> torch.Tensor:
        storage = values.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return values

    with torch.autograd.graph.saved_tensors_hooks(note, lambda values: values):
        run(1)
    return sum(found.values())


class _Memory:
    """Peaks in bytes: of the process so far, and of the steps from here on."""

    def __init__(self, case: Case) -> None:
        self._on_gpu = case.platform == "gpu"
        self._start = torch.cuda.max_memory_allocated() if self._on_gpu else None
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def peaks(self) -> dict[str, Any]:
        return {
            "peak": torch.cuda.max_memory_allocated() if self._on_gpu else None,
            "peak_of_first_steps": self._start,
            "reserved": torch.cuda.max_memory_reserved() if self._on_gpu else None,
            "process_rss_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _nothing() -> None:
    """Wait for a CPU, whose steps return when they are done."""


if __name__ == "__main__":
    cases.child_main(run_case)
