"""A U-Net around another network: the encoder is unchanged, the decoder uses its maps."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from flax_resnet import (
    DenseNet,
    InputError,
    ResNet,
    create_model,
    from_torch,
    load_pretrained,
    to_layout,
    to_torch,
)
from flax_resnet.models import EncoderUNet, count_macs, count_parameters, summarize, variable_shapes
from flax_resnet.models.variables import part_of
from flax_resnet.weights import save_pretrained

COMMON = dict(image_size=16, num_classes=4)
ENCODERS = {
    "post": ResNet((1, 1), (4, 8), **COMMON),
    "pre": ResNet((1, 1), (4, 8), order="pre", head_name="head.fc", **COMMON),
    "dense": DenseNet((1, 1), 4, bottleneck=1, **COMMON),
}
TINY = EncoderUNet(ENCODERS["post"], (8, 4, 4), num_classes=3, image_size=16)
every_encoder = pytest.mark.parametrize("name", ENCODERS)


def random_variables(model: Any) -> Any:
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.uniform(0.1, 0.5, leaf.shape).astype(np.float32), variable_shapes(model)
    )


def images_of(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).standard_normal(shape), jnp.float32)


@functools.partial(jax.jit, static_argnums=0, static_argnames="method")
def apply(model: Any, variables: Any, images: jax.Array, method: str = "__call__") -> Any:
    return model.apply(variables, images, method=method)


def map_shapes(model: Any, *size: int) -> dict[str, tuple[int, ...]]:
    images = jax.ShapeDtypeStruct((1, *size, model.in_channels), jnp.float32)
    features = functools.partial(model.apply, method="features")
    maps = jax.eval_shape(features, variable_shapes(model), images)
    return {name: value.shape[1:] for name, value in maps.items()}


def same(first: Any, second: Any) -> bool:
    return jax.tree.structure(first) == jax.tree.structure(second) and jax.tree.all(
        jax.tree.map(np.array_equal, first, second)
    )


@every_encoder
def test_the_encoder_has_its_own_variables(name: str) -> None:
    model = TINY.clone(encoder=ENCODERS[name])
    alone = variable_shapes(ENCODERS[name].clone(num_classes=0))
    shapes = variable_shapes(model)
    assert {collection: shapes[collection]["encoder"] for collection in shapes} == alone


@every_encoder
def test_the_encoder_has_the_same_maps_without_a_decoder(name: str) -> None:
    encoder = ENCODERS[name].clone(num_classes=0)
    model = TINY.clone(encoder=encoder)
    variables, images = random_variables(model), images_of(2, 16, 16, 3)
    own = {collection: leaves["encoder"] for collection, leaves in variables.items()}
    maps = apply(model, variables, images, method="features")
    for key, expected in apply(encoder, own, images, method="features").items():
        np.testing.assert_allclose(maps[key], expected, rtol=1e-5)


def test_the_encoder_accepts_pretrained_weights(tmp_path: Path) -> None:
    classifier = create_model("cifar_resnet20")
    save_pretrained(classifier, random_variables(classifier), tmp_path)
    encoder, weights = load_pretrained(tmp_path, num_classes=0)
    model = EncoderUNet(encoder, (8, 4), num_classes=2)
    variables = random_variables(model)
    for collection, leaves in weights.items():
        variables[collection]["encoder"] = leaves
    logits = apply(model, variables, images_of(1, 8, 8, 3))
    assert logits.shape == (1, 8, 8, 2)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("size", [(13, 18), (1, 3)])
def test_images_of_any_size_have_logits_for_every_pixel(size: tuple[int, int]) -> None:
    logits = apply(TINY, random_variables(TINY), images_of(2, *size, 3))
    assert logits.shape == (2, *size, 3)


def test_a_decoder_widens_up_to_the_images() -> None:
    found = map_shapes(create_model("unet_resnet18"), 96, 64)
    assert found == {
        "stem": (48, 32, 64),
        "layer1": (24, 16, 64),
        "layer2": (12, 8, 128),
        "layer3": (6, 4, 256),
        "layer4": (3, 2, 512),
        "decoder5": (6, 4, 256),
        "decoder4": (12, 8, 128),
        "decoder3": (24, 16, 64),
        "decoder2": (48, 32, 32),
        "decoder1": (96, 64, 32),
    }


def test_the_last_map_of_each_size_is_the_skip_connection() -> None:
    """After a stem that keeps the size, the first stage has the larger receptive field."""
    model = EncoderUNet(ResNet((1, 1), (4, 8), stem="cifar"), (4,))
    assert model.stride == 2
    variables, images = random_variables(model), images_of(1, 8, 8, 3)
    kernel = variables["params"]["dec1"]["0"]["kernel"]
    assert kernel.shape == (3, 3, 8 + 4, 4)
    kernel[:, :, :8] = 0  # keep the skip connection only
    before = np.asarray(apply(model, variables, images))
    variables["params"]["encoder"]["layer1"]["0"]["bn2"]["bias"][:] += 1
    assert not np.allclose(before, apply(model, variables, images), rtol=1e-2)


@pytest.mark.parametrize(
    ("name", "encoder", "widths"),
    [
        ("unet_resnet18", 11_176_512, (512, 256, 128, 64, 64)),
        ("unet_resnet34", 21_284_672, (512, 256, 128, 64, 64)),
        ("unet_resnet50", 23_508_032, (2048, 1024, 512, 256, 64)),
    ],
)
def test_parameters_are_counted_by_hand(name: str, encoder: int, widths: tuple[int, ...]) -> None:
    total, x = encoder, widths[0]
    for skip, width in zip((*widths[1:], 0), (256, 128, 64, 32, 32), strict=True):
        total += 9 * (x + skip) * width + 9 * width * width + 4 * width
        x = width
    assert count_parameters(create_model(name)) == total + 32 + 1


def test_the_encoder_can_be_a_name() -> None:
    model = create_model("unet_resnet18", encoder="resnet26d", in_channels=1, norm_group=2)
    assert model.encoder == create_model(
        "resnet26d", num_classes=0, in_channels=1, norm_group=2, image_size=224
    )
    assert model == create_model(
        "unet_resnet50", encoder=create_model("resnet26d"), in_channels=1, norm_group=2
    )


def test_an_unknown_encoder_is_an_error() -> None:
    with pytest.raises(InputError, match="model is 'resnet5O'"):
        create_model("unet_resnet18", encoder="resnet5O")
    with pytest.raises(InputError, match=r"encoder is a UNet; expected a ResNet or a DenseNet"):
        create_model("unet_resnet18", encoder="unet")


def test_each_doubling_needs_a_width() -> None:
    with pytest.raises(InputError, match=r"decoder_widths has 1 entries; expected 3"):
        TINY.clone(decoder_widths=(8,))


def test_decoder_and_encoder_have_one_norm() -> None:
    model = create_model("unet_resnet18", encoder="resnet50_gn")
    assert model.norm == model.encoder.norm == "group"
    assert set(variable_shapes(model)) == {"params"}
    assert TINY.clone(norm="none").encoder.norm == "none"


@pytest.mark.parametrize("pattern", ["encoder", "stem|layer.*"])
def test_a_frozen_encoder_keeps_its_statistics(pattern: str) -> None:
    model = TINY.clone(frozen=pattern)
    assert model.encoder.frozen == pattern
    variables = random_variables(model)
    train = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    _, new = train(variables, images_of(2, 16, 16, 3))
    old = traverse_util.flatten_dict(variables["batch_stats"])
    for path, leaf in traverse_util.flatten_dict(new["batch_stats"]).items():
        assert np.array_equal(leaf, old[path]) == (path[0] == "encoder"), path


@every_encoder
def test_parts_are_those_of_the_encoder_and_levels_of_the_decoder(name: str) -> None:
    model = TINY.clone(encoder=ENCODERS[name])
    names = ["stem", "layer1", "layer2", "decoder3", "decoder2", "decoder1", "head"]
    rows = summarize(model)
    assert [row.name for row in rows] == names
    assert sum(row.parameters for row in rows) == count_parameters(model)
    assert sum(row.macs for row in rows) == count_macs(model)
    found = {part_of(path) for path in traverse_util.flatten_dict(variable_shapes(model)["params"])}
    assert found == set(names)


def test_torch_weights_survive_both_conversions_in_both_layouts() -> None:
    encoder = ResNet((3,), (4,), **COMMON)
    model = TINY.clone(encoder=encoder, decoder_widths=(4, 4))
    scanned = model.clone(encoder=encoder.clone(scan_blocks=True))
    variables = random_variables(model)
    state_dict = to_torch(model, variables)
    assert "encoder.layer1.0.conv1.weight" in state_dict
    assert same(from_torch(model, state_dict), variables)
    stacked = from_torch(scanned, state_dict)
    assert "scan" in stacked["params"]["encoder"]["layer1"]
    assert same(to_torch(scanned, stacked), state_dict)
    assert same(to_layout(model, stacked), variables)
