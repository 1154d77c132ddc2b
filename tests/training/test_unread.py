"""Refusal, by name, of settings that a run does not use."""

import dataclasses
import functools
import re
from typing import Any

import pytest

from flax_resnet.errors import InputError
from flax_resnet.steps.tasks.classification import LOSSES
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.parsing import parse
from flax_resnet.training.unread import READ_WHERE, check_unread

# For each entry of the table: settings of a run that does not read it, of one that does, and a
# different value for each setting of the entry.
TEACHER = {"distill.teacher": "resnet18"}
MASKS = {"task": "segmentation", "data.source": "masks:x"}
CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        TEACHER,
        TEACHER | {"distill.weight": 0.5},
        {"loss": "sigmoid", "label_smoothing": 0.1, "class_weights": "balanced"},
    ),
    ({}, {"task": "multilabel", "loss": "sigmoid"}, {"threshold": "0.3"}),
    ({"loss": "mine"}, {}, {"label_smoothing": 0.1, "class_weights": "balanced"}),
    (
        {},
        TEACHER,
        {"distill.model": "resnet18", "distill.temperature": 2.0, "distill.weight": 0.5}
        | {"distill.hard": True, "distill.key": "state_dict", "distill.size": "student"},
    ),
    ({}, {"model.pretrained": "resnet18.a1_in1k"}, {"model.pretrained_key": "state_dict"}),
    (TEACHER | {"distill.hard": True}, TEACHER, {"distill.temperature": 2.0}),
    ({}, {"mix.mixup": 0.2}, {"mix.frequency": 0.5, "mix.per": "pair"}),
    ({"mix.mixup": 0.2}, {"mix.mixup": 0.2, "mix.cutmix": 1.0}, {"mix.cutmix_frequency": 0.1}),
    ({}, {"average.ema": 0.9}, {"average.ema_warmup": True, "average.ema_from": 1.0}),
    ({}, {"early_stopping.patience": 3}, {"early_stopping.min_delta": 0.1}),
    ({}, {"average.ema": 0.9}, {"average.every": 2}),
    (
        MASKS,
        {},
        {
            "data.transform": "mine",
            "data.crop": "none",
            "data.interpolation": "bilinear",
            "data.eval_crop": 1.0,
        },
    ),
    (
        {"data.crop": "pad_crop"},
        {},
        {"data.crop_scale": (0.5, 1.0), "data.crop_ratio": (1.0, 1.0)},
    ),
    ({}, {"data.crop": "pad_crop"}, {"data.crop_padding": 2}),
    ({"data.source": "synthetic"}, {}, {"data.on_error": "skip"}),
    ({}, {"data.on_error": "skip"}, {"data.max_errors": 3}),
    ({"data.source": "folder:x"}, {"data.source": "tfds:mnist"}, {"data.data_dir": "x"}),
    ({"data.source": "folder:x"}, {"data.source": "hf:o/n"}, {"data.data_dir": "x"}),
    ({"data.source": "folder:x"}, {"data.source": "digits"}, {"data.data_dir": "x"}),
    ({"data.source": "tfds:mnist"}, {"data.source": "csv:x"}, {"data.follow_links": True}),
    ({"data.source": "synthetic"}, MASKS, {"data.follow_links": True}),
    (
        MASKS,
        MASKS | {"data.masks": {"elastic": 1.0, "border_weight": 1.0}},
        {"data.masks.elastic_spacing": 8, "data.masks.border_sigma": 2.0},
    ),
    (
        {"optimizer.name": "lamb"},
        {"optimizer.name": "rmsprop_tf"},
        {"optimizer.momentum": 0.5, "optimizer.nesterov": True, "optimizer.alpha": 0.5},
    ),
    (
        {"optimizer.name": "lars"},
        {"optimizer.name": "muon"},
        {"optimizer.b1": 0.5, "optimizer.b2": 0.5, "optimizer.epsilon": 1e-4}
        | {"optimizer.vector_rate": 0.5},
    ),
    ({}, {"optimizer.name": "lars"}, {"optimizer.trust": 0.5}),
    (
        {"schedule.warmup": 1.0},
        {"schedule.name": "step"},
        {"schedule.boundaries": (3.0,), "schedule.factor": 0.5},
    ),
    ({}, {"schedule.name": "polynomial"}, {"schedule.power": 3.0}),
    ({"schedule.name": "step"}, {"schedule.name": "one_cycle"}, {"schedule.end_rate": 1e-3}),
    (
        {},
        {"schedule.warmup": 1.0},
        {"schedule.unit": "step", "schedule.warmup_start": 0.01, "schedule.decay_from": "start"},
    ),
    ({}, {"schedule.name": "one_cycle"}, {"schedule.warmup_start": 0.01}),
    (
        {"schedule.name": "step", "schedule.warmup": 1.0},
        {"schedule.name": "linear", "schedule.warmup": 1.0},
        {"schedule.decay_from": "start"},
    ),
    (
        {"data.augment": {"policy": "trivial"}},
        {"data.augment": {"policy": "rand"}},
        {"data.augment.operations": 3, "data.augment.magnitude": 5.0}
        | {"data.augment.probability": 1.0, "data.augment.increasing": True}
        | {"data.augment.magnitude_std": 0.5, "data.augment.magnitude_max": 12.0},
    ),
    (
        {},
        {"data.augment": {"policy": "auto"}},
        {"data.augment.magnitude_std": 0.5, "data.augment.fill": "black"},
    ),
    (
        {},
        {"data.augment": {"jitter": (0.4, 0.4, 0.4, 0.0), "blur": 0.5, "erase": 0.5}},
        {"data.augment.jitter_probability": 0.5, "data.augment.blur_radius": (0.5, 1.0)}
        | {"data.augment.erase_mode": "rand", "data.augment.erase_scale": (0.1, 0.2)}
        | {"data.augment.erase_ratio": (1.0, 1.0)},
    ),
]


@pytest.fixture(autouse=True)
def own_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a loss."""
    monkeypatch.setitem(LOSSES, "mine", lambda logits, batch: logits.sum())


def config_of(settings: dict[str, Any]) -> TrainConfig:
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *path, name = key.split(".")
        section = functools.reduce(lambda part, each: part.setdefault(each, {}), path, nested)
        section[name] = dict(value) if isinstance(value, dict) else value
    return parse(nested)


@pytest.mark.parametrize(
    ("unread", "read", "settings"), CASES, ids=lambda value: " ".join(value) or "defaults"
)
def test_a_setting_that_a_run_does_not_use_is_refused(
    unread: dict[str, Any], read: dict[str, Any], settings: dict[str, Any]
) -> None:
    check_unread(config_of(unread))
    for key, value in settings.items():
        check_unread(config_of(read | {key: value}))
        with pytest.raises(InputError, match=re.escape(f"config.{key} is {value!r}, but this run")):
            check_unread(config_of(unread | {key: value}))


def test_every_entry_of_the_table_is_tested() -> None:
    tested = {key for _, _, settings in CASES for key in settings}
    assert {name for names, _, _ in READ_WHERE for name in names.split()} == tested


@pytest.mark.parametrize(
    "settings",
    [
        {"dice_weight": 0.5},
        {"target_threshold": 0.2},
        {"freeze_epochs": 1.0},
        {"task": "segmentation", "loss": "sigmoid"},
        {"task": "segmentation", "class_weights": "balanced"},
        {"task": "segmentation", "mix.mixup": 0.2},
        {"task": "segmentation", "mix.cutmix": 0.2},
        {"task": "segmentation", "distill.teacher": "resnet18"},
        {"task": "segmentation", "accumulate": 2},
        {"test_when_done": True},
    ],
    ids=lambda settings: " ".join(settings),
)
def test_contradictions_are_refused_as_soon_as_a_config_is_made(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"config.{list(settings)[-1]} "):
        config_of(settings)


def test_the_defaults_are_accepted() -> None:
    check_unread(TrainConfig())
    assert dataclasses.replace(TrainConfig()) == TrainConfig()
