"""Counts against those of the reference implementations, digit by digit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from flax_resnet import create_model
from flax_resnet.models import count_macs, count_parameters, variable_shapes

slow = pytest.mark.slow

# Parameters, running statistics and multiply-adds: torchvision at 224 px and 1000 classes; the
# CIFAR networks at 32 px and 10 classes with option A.
COUNTS = [
    ("resnet18", 11_689_512, 9_600, 1_814_073_344),
    ("resnet34", 21_797_672, 17_024, 3_663_761_408),
    ("resnet50", 25_557_032, 53_120, 4_089_184_256),
    pytest.param("resnet101", 44_549_160, 105_344, 7_801_405_440, marks=slow),
    ("resnet152", 60_192_808, 151_424, 11_513_626_624),
    ("cifar_resnet20", 269_722, 1_376, 40_551_040),
    ("cifar_resnet32", 464_154, 2_272, 68_862_592),
    ("cifar_resnet44", 658_586, 3_168, 97_174_144),
    pytest.param("cifar_resnet56", 853_018, 4_064, 125_485_696, marks=slow),
    pytest.param("cifar_resnet110", 1_727_962, 8_096, 252_887_680, marks=slow),
    pytest.param("cifar_resnet1202", 19_421_274, 89_632, 2_829_238_912, marks=slow),
]
MACS_BY_SIZE = {
    "resnet18": {160: 925_798_400, 176: 1_168_343_040, 192: 1_332_924_416},
    "resnet50": {
        160: 2_087_321_600,
        176: 2_608_132_096,
        192: 3_004_841_984,
        256: 5_340_348_416,
        288: 6_758_334_464,
        320: 8_343_142_400,
    },
}
TEN_CLASSES = [
    ("resnet18", 11_181_642),
    ("resnet34", 21_289_802),
    ("resnet50", 23_528_522),
    pytest.param("resnet101", 42_520_650, marks=slow),
    pytest.param("resnet152", 58_164_298, marks=slow),
]
OPTION_B = [
    ("cifar_resnet20", 272_474),
    ("cifar_resnet32", 466_906),
    ("cifar_resnet44", 661_338),
    pytest.param("cifar_resnet56", 855_770, marks=slow),
    pytest.param("cifar_resnet110", 1_730_714, marks=slow),
    pytest.param("cifar_resnet1202", 19_424_026, marks=slow),
]


@pytest.mark.parametrize(("name", "parameters", "statistics", "macs"), COUNTS)
def test_counts_equal_the_reference(name: str, parameters: int, statistics: int, macs: int) -> None:
    model = create_model(name)
    assert count_parameters(model) == parameters
    assert count_parameters(model, "batch_stats") == statistics
    assert count_macs(model) == macs


SIZES = [
    pytest.param(name, size, macs, marks=() if size in (160, 320) else slow)
    for name, row in MACS_BY_SIZE.items()
    for size, macs in row.items()
]


@pytest.mark.parametrize(("name", "size", "macs"), SIZES)
def test_multiply_adds_at_other_image_sizes(name: str, size: int, macs: int) -> None:
    assert count_macs(create_model(name), size) == macs


@pytest.mark.parametrize(("name", "parameters"), TEN_CLASSES)
def test_parameters_with_ten_classes(name: str, parameters: int) -> None:
    assert count_parameters(create_model(name, num_classes=10)) == parameters


def test_parameters_without_a_head() -> None:
    assert count_parameters(create_model("resnet50", num_classes=0)) == 23_508_032


@pytest.mark.parametrize(("name", "parameters"), OPTION_B)
def test_cifar_parameters_with_projections(name: str, parameters: int) -> None:
    assert count_parameters(create_model(name, shortcut="projection")) == parameters


def test_plain_networks_have_the_parameters_of_option_a() -> None:
    plain = create_model("cifar_resnet20", shortcut="none")
    assert count_parameters(plain) == 269_722
    assert count_macs(plain) == 40_551_040


def test_the_lessons_network_is_counted_by_hand() -> None:
    model = create_model("mnist_resnet")
    stem, convolutions, head = 9 * 32 + 32, 4 * (9 * 32 * 32 + 32), 28 * 28 * 32 * 10 + 10
    assert count_parameters(model) == stem + convolutions + head
    assert count_parameters(model, "batch_stats") == 0
    assert count_macs(model) == 28 * 28 * (9 * 32 + 4 * 9 * 32 * 32) + 28 * 28 * 32 * 10


@pytest.mark.parametrize("argument", [{"dtype": "bfloat16"}, {"norm_group": 1}])
def test_counts_do_not_depend_on_how_the_network_is_computed(argument: dict[str, object]) -> None:
    model = create_model("resnet18", **argument)
    assert (count_parameters(model), count_macs(model)) == (11_689_512, 1_814_073_344)


@pytest.mark.parametrize(
    ("name", "channels"),
    [("resnet50", (64, 256, 512, 1024, 2048)), ("resnet18", (64, 64, 128, 256, 512))],
)
def test_feature_shapes_at_224_pixels(name: str, channels: tuple[int, ...]) -> None:
    model = create_model(name)
    maps = jax.eval_shape(
        lambda variables, x: model.apply(variables, x, method="features"),
        variable_shapes(model),
        jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32),
    )
    names = ("stem", "layer1", "layer2", "layer3", "layer4")
    expected = {
        name: (2, side, side, channel)
        for name, side, channel in zip(names, (112, 56, 28, 14, 7), channels, strict=True)
    }
    assert {name: value.shape for name, value in maps.items()} == expected
