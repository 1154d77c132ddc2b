"""Counts equal those of the reference implementations.

The numbers of parameters of all rows are in goldens/names.tsv, see test_table.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from flax_resnet import create_model
from flax_resnet.models import count_macs, count_parameters

# Parameters, running statistics and multiply-adds at 224 px with 1000 classes: torchvision's and
# timm's networks, instantiated and measured.
IMAGENET = {
    "resnet18": (11_689_512, 9_600, 1_814_073_344),
    "resnet34": (21_797_672, 17_024, 3_663_761_408),
    "resnet50": (25_557_032, 53_120, 4_089_184_256),
    "resnet101": (44_549_160, 105_344, 7_801_405_440),
    "resnet152": (60_192_808, 151_424, 11_513_626_624),
    "resnet200": (64_673_832, 176_000, 15_007_481_856),
    "resnet26": (15_995_176, 30_848, 2_342_256_640),
    "resnet18d": (11_708_744, 9_728, 2_053_713_920),
    "resnet34d": (21_816_904, 17_152, 3_903_401_984),
    "resnet50d": (25_576_264, 53_248, 4_328_824_832),
    "resnet101d": (44_568_392, 105_472, 8_041_046_016),
    "resnet152d": (60_212_040, 151_552, 11_753_267_200),
    "resnet200d": (64_693_064, 176_128, 15_247_122_432),
    "resnext50_32x4d": (25_028_904, 68_224, 4_230_479_872),
    "resnext101_32x4d": (44_177_704, 137_856, 7_969_996_800),
    "resnext101_32x8d": (88_791_336, 202_880, 16_414_015_488),
    "resnext101_64x4d": (83_455_272, 202_880, 15_460_270_080),
    "wide_resnet50_2": (68_883_240, 68_224, 11_398_021_120),
    "wide_resnet101_2": (126_886_696, 137_856, 22_753_050_624),
    "seresnet18": (11_779_624, 9_600, 1_814_161_408),
    "seresnet34": (21_960_416, 17_024, 3_663_920_128),
    "seresnet50": (28_088_024, 53_120, 4_091_699_200),
    "seresnet101": (49_326_872, 105_344, 7_806_148_608),
    "seresnet152": (66_821_848, 151_424, 11_520_204_800),
    "seresnext50_32x4d": (27_559_896, 68_224, 4_232_994_816),
    "seresnext101_32x4d": (48_955_416, 137_856, 7_974_739_968),
    "senet154": (115_088_984, 247_552, 20_688_363_520),
    "resnest14d": (10_611_688, 22_336, 2_749_405_184),
    "resnest26d": (17_069_448, 36_736, 3_623_391_232),
    "resnest50d": (27_483_240, 64_576, 5_371_160_576),
    "resnest101e": (48_275_016, 130_112, 10_200_565_760),
    "resnest200e": (70_201_544, 218_432, 17_408_411_648),
    "resnest269e": (110_929_480, 314_432, 22_434_121_728),
    "resnetv2_18": (11_687_720, 7_808, 1_814_073_344),
    "resnetv2_34": (21_795_880, 15_232, 3_663_761_408),
    "resnetv2_50": (25_549_352, 45_440, 4_089_184_256),
    "resnetv2_101": (44_541_480, 97_664, 7_801_405_440),
    "resnetv2_152": (60_185_128, 143_744, 11_513_626_624),
    "resnetv2_50x1_bit": (25_549_352, 0, 4_089_184_256),
    "densenet121": (7_978_856, 83_648, 2_834_161_664),
    "densenet161": (28_681_000, 219_936, 7_727_907_072),
    "densenet169": (14_149_480, 158_400, 3_359_843_328),
    "densenet201": (20_013_928, 229_056, 4_291_365_888),
}
# At 32 px with ten classes; option A, or as in the paper.
CIFAR_MACS = {
    "cifar_resnet20": 40_551_040,
    "cifar_resnet32": 68_862_592,
    "cifar_resnet44": 97_174_144,
    "cifar_resnet56": 125_485_696,
    "cifar_resnet110": 252_887_680,
    "cifar_resnet1202": 2_829_238_912,
    "cifar_preact_resnet164": 247_646_720,
    "cifar_preact_resnet1001": 1_490_995_712,
    "wrn_28_10": 5_243_328_768,
}
STATISTICS = {
    "cifar_resnet20": 1_376,
    "cifar_resnet32": 2_272,
    "cifar_resnet44": 3_168,
    "cifar_resnet56": 4_064,
    "cifar_resnet110": 8_096,
    "cifar_resnet1202": 89_632,
}
BY_SIZE = {
    ("resnet18", 160): 925_798_400,
    ("resnet18", 176): 1_168_343_040,
    ("resnet18", 192): 1_332_924_416,
    ("resnet50", 160): 2_087_321_600,
    ("resnet50", 176): 2_608_132_096,
    ("resnet50", 192): 3_004_841_984,
    ("resnet50", 256): 5_340_348_416,
    ("resnet50", 288): 6_758_334_464,
    ("resnet50", 320): 8_343_142_400,
    ("resnest101e", 256): 13_321_472_000,
    ("resnetrs50", 224): 4_454_490_112,
}
TEN_CLASSES = {
    "resnet18": 11_181_642,
    "resnet34": 21_289_802,
    "resnet50": 23_528_522,
    "resnet101": 42_520_650,
    "resnet152": 58_164_298,
    "resnext50_32x4d": 23_000_394,
    "wide_resnet50_2": 66_854_730,
    "densenet121": 6_964_106,
}
# Without a head, the last norm of order `pre` included.
HEADLESS = {
    "resnet50": 23_508_032,
    "seresnet50": 26_039_024,
    "resnest50d": 25_434_240,
    "resnetv2_50": 23_500_352,
}
OPTION_B = {
    "cifar_resnet20": 272_474,
    "cifar_resnet32": 466_906,
    "cifar_resnet44": 661_338,
    "cifar_resnet56": 855_770,
    "cifar_resnet110": 1_730_714,
    "cifar_resnet1202": 19_424_026,
}
# The networks that are widely used on CIFAR: a 3x3 stem without pooling, ten classes.
SMALL_STEM = {
    "resnet18": (11_173_962, 555_422_720),
    "resnet34": (21_282_122, None),
    "resnet50": (23_520_842, 1_297_829_888),
    "resnet101": (42_512_970, None),
    "resnet152": (58_156_618, None),
}


def rows(names: Iterable[Any], *quick: Any) -> Any:
    """Return the rows of a table as cases; those that are not `quick` are exhaustive."""
    return [
        pytest.param(n, marks=() if n in quick else pytest.mark.exhaustive, id=str(n))
        for n in names
    ]


@pytest.mark.parametrize("name", rows(IMAGENET, "resnet18", "resnest14d", "resnet18d"))
def test_imagenet_networks_have_the_counts_of_the_reference(name: str) -> None:
    model = create_model(name)
    found = (count_parameters(model), count_parameters(model, "batch_stats"))
    assert (*found, count_macs(model, 224)) == IMAGENET[name]


@pytest.mark.parametrize("name", rows(CIFAR_MACS, "cifar_resnet20"))
def test_cifar_networks_have_the_multiply_adds_of_the_reference(name: str) -> None:
    assert count_macs(create_model(name)) == CIFAR_MACS[name]


@pytest.mark.parametrize("name", rows(STATISTICS, "cifar_resnet20", "cifar_resnet32"))
def test_cifar_networks_have_their_running_statistics(name: str) -> None:
    assert count_parameters(create_model(name), "batch_stats") == STATISTICS[name]


@pytest.mark.parametrize("case", rows(BY_SIZE, ("resnet18", 160), ("resnet18", 176)))
def test_multiply_adds_at_other_image_sizes(case: tuple[str, int]) -> None:
    name, size = case
    assert count_macs(create_model(name), size) == BY_SIZE[case]


@pytest.mark.parametrize("name", rows(TEN_CLASSES, "resnet18", "resnext50_32x4d"))
def test_parameters_with_ten_classes(name: str) -> None:
    assert count_parameters(create_model(name, num_classes=10)) == TEN_CLASSES[name]


@pytest.mark.parametrize("name", rows(HEADLESS, "resnet50", "resnetv2_50"))
def test_parameters_without_a_head(name: str) -> None:
    assert count_parameters(create_model(name, num_classes=0)) == HEADLESS[name]


@pytest.mark.parametrize("name", rows(OPTION_B, "cifar_resnet20"))
def test_cifar_parameters_with_projections(name: str) -> None:
    assert count_parameters(create_model(name, shortcut="projection")) == OPTION_B[name]


@pytest.mark.parametrize("name", rows(SMALL_STEM, "resnet18"))
def test_imagenet_networks_with_the_stem_of_cifar(name: str) -> None:
    model = create_model(name, stem="cifar", num_classes=10, image_size=32)
    parameters, macs = SMALL_STEM[name]
    assert count_parameters(model) == parameters
    assert macs is None or count_macs(model) == macs


def test_plain_networks_have_the_parameters_of_option_a() -> None:
    plain = create_model("cifar_resnet20", shortcut="none")
    assert count_parameters(plain) == 269_722
    assert count_macs(plain) == 40_551_040


def test_a_hundred_classes_on_a_wide_network() -> None:
    assert count_parameters(create_model("wrn_28_10", num_classes=100)) == 36_536_884


def test_the_network_for_mnist_is_counted_by_hand() -> None:
    model = create_model("mnist_resnet")
    stem, convolutions, head = 9 * 32 + 32, 4 * (9 * 32 * 32 + 32), 28 * 28 * 32 * 10 + 10
    assert count_parameters(model) == stem + convolutions + head
    assert count_parameters(model, "batch_stats") == 0
    assert count_macs(model) == 28 * 28 * (9 * 32 + 4 * 9 * 32 * 32) + 28 * 28 * 32 * 10


@pytest.mark.parametrize(
    "argument", [{"dtype": "bfloat16"}, {"norm_group": 1}, {"remat": True}, {"frozen": ".*"}]
)
def test_counts_do_not_depend_on_how_the_network_is_computed(argument: dict[str, object]) -> None:
    model = create_model("resnet18", **argument)
    assert (count_parameters(model), count_macs(model)) == (11_689_512, 1_814_073_344)
