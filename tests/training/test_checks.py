"""Refusal, by name, of settings that a run does not use."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest

from flax_resnet.errors import InputError
from flax_resnet.training.checks import READ_WHERE, check_unread
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.parsing import parse
from flax_resnet.training.setup import prepare_run

# For each entry of the table: settings of a run that does not read it, of one that does, and a
# different value for each setting of the entry.
TEACHER = {"distill.teacher": "resnet18"}
CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (TEACHER, TEACHER | {"distill.weight": 0.5}, {"loss": "sigmoid", "label_smoothing": 0.1}),
    (
        {},
        TEACHER,
        {"distill.model": "resnet18", "distill.temperature": 2.0, "distill.weight": 0.5}
        | {"distill.hard": True, "distill.key": "state_dict", "distill.size": "train"},
    ),
    ({}, {"model.pretrained": "resnet18.a1_in1k"}, {"model.pretrained_key": "state_dict"}),
    (TEACHER | {"distill.hard": True}, TEACHER, {"distill.temperature": 2.0}),
    ({}, {"mix.mixup": 0.2}, {"mix.frequency": 0.5, "mix.per": "pair"}),
    ({"mix.mixup": 0.2}, {"mix.mixup": 0.2, "mix.cutmix": 1.0}, {"mix.cutmix_frequency": 0.1}),
    ({}, {"average.ema": 0.9}, {"average.ema_warmup": True, "average.ema_from": 1.0}),
    ({}, {"average.ema": 0.9}, {"average.every": 2}),
    (
        {"task": "segmentation", "data.source": "masks:x"},
        {},
        {
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
    ({}, {"data.on_error": "skip"}, {"data.max_errors": 3}),
    ({}, {"data.source": "tfds:mnist"}, {"data.data_dir": "x"}),
]


def config_of(settings: dict[str, Any]) -> TrainConfig:
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
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


def test_one_class_cannot_be_learned(tiny_config: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"has the class pattern 0 alone; expected two or more"):
        prepare_run(tiny_config(data__source="synthetic:1"))
