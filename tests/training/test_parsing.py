"""Settings: every key and type is checked, and errors name similar keys."""

import contextlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_resnet.errors import InputError
from flax_resnet.training.config import ModelConfig, TrainConfig
from flax_resnet.training.parsing import (
    base_config,
    check_overrides,
    chosen_config,
    parse,
    parse_stored,
)
from flax_resnet.training.setup import build_model


def test_the_base_config_holds_the_defaults() -> None:
    assert parse(base_config()) == TrainConfig()


def test_a_config_survives_json() -> None:
    config = parse({"steps": 3, "data": {"mean": [0.5], "channels": 1, "std": [0.2]}})
    assert parse(json.loads(json.dumps(config.to_dict()))) == config
    assert config.data.mean == (0.5,)


def test_stored_settings_of_an_earlier_version_are_renamed() -> None:
    masks = {
        "class_names": ["a", "b"], "ignore_value": 5, "flip_vertical": True, "quarter_turns": True,
        "elastic": 1.0, "elastic_spacing": 8, "class_weights": [1.0, 2.0], "border_weight": 1.0,
        "border_sigma": 2.0,
    }  # fmt: skip
    data = {"source": "masks:cells", "image_size": 32}
    now = {"seed": 3, "data": data | {"masks": masks | {"values": [0, 9]}}, "cpu_kernels": "xla"}
    before = {"seed": 3, "data": data | masks | {"mask_values": [0, 9]}}
    assert parse_stored(before) == parse_stored(now) == parse(now)
    assert before["data"]["mask_values"] == [0, 9]
    with pytest.raises(InputError, match=r"a key of config\.data is"):
        parse(before)


def test_stored_settings_of_masks_that_had_no_effect_are_dropped() -> None:
    before = {"data": {"source": "digits", "class_names": ["a"], "elastic": 1.0}}
    assert parse_stored(before) == parse({"data": {"source": "digits"}, "cpu_kernels": "xla"})


def test_a_stored_teacher_of_an_earlier_version_sees_the_students_images() -> None:
    before = {"distill": {"teacher": "resnet50.a1_in1k"}}
    assert parse_stored(before).distill.size == "student"
    assert parse(before).distill.size == "test"
    assert parse_stored({"distill": {"teacher": None}}).distill.size == "test"


@pytest.mark.parametrize(
    ("choice", "source", "model"),
    [
        ("", "tfds:cifar10", "wrn_28_10"),
        ("wrn_40_4", "tfds:cifar10", "wrn_40_4"),
        ("cifar100", "tfds:cifar100", "wrn_28_10"),
        ("cifar100/wrn_40_4", "tfds:cifar100", "wrn_40_4"),
    ],
)
def test_a_recipes_argument_is_a_model_data_or_both(choice: str, source: str, model: str) -> None:
    config = chosen_config(choice, "cifar10", "wrn_28_10")
    assert (config.data.source, config.model.name) == (source, model)


def test_an_unknown_data_set_in_a_recipes_argument_is_named() -> None:
    with pytest.raises(InputError, match=r"is 'cifar1000'; expected one of cifar10, cifar100"):
        chosen_config("cifar1000/wrn_40_4", "cifar10", "wrn_28_10")


def test_a_misspelled_key_is_an_error_that_lists_similar_ones() -> None:
    with pytest.raises(InputError, match=r"config\.data.*'batchsize'.*'batch_size'"):
        parse({"data": {"batchsize": 3}})


def test_the_base_config_refuses_new_keys() -> None:
    with pytest.raises(AttributeError, match="batch_size"):
        base_config().data.batchsize = 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": "ten"}, "config.steps is 'ten', of type str; expected int"),
        ({"steps": True}, "of type bool; expected int"),
        ({"data": {"flip": 1}}, "config.data.flip is 1, of type int; expected bool"),
        ({"model": {"name": None}}, "config.model.name is None"),
        ({"model": 3}, "config.model is 3; expected a section"),
        ({"epochs": -1}, "expected a positive number"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"max_nonfinite": -1}, "config.max_nonfinite is -1; expected 0 or more"),
        ({"loss_scale": "big"}, "config.loss_scale is 'big'; expected none, dynamic"),
        ({"test_when_done": True}, "needs config.data.test_split"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse(values)


def test_whole_numbers_are_accepted_as_floats() -> None:
    assert parse({"epochs": 3}).epochs == 3.0


def test_the_model_takes_any_argument_of_its_network() -> None:
    config = base_config()
    check_overrides(config, ["--config.model.gate=eca", "--config.model.growth_rate=8"])
    config.model.gate, config.model.stage_sizes = "eca", (1, 1)
    config.model.widths, config.model.block = (8, 16), "basic,bottleneck"
    model = parse(config).model
    expected = dict(stage_sizes=(1, 1), widths=(8, 16), block=("basic", "bottleneck"), gate="eca")
    assert model.arguments == expected
    assert parse(json.loads(json.dumps(parse(config).to_dict()))).model == model
    network = build_model(model, 3, 32)
    assert (network.gate, network.block, network.image_size) == ("eca", expected["block"], 32)


def test_the_settings_of_an_old_run_still_parse() -> None:
    # Each argument was stored; None kept the default.
    old = {"name": "cifar_resnet20", "norm_group": 4, "growth_rate": None, "encoder": None}
    assert parse({"model": old}).model == ModelConfig("cifar_resnet20", arguments={"norm_group": 4})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"gates": "eca"}, "config.model is 'gates'; .*Did you mean 'gate'"),
        ({"name": "densenet121", "gate": "eca"}, "an argument of densenet121 .* is 'gate'"),
        ({"name": "unet", "base_widths": None}, "'base_widths'; .*'base_width'"),
        ({"name": "resnet51", "gate": "eca"}, "the model is 'resnet51'; .*'resnet50'"),
        ({"gate": 3}, "config.model.gate is 3, of type int; expected str"),
        ({"norm_group": 1.5}, "config.model.norm_group is 1.5, of type float; expected int"),
        ({"in_channels": 3}, "config.model.in_channels is 3; set config.data.channels"),
        ({"image_size": 32}, "set config.data.image_size instead"),
        ({"frozen": "stem"}, "set config.freeze instead"),
    ],
)
def test_an_argument_that_the_network_does_not_have_is_refused(model: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse({"model": model})


@pytest.mark.parametrize(
    "argument",
    ["--config.data.batch_size=3", "--config.data.flip", "--workdir=x", "--config=configs/x.py"],
)
def test_known_overrides_pass(argument: str) -> None:
    check_overrides(base_config(), [argument])


@pytest.mark.parametrize(
    ("argument", "near"),
    [
        ("--config.modle.name=x", "'model'"),
        ("--config.data.batchsize=3", "'batch_size'"),
        ("--config.seed.x=3", "'x'"),
        ("--config.model.gates=eca", "'gate'"),
        ("--config.model.in_channels=1", "config.data.channels"),
    ],
)
def test_unknown_overrides_name_similar_keys(argument: str, near: str) -> None:
    with pytest.raises(InputError, match=near):
        check_overrides(base_config(), [argument])


@given(st.dictionaries(st.text(max_size=12), st.none() | st.integers() | st.text(max_size=4)))
def test_any_values_give_a_config_or_an_input_error(values: dict) -> None:
    with contextlib.suppress(InputError):
        assert isinstance(parse(values), TrainConfig)
