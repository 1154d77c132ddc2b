"""Invalid settings of augmentation are refused as soon as a config is made."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from flax_resnet.data import DataConfig
from flax_resnet.data.augment.config import AugmentConfig
from flax_resnet.errors import InputError
from flax_resnet.training.parsing import base_config, check_overrides, parse


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "randaug"}, "config.data.augment.policy is 'randaug'; .* Did you mean 'rand'"),
        ({"fill": "white"}, "fill is 'white'; expected one of black, mean"),
        ({"erase_mode": "noise"}, "erase_mode is 'noise'; expected one of const, pixel, rand"),
        ({"probability": 1.5}, "probability is 1.5; expected a probability"),
        ({"jitter_probability": -0.1}, "jitter_probability"),
        ({"grey": 2.0}, "grey is 2.0"),
        ({"blur": -1.0}, "blur is -1.0"),
        ({"solarize": 1.1}, "solarize is 1.1"),
        ({"erase": 25.0}, "erase is 25.0; expected a probability, from 0 to 1"),
        ({"operations": 0}, "operations is 0; expected at least 1"),
        ({"repeats": 0}, "repeats is 0; expected at least 1"),
        ({"magnitude": 11.0}, "magnitude is 11.0; expected 0 to magnitude_max = 10.0"),
        ({"magnitude": -1.0}, "magnitude is -1.0"),
        ({"magnitude_max": 0.0}, "magnitude_max is 0.0"),
        ({"magnitude_std": -0.5}, "magnitude_std is -0.5; expected at least 0"),
        ({"jitter": (0.4, 0.4, 0.4)}, r"jitter is \(0.4, 0.4, 0.4\); expected 4 numbers"),
        ({"jitter": (0.4, 0.4, 0.4, 0.6)}, "the last at most 0.5"),
        ({"jitter": (-0.4, 0.4, 0.4, 0.0)}, "jitter"),
        ({"blur_radius": (2.0, 0.1)}, "blur_radius is .*; expected 0 < low <= high"),
        ({"erase_scale": (0.02, 1.5)}, "erase_scale is .*; expected at most 1"),
        ({"erase_scale": (0.02,)}, "erase_scale is .*; expected 0 < low <= high"),
        ({"erase_ratio": (0.0, 1.0)}, "erase_ratio"),
    ],
)
def test_an_invalid_value_is_an_error_that_names_it(settings, message):
    with pytest.raises(InputError, match=message):
        AugmentConfig(**settings)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ({"jitter": (0.4, 0.4, 0.4, 0.0)}, "jitter is .* no saturation and no hue, for .* .grey."),
        ({"jitter": (0.0, 0.0, 0.0, 0.1)}, "jitter is .* no saturation and no hue, for .* .grey."),
        ({"grey": 0.2}, "config.data.augment.grey is 0.2; expected 0, for .* .grey."),
    ],
)
def test_gray_images_have_no_colors_to_change(augment, message):
    with pytest.raises(InputError, match=message):
        DataConfig(channels=1, mean=(0.5,), std=(0.5,), augment=AugmentConfig(**augment))


def test_images_with_masks_cannot_be_augmented():
    message = "config.data.augment.erase is 0.1; .* images with masks .* config.data.masks.elastic"
    with pytest.raises(InputError, match=message):
        DataConfig(source="masks:cells", augment=AugmentConfig(erase=0.1))
    DataConfig(source="masks:cells", augment=AugmentConfig(repeats=2))


def test_a_config_survives_json_and_stays_hashable():
    config = DataConfig(augment=AugmentConfig(policy="rand", jitter=(0.4, 0.4, 0.4, 0.0)))
    text = json.dumps(dataclasses.asdict(config))
    assert DataConfig(**json.loads(text)) == config
    assert hash(config) == hash(DataConfig(**json.loads(text)))
    # The cached stages are not part of the state.
    assert config.augment.stages == ("policy", "jitter")
    assert json.dumps(dataclasses.asdict(config)) == text


def test_settings_from_before_augmentation_can_be_read():
    values = dataclasses.asdict(DataConfig())
    del values["augment"]
    assert DataConfig(**values).augment == AugmentConfig()


def test_augmentation_is_a_section_of_the_config():
    config = base_config()
    check_overrides(config, ["--config.data.augment.policy=rand"])
    config.data.augment.policy = "rand"
    config.data.augment.jitter = (0.4, 0.4, 0.4, 0)
    parsed = parse(config)
    assert parsed.data.augment == AugmentConfig(policy="rand", jitter=(0.4, 0.4, 0.4, 0.0))
    assert parse(json.loads(json.dumps(parsed.to_dict()))) == parsed
    with pytest.raises(InputError, match=r"config\.data\.augment.*'polici'.*'policy'"):
        parse({"data": {"augment": {"polici": "rand"}}})
    with pytest.raises(InputError, match=re.escape("--config.data.augment.polici")):
        check_overrides(config, ["--config.data.augment.polici=rand"])
