"""Every setting, in every task and with every source, is read by the run or refused by name.

A run of each kind records which settings the code reads, other than to check, store or compare
them. Any other setting must be refused.
"""

import contextlib
import csv
import dataclasses
import functools
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import jax
import numpy as np
import pytest

from flax_resnet import InputError, evaluate_run, train
from flax_resnet.data.augment.config import STAGE_NAMES
from flax_resnet.data.sources import tfds
from flax_resnet.data.sources.digits import FlaxResnetDigits
from flax_resnet.models.variants import VARIANTS
from flax_resnet.steps.mesh import data_mesh
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.parsing import parse
from flax_resnet.training.setup import prepare_run
from flax_resnet.training.unread import unread_settings
from tests.data.circles import write_circles

Settings = dict[str, Any]
# Values other than the defaults, and second ones for runs that have the first already.
OTHER: dict[str, tuple[Any, ...]] = {
    "task": ("segmentation", "classification"),
    "seed": (1,),
    "epochs": (2.0,),
    "steps": (1,),
    "loss": ("sigmoid", "softmax"),
    "target_threshold": (0.2,),
    "label_smoothing": (0.1,),
    "threshold": ("0.3",),
    "class_weights": ("balanced",),
    "dice_weight": (0.5,),
    "accumulate": (2,),
    "freeze": ("stem",),
    "freeze_epochs": (0.5,),
    "freeze_norms": ("stem",),
    "eval_every_epochs": (0.5,),
    "test_when_done": (True,),
    "log_every": (2,),
    "max_nonfinite": (1,),
    "loss_scale": ("dynamic",),
    "deterministic": (True,),
    "cpu_kernels": ("xla",),
    "model.name": ("resnet18",),
    "model.dtype": ("bfloat16",),
    "model.num_classes": (20,),
    "model.pretrained": ("resnet18.a1_in1k",),
    "model.pretrained_key": ("state_dict",),
    "data.source": ("synthetic:7",),
    "data.data_dir": ("x",),
    "data.follow_links": (True,),
    "data.train_split": ("train[:48]",),
    "data.eval_split": ("train[:8]",),
    "data.test_split": ("train[:8]",),
    "data.sampling": ("balanced",),
    "data.batch_size": (8,),
    "data.eval_batch_size": (8,),
    "data.image_size": (12,),
    "data.sizes": (((0.0, 12),),),
    "data.eval_size": (12,),
    "data.eval_flip": (True,),
    "data.channels": (3,),
    "data.crop": ("none", "random_resized_crop"),
    "data.crop_scale": ((0.5, 1.0),),
    "data.crop_ratio": ((1.0, 1.0),),
    "data.crop_padding": (2,),
    "data.flip": (False,),
    "data.eval_crop": (0.5,),
    "data.interpolation": ("bilinear",),
    "data.transform": ("mine",),
    "data.mean": ((0.4,),),
    "data.std": ((0.5,),),
    "data.on_device": (True, False),
    "data.workers": (1,),
    "data.on_error": ("skip", "raise"),
    "data.max_errors": (3,),
    "data.masks.values": ((10, 200),),
    "data.masks.class_names": (("a", "b"),),
    "data.masks.ignore_value": (7,),
    "data.masks.flip_vertical": (True,),
    "data.masks.quarter_turns": (True,),
    "data.masks.elastic": (1.0, 0.0),
    "data.masks.elastic_spacing": (8,),
    "data.masks.class_weights": ((1.0, 2.0),),
    "data.masks.border_weight": (1.0, 0.0),
    "data.masks.border_sigma": (2.0,),
    "data.augment.policy": ("trivial", ""),
    "data.augment.operations": (3,),
    "data.augment.magnitude": (5.0,),
    "data.augment.magnitude_std": (0.5,),
    "data.augment.magnitude_max": (12.0,),
    "data.augment.probability": (1.0,),
    "data.augment.increasing": (True,),
    "data.augment.fill": ("black",),
    "data.augment.jitter": ((0.4, 0.4, 0.0, 0.0),),
    "data.augment.jitter_probability": (0.5,),
    "data.augment.grey": (0.5,),
    "data.augment.blur": (0.5,),
    "data.augment.blur_radius": ((0.5, 1.0),),
    "data.augment.solarize": (0.5,),
    "data.augment.erase": (0.5,),
    "data.augment.erase_mode": ("rand",),
    "data.augment.erase_scale": ((0.1, 0.2),),
    "data.augment.erase_ratio": ((1.0, 1.0),),
    "data.augment.repeats": (2,),
    "optimizer.name": ("adamw", "sgd"),
    "optimizer.momentum": (0.5,),
    "optimizer.nesterov": (True,),
    "optimizer.b1": (0.5,),
    "optimizer.b2": (0.5,),
    "optimizer.alpha": (0.5,),
    "optimizer.epsilon": (1e-4,),
    "optimizer.trust": (0.5,),
    "optimizer.vector_rate": (0.5,),
    "optimizer.weight_decay": (0.1,),
    "optimizer.decay_norms": (False,),
    "optimizer.clip_norm": (2.0,),
    "optimizer.clip_adaptive": (0.1,),
    "optimizer.layer_decay": (0.5,),
    "schedule.name": ("linear", "cosine"),
    "schedule.learning_rate": (0.2,),
    "schedule.scale_for": (8,),
    "schedule.unit": ("step",),
    "schedule.every": ("epoch",),
    "schedule.warmup": (0.5,),
    "schedule.warmup_start": (0.01,),
    "schedule.decay_from": ("start",),
    "schedule.boundaries": ((0.5,),),
    "schedule.factor": (0.5,),
    "schedule.power": (3.0,),
    "schedule.end_rate": (1e-3,),
    "mix.mixup": (0.2,),
    "mix.cutmix": (1.0,),
    "mix.cutmix_frequency": (0.2,),
    "mix.frequency": (0.5,),
    "mix.per": ("pair",),
    "distill.teacher": ("resnet18.a1_in1k",),
    "distill.model": ("resnet18",),
    "distill.key": ("state_dict",),
    "distill.size": ("student",),
    "distill.temperature": (2.0,),
    "distill.weight": (0.5,),
    "distill.hard": (True,),
    "average.ema": (0.9, 0.0),
    "average.ema_warmup": (True,),
    "average.ema_from": (0.5,),
    "average.swa_from": (0.5, None),
    "average.every": (2,),
    "average.precise_batches": (1,),
    "checkpoint.keep_latest": (1,),
    "checkpoint.keep_best": (2,),
    "checkpoint.keep_every_steps": (1,),
    "checkpoint.every_steps": (1,),
    "early_stopping.patience": (1,),
    "early_stopping.min_delta": (0.5,),
    "logging.images": (2,),
    "logging.stage_gradients": (True,),
    "logging.histograms": (True,),
    "logging.wandb": ("project",),
    "logging.writer": ("mine",),
}
SLOW = ("synthetic:10", "masks", "digits", "tfds:digits", "csv", "labels")
SOURCES = ["folder", *(pytest.param(source, marks=pytest.mark.slow) for source in SLOW)]
# Choices that decide what else is read. Each row covers one value of several of them.
CHOICES: list[Settings] = [
    {"optimizer.name": "adamw", "schedule.name": "linear", "data.augment.policy": "auto"}
    | {"data.crop": "pad_crop", "mix.mixup": 0.2, "schedule.warmup": 0.5},
    {"optimizer.name": "lamb", "schedule.name": "polynomial", "data.augment.policy": "rand"}
    | {"data.crop": "none", "mix.mixup": 0.2, "mix.cutmix": 1.0, "average.ema": 0.9},
    {"optimizer.name": "rmsprop_tf", "schedule.name": "one_cycle", "data.augment.erase": 1.0}
    | {"average.swa_from": 0.5, "average.precise_batches": 1, "loss": "sigmoid"},
    {"optimizer.name": "lars", "schedule.name": "constant", "data.augment.blur": 1.0}
    | {"data.augment.jitter": (0.4, 0.4, 0.0, 0.0)},
    {"optimizer.name": "muon", "schedule.name": "step", "schedule.boundaries": (0.5,)}
    | {"data.augment.policy": "trivial", "data.augment.solarize": 1.0},
    {"data.on_device": True, "data.crop": "pad_crop"},
]
# Looked at before the choice that decides whether they count.
LOOKED_AT = {
    "data.augment.jitter_probability",
    "data.max_errors",
    "data.transform",
    "mix.frequency",
    "schedule.decay_from",
    "schedule.end_rate",
    "schedule.unit",
}
# Looked at once an image cannot be decoded.
ON_FAILURE = {"data.on_error"}
CHECKING = {"checks.py", "unread.py", "parsing.py", "workdir.py", "dataclasses.py", "<string>"}


def leaves(kind: type = TrainConfig, prefix: str = "") -> Iterator[tuple[type, str, str]]:
    """Yield each setting's dataclass, its field and the prefix of the field."""
    hints = typing.get_type_hints(kind)
    for entry in dataclasses.fields(kind):
        hint = hints[entry.name]
        if dataclasses.is_dataclass(hint):
            yield from leaves(typing.cast(type, hint), f"{prefix}{entry.name}.")
        elif entry.name != "arguments":  # those of the network, which refuses what it does not have
            yield kind, entry.name, prefix


def test_every_setting_has_another_value_here() -> None:
    assert {prefix + name for _, name, prefix in leaves()} == OTHER.keys()


@contextlib.contextmanager
def recorded_reads() -> Iterator[set[str]]:
    """Collect the settings that are read inside of the block, other than by checks."""
    found: set[str] = set()
    sections: dict[type, dict[str, tuple[str, ...]]] = {}
    for kind, name, prefix in leaves():
        sections.setdefault(kind, {})[name] = (prefix + name,)
        if prefix == "data.augment.":
            stages = (*STAGE_NAMES, "jitter_probability")
            sections[kind]["stages"] = tuple(prefix + stage for stage in stages)

    def getter(names: Mapping[str, tuple[str, ...]]) -> Callable[[Any, str], Any]:
        def get(config: Any, name: str) -> Any:
            if name in names and not found.issuperset(names[name]) and not is_checking():
                found.update(names[name])
            return object.__getattribute__(config, name)

        return get

    with pytest.MonkeyPatch.context() as patch:
        for kind, names in sections.items():
            patch.setattr(kind, "__getattribute__", getter(names))
        yield found


def is_checking() -> bool:
    """Return whether a check, a comparison or a copy of settings is on the stack."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code is not reads_of.__code__:
        code = frame.f_code
        if Path(code.co_filename).name in CHECKING:
            return True
        if code.co_name.startswith(("check_", "_check", "__post_init__", "to_dict")):
            return True
        frame = frame.f_back
    return False


@pytest.fixture
def settings_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Settings]:
    """Return the function that makes a source and returns the settings of a short run on it."""
    monkeypatch.setitem(VARIANTS, "unet", dict(VARIANTS["unet"], depth=1))
    monkeypatch.chdir(tmp_path)  # where relative paths lead

    def make(source: str) -> Settings:
        splits = ("train[:32]", "validation[:16]")
        several = source == "labels"
        if source in ("folder", "csv", "labels"):
            write_images(tmp_path / "photos")
            kind, file = {
                "folder": ("folder", ""),
                "csv": ("csv", "table.csv"),
                "labels": ("csv", "several.csv"),
            }[source]
            source, splits = f"{kind}:{tmp_path / 'photos' / file}", ("train", "train[:8]")
        elif source == "masks":
            source = f"masks:{write_circles(tmp_path / 'circles', 9)}"
            splits = ("train[:6]", "train[6:]")
        elif source != "synthetic:10":
            home = str(tmp_path / "tfds")
            monkeypatch.setattr(tfds, "find_builder", lambda *_: FlaxResnetDigits(data_dir=home))
            splits = ("train[:32]", "test[:16]")
        masks = source.startswith("masks:")
        return {
            "task": "segmentation" if masks else "multilabel" if several else "classification",
            **({"loss": "sigmoid"} if several else {}),
            "log_every": 1,
            "model": {"name": "unet", "base_width": 4} if masks else {"name": "tiny"},
            "data.source": source,
            "data.train_split": splits[0],
            "data.eval_split": splits[1],
            "data.batch_size": 2 if masks else 16,
            "data.eval_batch_size": 2 if masks else 16,
            "data.image_size": 16 if masks else 8,
            "data.channels": 1,
            "data.mean": (0.5,),
            "data.std": (0.25,),
            "data.workers": 0,
        }

    return make


def write_images(folder: Path) -> None:
    """Write train/CLASS/NUMBER.png, table.csv with the same images, and several.csv likewise."""
    rows = []
    for number in range(32):
        file = folder / "train" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.full((8, 8, 1), number, np.uint8))
        rows.append([str(file.relative_to(folder)), file.parent.name, "train"])
    with (folder / "table.csv").open("w", newline="") as table:
        csv.writer(table).writerows([["file", "label", "split"], *rows])
    with (folder / "several.csv").open("w", newline="") as table:
        pairs = [
            [file, f"{label};c" if at % 3 else label, "train"]
            for at, (file, label, _) in enumerate(rows)
        ]
        csv.writer(table).writerows([["file", "labels", "split"], *pairs])


def nested(settings: Settings) -> Settings:
    whole: Settings = {}
    for key, value in settings.items():
        *path, name = key.split(".")
        section = functools.reduce(lambda part, each: part.setdefault(each, {}), path, whole)
        section[name] = dict(value) if isinstance(value, dict) else value
    return whole


def reads_of(settings: Settings, workdir: Path) -> set[str]:
    """Train, evaluate, and return the settings that this has read."""
    config = parse(nested(settings))
    with recorded_reads() as found:
        run = train(config, workdir, mesh=data_mesh(jax.devices()[:1]))
        evaluate_run(run)
    return found


def changed(settings: Settings, name: str) -> Settings:
    """Return the settings with another value of one of them."""
    config = parse(nested(settings))
    now = functools.reduce(getattr, name.split("."), config)
    value = next(value for value in OTHER[name] if value != now)
    if name.startswith("model."):
        return settings | {"model": settings["model"] | {name.removeprefix("model."): value}}
    return settings | {name: value}


def refusal(settings: Settings, name: str) -> str:
    """Return the message with which another value of a setting is refused; "" if it is not."""
    try:
        prepare_run(parse(nested(changed(settings, name))), data_mesh(jax.devices()[:1]))
    except InputError as error:
        return str(error)
    return ""


def every_setting_counts(settings: Settings, workdir: Path) -> None:
    found = reads_of(settings, workdir)
    unread = OTHER.keys() - found
    if not settings["data.source"].startswith("synthetic"):
        unread -= ON_FAILURE
    ignored = {name for name in unread if f"config.{name} " not in refusal(settings, name)}
    assert not ignored, "these do nothing, and are not refused"
    refused = unread_settings(parse(nested(settings))).keys()
    assert refused & found <= LOOKED_AT, "these do something, and are refused"


@pytest.mark.parametrize("source", SOURCES)
def test_a_run_reads_or_refuses_every_setting(
    source: str, settings_of: Callable[[str], Settings], tmp_path: Path
) -> None:
    every_setting_counts(settings_of(source), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("choices", CHOICES, ids=lambda row: " ".join(map(str, row.values())))
def test_a_run_with_other_choices_reads_or_refuses_every_setting(
    choices: Settings, settings_of: Callable[[str], Settings], tmp_path: Path
) -> None:
    every_setting_counts(settings_of("synthetic:10") | choices, tmp_path / "run")
