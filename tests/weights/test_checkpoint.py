"""The state dict in the checkpoints of training scripts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flax_resnet import InputError
from flax_resnet.weights import unwrap
from flax_resnet.weights.checkpoint import strip_prefix
from tests.weights.arrays import WEIGHTS, same


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.model."])
@pytest.mark.parametrize("nest", ["", "state_dict", "model", "state_dict_ema", "model_ema"])
def test_state_dicts_are_taken_out_of_checkpoints(nest: str, prefix: str) -> None:
    weights: dict[str, Any] = {prefix + key: value for key, value in WEIGHTS.items()}
    assert same(unwrap({nest: weights, "epoch": 3} if nest else weights), WEIGHTS)


def test_a_prefix_of_only_some_keys_is_kept() -> None:
    weights = {"model.a": np.zeros(1), "b": np.zeros(1)}
    assert unwrap(weights).keys() == weights.keys()


@pytest.mark.parametrize(
    ("raw", "averaged"), [("state_dict", "state_dict_ema"), ("model", "model_ema")]
)
def test_the_average_is_taken_as_timm_takes_it(raw: str, averaged: str) -> None:
    plain, mean = {"a": np.zeros(1)}, {"a": np.ones(1)}
    checkpoint = {raw: plain, averaged: mean, "epoch": 3}
    with pytest.warns(UserWarning, match=rf"averaged weights under {averaged}, .*--key {raw}\)"):
        assert same(unwrap(checkpoint), mean)
    assert same(unwrap(checkpoint, average=False), plain)
    assert same(unwrap(checkpoint, raw), plain)
    assert same(unwrap(checkpoint, averaged), mean)


def test_one_state_dict_leaves_no_choice() -> None:
    weights = {"a": np.ones(1)}
    counted = {"n_averaged": np.asarray(9), "module.a": np.ones(1)}
    for checkpoint in (
        {"state_dict_ema": weights, "state_dict": None},
        {"model_ema": counted, "model": None},
        {"model_ema": None, "model": weights},
        {"state_dict_ema": {}, "state_dict": weights},
        {"net": weights, "acc": 95.1, "optimizer": {"state": {0: weights}}},
        {"trainer": {"net": weights}, "epoch": 3},
    ):
        for average in (True, False):
            assert same(unwrap(checkpoint, average=average), weights)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("generator", 1),
        ("nested.student", 2),
        ("nested.teacher", 3),
        ("momentum.encoder_q", 4),
        ("momentum.module.encoder_k", 5),
        ("encoder_k", 5),
    ],
)
def test_any_part_of_a_checkpoint_can_be_named(key: str, value: int) -> None:
    def weights(value: int, prefix: str = "") -> dict[str, np.ndarray]:
        return {f"{prefix}conv1.weight": np.full(2, value), f"{prefix}fc.bias": np.full(2, value)}

    moco = weights(4, "module.encoder_q.") | weights(5, "module.encoder_k.")
    checkpoint = {
        "generator": {"state_dict": weights(1)},
        "nested": {"student": weights(2), "teacher": weights(3)},
        "momentum": moco | {"module.queue": np.zeros(3)},
        "state_dict": moco,
    }
    assert same(unwrap(checkpoint, key), weights(value))


def test_a_missing_part_is_an_error_that_lists_the_others() -> None:
    weights = {"a": np.zeros(1), "b": np.zeros(1)}
    with pytest.raises(InputError, match=r"no part 'x'.*generator \(2 arrays\), ema\.inner \(2"):
        unwrap({"generator": weights, "ema": {"inner": weights}, "epoch": 3}, "x")
    with pytest.raises(InputError, match=r"no part 'x'\. It has 2 under layer1, 1 under fc"):
        unwrap({"layer1.a": weights["a"], "layer1.b": weights["a"], "fc.a": weights["a"]}, "x")


def test_a_dict_that_contains_itself_is_an_error() -> None:
    endless: dict[str, Any] = {"epoch": 3}
    endless["state_dict"] = endless["other"] = endless
    for key in (None, "x"):
        with pytest.raises(InputError):
            unwrap(endless, key)


def test_several_state_dicts_are_an_error_that_lists_them() -> None:
    weights = {"a": np.zeros(1)}
    with pytest.raises(InputError, match=r"key= \(--key\): student \(1 arrays\), teacher \(1 a"):
        unwrap({"student": weights, "teacher": weights})


@pytest.mark.parametrize("prefix", ["net.", "backbone.", "encoder_q.", "net.model.resnet."])
def test_a_prefix_that_all_keys_share_is_stripped(prefix: str) -> None:
    weights = {"layer1.conv1.weight": 1, "conv1.weight": 2, "fc.weight": 3}
    wrapped = {prefix + key: value for key, value in weights.items()}
    assert strip_prefix(wrapped, "conv1.weight") == weights
    assert strip_prefix(weights, "conv1.weight") == weights
    extra = wrapped | {"other": 4}
    assert strip_prefix(extra, "conv1.weight") == extra


def test_a_networks_own_prefix_is_kept() -> None:
    headless = {"features.conv0.weight": 1, "features.norm5.weight": 2}
    wrapped = {f"net.{key}": value for key, value in headless.items()}
    for given in (headless, wrapped):
        assert strip_prefix(given, "features.conv0.weight") == headless


def test_old_names_of_densenets_layers_become_the_new_ones() -> None:
    block = "features.denseblock1.denselayer12"
    old = [f"{block}.norm.1.running_mean", f"{block}.conv.2.weight", "features.norm5.weight"]
    new = [f"{block}.norm1.running_mean", f"{block}.conv2.weight", "features.norm5.weight"]
    assert list(unwrap(dict.fromkeys(old, np.zeros(1)))) == new
    assert list(unwrap(dict.fromkeys(new, np.zeros(1)))) == new


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ({"optimizer": {}, "epoch": 3}, "optimizer, epoch"),
        ({"state_dict": {"a": np.zeros(1), "b": "text"}}, "found b"),
        ({}, "found nothing"),
    ],
)
def test_values_other_than_arrays_are_named_in_the_error(found: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=rf"expected a state dict .*{named}"):
        unwrap(found)
