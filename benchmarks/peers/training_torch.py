"""Train a CIFAR network with torch on given batches, from given weights."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, torch's own name for it

from benchmarks import case as cases
from benchmarks.peers.torch_side import CifarResNet
from benchmarks.peers.training_case import Record, TrainingCase

TEST_BATCH = 500


def run_case(case: TrainingCase, began: float) -> dict[str, Any]:
    """Train and write the record; return the versions."""
    del began
    dtype = getattr(torch, case.dtype)
    model, record = make_model(case).to(dtype), Record()
    optimizer = make_optimizer(case, model)
    images, labels = case.read("images"), case.read("labels")
    for step, rate in enumerate(case.read("rates")):
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        if step in case.kept_steps:
            record.keep(step, "weights", arrays(dict(model.state_dict())))
        optimizer.zero_grad(set_to_none=True)
        logits = model(pixels(images[step], case, dtype))
        target = torch.from_numpy(np.array(labels[step])).long()
        loss = F.cross_entropy(logits, target, label_smoothing=case.label_smoothing)
        loss.backward()
        if step in case.kept_steps:
            gradients = {name: each.grad for name, each in model.named_parameters()}
            record.keep(step, "gradient", arrays(gradients))
            record.keep(step, "loss", arrays({"": loss}))
        optimizer.step()
        record.add(loss.detach())
    record.write(case, predictions(model, case, dtype) if case.tests else ())
    return {"packages": {"torch": torch.__version__}, "threads": torch.get_num_threads()}


def make_model(case: TrainingCase) -> CifarResNet:
    """Return the network with the weights of the case; every key has to fit."""
    depth = re.fullmatch(r"cifar_resnet(\d+)", case.model)
    if depth is None:
        raise ValueError(f"the network is {case.model}; expected cifar_resnet and a depth")
    config = json.loads((Path(case.folder) / "config.json").read_text())
    model = CifarResNet(int(depth[1]), case.num_classes, config["data"]["channels"])
    state = {key: torch.from_numpy(values) for key, values in case.initial().items()}
    model.load_state_dict(state, strict=True)
    return model.train()


def make_optimizer(case: TrainingCase, model: CifarResNet) -> torch.optim.SGD:
    """Return torch's SGD, with weight decay of all parameters or of the kernels alone."""
    named = list(model.named_parameters())
    vectors = [each for _, each in named if each.ndim == 1 and not case.decay_norms]
    others = [each for _, each in named if each.ndim > 1 or case.decay_norms]
    groups = [
        {"params": others, "weight_decay": case.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=0.0,
        momentum=case.momentum,
        nesterov=case.nesterov,
    )


def pixels(images: np.ndarray, case: TrainingCase, dtype: torch.dtype) -> torch.Tensor:
    """Return NHWC pixels as normalized NCHW images, channels last."""
    scale = (1 / (255 * np.asarray(case.std, np.float32))).astype(np.float32)
    shift = np.asarray(case.mean, np.float32) / np.asarray(case.std, np.float32)
    normalized = images.astype(np.float32) * scale - shift
    return torch.from_numpy(normalized).to(dtype).permute(0, 3, 1, 2)


def arrays(values: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return copies of tensors as arrays."""
    return {name: each.detach().numpy().copy() for name, each in values.items()}


def predictions(model: CifarResNet, case: TrainingCase, dtype: torch.dtype) -> list[np.ndarray]:
    """Return the predicted classes of the test images."""
    images, found = case.read("test_images"), []
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(images), TEST_BATCH):
            logits = model(pixels(images[start : start + TEST_BATCH], case, dtype))
            found.append(logits.argmax(-1).numpy())
    return found


if __name__ == "__main__":
    cases.child_main(run_case, TrainingCase)
