"""The peer's training step and inference, channels last, in a process that has only torch.

The networks are timm's, and a short torch module for CIFAR networks, which timm lacks.
"""

import contextlib
import importlib.metadata
import re
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812, torch's own name for it
from torch import library, nn
from torch.utils.checkpoint import checkpoint

from benchmarks import case as cases
from benchmarks.case import Case

# timm imports torchvision, which fails if its compiled operators do not match the installed torch.
# The networks here use none of these operators.
_TORCHVISION_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qroi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
    "int pooled_width, int sampling_ratio, bool aligned) -> Tensor",
)
# A library's operators disappear when the library is garbage-collected.
_KEPT: list[Any] = []


def create_network(case: Case) -> nn.Module:
    """Return the peer of the case's network, with the same number of parameters."""
    cifar = re.fullmatch(r"cifar_resnet(\d+)", case.model)
    if cifar:
        return CifarResNet(int(cifar[1]), case.num_classes, remat=case.remat)
    shallow = dict(layers=(1,) * 4, channels=(64,) * 4) if case.shallow else {}
    create_model = import_timm().create_model
    model: nn.Module = create_model(case.model, num_classes=case.num_classes, **shallow)
    if case.remat:
        model.set_grad_checkpointing()
    return model


class CifarResNet(nn.Module):
    """The CIFAR network of He et al. 2015, section 4.2: three stages of basic blocks, option A.

    Its keys are those that `flax_resnet.to_torch` writes.
    """

    def __init__(
        self, depth: int, num_classes: int, channels: int = 3, remat: bool = False
    ) -> None:
        super().__init__()
        self.remat = remat
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        count = (depth - 2) // 6
        self.layer1 = nn.Sequential(*(CifarBlock(16, 16) for _ in range(count)))
        self.layer2 = nn.Sequential(*(CifarBlock(16 if i == 0 else 32, 32) for i in range(count)))
        self.layer3 = nn.Sequential(*(CifarBlock(32 if i == 0 else 64, 64) for i in range(count)))
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of images (n, 3, h, w)."""
        x = F.relu(self.bn1(self.conv1(x)))
        for block in (*self.layer1, *self.layer2, *self.layer3):
            remat = self.remat and self.training
            x = checkpoint(block, x, use_reentrant=False) if remat else block(x)
        return self.linear(x.mean((2, 3)))


class CifarBlock(nn.Module):
    """Two convolutions; when channels grow, the shortcut subsamples and pads with zeros."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.grown, stride = width - channels, 1 if width == channels else 2
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return feature maps of the block's width."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.grown:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.grown // 2, self.grown // 2))
        return F.relu(x + y)


def import_timm() -> Any:
    """Import timm, even if the installed torchvision does not match torch."""
    try:
        import timm
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        operators = library.Library("torchvision", "DEF")
        for signature in _TORCHVISION_OPERATORS:
            operators.define(signature)
        _KEPT.append(operators)
        for name in [
            key for key in sys.modules if key.partition(".")[0] in ("timm", "torchvision")
        ]:
            del sys.modules[name]
        import timm
    return timm


_PACKAGES = ("torch", "torchvision", "timm", "triton")


def run_case(case: Case, began: float) -> dict[str, Any]:
    """Measure training or inference on the first device.

    Raises:
      RuntimeError: torch does not find the platform of the case.
    """
    if case.platform == "gpu" and not torch.cuda.is_available():
        raise RuntimeError("torch finds no GPU; expected one for platform gpu")
    device = torch.device("cuda" if case.platform == "gpu" else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    model = create_network(case).to(device, memory_format=torch.channels_last)
    numbers, labels = cases.inputs(case)
    # NHWC bytes viewed as NCHW are what channels_last means.
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
    run(2)  # cuDNN autotunes, with workspaces that later steps do not need.
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
    """Compile according to the mode; `frozen` makes the weights constants and folds norms."""
    if case.mode == "eager":
        return function
    return torch.compile(function, options={"freezing": True} if case.mode == "frozen" else None)


def _autocast(case: Case) -> contextlib.AbstractContextManager[Any]:
    if case.dtype == "float32":
        return contextlib.nullcontext()
    kind = "cuda" if case.platform == "gpu" else "cpu"
    return torch.autocast(kind, dtype=getattr(torch, case.dtype))


def _kept_bytes(run: Callable[[int], Any]) -> int:
    """Return the bytes that a forward pass stores for its backward pass, each storage once.

    Tensors stored by checkpointing are not counted.
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
    """Peak bytes of the process so far, and of the steps after this object is made."""

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
    """Do nothing: a CPU's steps return when they are done."""


if __name__ == "__main__":
    cases.child_main(run_case)
