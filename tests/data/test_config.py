"""Invalid settings are refused as soon as a config is made."""

from __future__ import annotations

import dataclasses

import pytest

from flax_resnet.data import DataConfig, MaskConfig
from flax_resnet.errors import InputError


def test_lists_from_json_become_tuples():
    config = DataConfig(mean=[0.1, 0.2, 0.3], crop_scale=[0.5, 1.0])
    assert config.mean == (0.1, 0.2, 0.3)
    assert DataConfig(**dataclasses.asdict(config)) == config
    hash(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": "pad_corp"}, "config.data.crop is 'pad_corp'; .* Did you mean 'pad_crop'"),
        ({"on_error": "ignore"}, "expected one of raise, skip"),
        ({"batch_size": 0}, "batch_size is 0; expected at least 1"),
        ({"channels": 4}, "channels is 4; expected 1 .* or 3"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale is .*; expected 0 < low <= high <= 1"),
        ({"crop_ratio": (2.0, 1.0)}, "crop_ratio"),
        ({"crop_padding": -1}, "crop_padding"),
        ({"eval_crop": 0.0}, "eval_crop"),
        ({"mean": (0.5, 0.5)}, "mean is .* expected 3 numbers, or one"),
        ({"std": (0.0, 1.0, 1.0)}, "std is .* positive"),
        ({"workers": -2}, "workers"),
        ({"max_errors": -1}, "max_errors"),
    ],
)
def test_an_invalid_value_is_an_error_that_names_it(settings, message):
    with pytest.raises(InputError, match=message):
        DataConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"values": (255, 0)}, r"masks.values is \(255, 0\); expected at most 255 increasing"),
        ({"values": (0, 256)}, "masks.values"),
        ({"values": (0, 255), "ignore_value": 255}, "ignore_value is 255; expected a value .* not"),
        ({"elastic": -1.0}, "elastic"),
        ({"elastic_spacing": 0}, "elastic_spacing"),
        ({"class_weights": (1.0, -1.0)}, "class_weights"),
        ({"border_weight": -1.0}, "border_weight"),
        ({"border_sigma": 0.0}, "border_sigma"),
    ],
)
def test_an_invalid_setting_of_masks_is_an_error_that_names_it(settings, message):
    with pytest.raises(InputError, match=message):
        MaskConfig(**settings)


MASKS = MaskConfig(
    values=(0, 9), class_names=("a", "b"), ignore_value=5, flip_vertical=True, quarter_turns=True,
    elastic=1.0, elastic_spacing=8, class_weights=(1.0, 2.0), border_weight=1.0, border_sigma=2.0,
)  # fmt: skip


@pytest.mark.parametrize("name", [entry.name for entry in dataclasses.fields(MaskConfig)])
def test_mask_settings_are_refused_for_sources_without_masks(name):
    settings = {name: getattr(MASKS, name)}
    message = rf"config\.data\.masks\.{name} is .*; expected .* config\.data\.source is 'digits'"
    with pytest.raises(InputError, match=message):
        DataConfig(masks=MaskConfig(**settings))
    assert DataConfig(source="masks:cells", masks=settings).masks == MaskConfig(**settings)
