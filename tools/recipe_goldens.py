"""Record what timm, torch and torchvision do with the settings of published recipes.

    python -m tools.recipe_goldens tests/goldens/recipes.json

Needs torch, timm and torchvision, which are not dependencies of this project. For each recipe the
file has learning rates, the parameters with weight decay, the arguments of its augmentations and
the loss of mixed and smoothed labels; `tests/configs/test_published_settings.py` compares the
recipes in `configs/` with it. The settings below are written as the reference takes them.
"""

import argparse
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 10
# The first label has a share of each; 0.21 is where smoothing decides what passes a threshold.
SHARES = (1.0, 0.9, 0.5, 0.3, 0.21, 0.15)
# RandAugment's published magnitudes, and where noise of the deviation 0.5 often moves them.
NOISE = (-0.5, 0.0, 0.5)
# Epochs of which the rate is kept, besides the last three: the warm-up and then one in ten.
WARM = 8

# timm's options for ResNet strikes back: hyperparameters of its training script.
TIMM = {
    "rsb_a1": dict(epochs=600, lr=5e-3, weight_decay=0.01, mixup=0.2, smoothing=0.1, magnitude=7),
    "rsb_a2": dict(epochs=300, lr=5e-3, weight_decay=0.02, mixup=0.1, smoothing=0.0, magnitude=7),
    "rsb_a3": dict(epochs=100, lr=8e-3, weight_decay=0.02, mixup=0.1, smoothing=0.0, magnitude=6),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    options = parser.parse_args(arguments)

    from benchmarks.peers.torch_side import import_timm

    import_timm()
    recipes = {name: timm_recipe(settings) for name, settings in TIMM.items()}
    recipes["torchvision_v2"] = torchvision_recipe()
    packages = ("torch", "timm", "torchvision")
    made_with = {name: importlib.metadata.version(name) for name in packages}
    result = {"made_with": made_with, "logits": logits().tolist(), "recipes": recipes}
    options.output.write_text(json.dumps(result) + "\n")
    return 0


def timm_recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what timm makes of the settings of a procedure of ResNet strikes back."""
    import timm
    import torch
    from timm.data.mixup import mixup_target
    from timm.loss import BinaryCrossEntropy
    from timm.optim import param_groups_weight_decay
    from timm.scheduler import CosineLRScheduler

    epochs = settings["epochs"]
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=settings["lr"])
    schedule = CosineLRScheduler(
        optimizer, t_initial=epochs, lr_min=1e-6, warmup_t=5, warmup_lr_init=1e-4
    )
    rates = []
    for epoch in range(epochs):
        schedule.step(epoch)
        rates.append(optimizer.param_groups[0]["lr"])
    labels = torch.arange(len(logits())) % CLASSES
    loss = BinaryCrossEntropy(target_threshold=0.2)
    losses = []
    for share in SHARES:
        target = mixup_target(labels, CLASSES, share, settings["smoothing"])
        losses.append(float(loss(torch.from_numpy(logits()), target.double())))
    groups = param_groups_weight_decay(timm.create_model("resnet50"), settings["weight_decay"])
    return {
        "rates": kept_rates(rates),
        "decay": [
            [group["weight_decay"], sum(each.numel() for each in group["params"])]
            for group in groups
        ],
        "partner": "reversed",
        "losses": losses,
        "augmentation": {
            str(settings["magnitude"] + noise): rand_arguments(settings["magnitude"] + noise)
            for noise in NOISE
        },
    }


def rand_arguments(magnitude: float) -> dict[str, list[float]]:
    """Return the arguments, of both signs, that timm gives each operation at a magnitude."""
    from timm.data import auto_augment

    found: dict[str, list[float]] = {}
    for name in auto_augment._RAND_INCREASING_TRANSFORMS:
        level_to_argument = auto_augment.LEVEL_TO_ARG[name]
        if level_to_argument is None:
            found[name] = []
            continue
        values = {float(level_to_argument(magnitude, {})[0]) for _ in range(64)}
        found[name] = sorted(values)
    return found


def torchvision_recipe() -> dict[str, Any]:
    """Return what torch and torchvision make of torchvision's second recipe."""
    import torch
    from torch.optim import lr_scheduler
    from torchvision.models import resnet50
    from torchvision.transforms import TrivialAugmentWide

    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    warm = lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=5)
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=595, eta_min=0.0)
    schedule = lr_scheduler.SequentialLR(optimizer, [warm, cosine], milestones=[5])
    rates = []
    for _ in range(600):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    loss, labels = torch.nn.CrossEntropyLoss(label_smoothing=0.1), np.arange(len(logits()))
    own = torch.eye(CLASSES, dtype=torch.float64)[torch.from_numpy(labels % CLASSES)]
    # Its mixing pairs each image with the one before it.
    mixed = [share * own + (1 - share) * own.roll(1, 0) for share in SHARES]
    space = TrivialAugmentWide()._augmentation_space(31)
    # The recipe has no decay of norms; it has one of the head's bias.
    norms = (each for each in resnet50().modules() if isinstance(each, torch.nn.BatchNorm2d))
    spared = sum(each.numel() for norm in norms for each in norm.parameters())
    count = sum(each.numel() for each in resnet50().parameters())
    return {
        "rates": kept_rates(rates),
        "decay": [[0.0, spared], [2e-5, count - spared]],
        "partner": "before",
        "losses": [float(loss(torch.from_numpy(logits()), target)) for target in mixed],
        "augmentation": {
            name: {"signed": signed, "magnitudes": [round(each, 6) for each in found.tolist()]}
            for name, (magnitudes, signed) in space.items()
            for found in [magnitudes.double().flatten()]
        },
    }


def kept_rates(rates: Sequence[float]) -> dict[str, float]:
    """Return the rates of the first epochs, of one in ten, and of the last three."""
    last = len(rates) - 3
    return {
        str(epoch): rate
        for epoch, rate in enumerate(rates)
        if epoch < WARM or epoch % 10 == 0 or epoch >= last
    }


def logits() -> np.ndarray:
    """Return the logits whose loss is recorded, in float64."""
    return np.random.RandomState(0).standard_normal((6, CLASSES))


if __name__ == "__main__":
    raise SystemExit(main())
