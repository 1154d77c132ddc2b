"""ResNets of transformers, such as `microsoft/resnet-50`, are loaded under their own keys."""

import json
import re
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flax_resnet
from flax_resnet import InputError, create_model, from_torch, load_pretrained, to_torch
from flax_resnet.weights import write_state_dict

CONFIG = {
    "architectures": ["ResNetForImageClassification"],
    "depths": [2, 2, 2, 2],
    "downsample_in_first_stage": False,
    "embedding_size": 64,
    "hidden_act": "relu",
    "hidden_sizes": [64, 128, 256, 512],
    "id2label": {"0": "cat", "1": "dog", "2": "fox"},
    "layer_type": "basic",
    "model_type": "resnet",
    "num_channels": 3,
}


def their_key(key: str) -> str:
    """Return transformers' name of a key of torchvision, as its own conversion script maps them."""
    if key.startswith("fc."):
        return key.replace("fc.", "classifier.1.")
    found = re.fullmatch(r"layer(\d)\.(\d+)\.(.*)\.(\w+)", key)
    if found is None:
        part, leaf = key.split(".")
        kind = "convolution" if part == "conv1" else "normalization"
        return f"resnet.embedder.embedder.{kind}.{leaf}"
    stage, block, part, leaf = found.groups()
    where = f"resnet.encoder.stages.{int(stage) - 1}.layers.{block}"
    if part.startswith("downsample"):
        kind = "convolution" if part.endswith("0") else "normalization"
        return f"{where}.shortcut.{kind}.{leaf}"
    kind = "convolution" if part.startswith("conv") else "normalization"
    return f"{where}.layer.{int(part[-1]) - 1}.{kind}.{leaf}"


@pytest.fixture(scope="module")
def network() -> tuple[Any, Any]:
    model = create_model("resnet18", num_classes=3, image_size=32)
    return model, jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def test_their_keys_convert_with_and_without_a_head(network: tuple[Any, Any]) -> None:
    model, variables = network
    theirs = {their_key(key): value for key, value in to_torch(model, variables).items()}
    assert "resnet.encoder.stages.1.layers.0.shortcut.convolution.weight" in theirs
    assert "resnet.encoder.stages.3.layers.1.layer.1.normalization.running_var" in theirs
    chex.assert_trees_all_equal(from_torch(model, theirs), jax.device_get(variables))
    backbone = {
        key.removeprefix("resnet."): value
        for key, value in theirs.items()
        if not key.startswith("classifier")
    }
    headless = from_torch(model.clone(num_classes=0), backbone)
    chex.assert_trees_all_equal(headless["batch_stats"], jax.device_get(variables["batch_stats"]))


def test_a_repository_says_network_classes_and_preprocessing(
    network: tuple[Any, Any], tmp_path: Path
) -> None:
    model, variables = network
    theirs = {their_key(key): value for key, value in to_torch(model, variables).items()}
    write_state_dict(tmp_path / "model.safetensors", theirs)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    loaded, found = load_pretrained(tmp_path)
    assert (type(loaded), loaded.num_classes) == (type(model), 3)
    chex.assert_trees_all_equal(found, jax.device_get(variables))
    assert flax_resnet.class_names(tmp_path) == ("cat", "dog", "fox")
    images = flax_resnet.preprocessing(tmp_path)
    assert (images.image_size, images.eval_crop, images.interpolation) == (224, 0.875, "bicubic")
    assert images(np.zeros((20, 30, 3), np.uint8)).shape == (1, 224, 224, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": [2, 2, 2, 3]}, "'depths': \\[2, 2, 2, 3\\]"),
        ({"depths": 7}, "'depths': 7"),
        ({"layer_type": "other"}, "'layer_type': 'other'"),
        ({"downsample_in_bottleneck": True}, "'downsample_in_bottleneck': True"),
        ({"hidden_sizes": [1, 2, 3, 4]}, "'hidden_sizes': \\[1, 2, 3, 4\\]"),
    ],
    ids=str,
)
def test_a_network_that_is_not_in_the_table_is_an_error(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | change))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InputError, match=f"{message}.*expected one of resnet18"):
        load_pretrained(tmp_path)
