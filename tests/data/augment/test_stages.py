"""The stages of augmentation that a config switches on, applied to an image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pytest

from flax_resnet.data import DataConfig
from flax_resnet.data.augment.config import STAGE_NAMES, AugmentConfig
from flax_resnet.data.augment.policies import POLICIES
from flax_resnet.data.augment.stages import STAGES, augment
from flax_resnet.data.batches.loading import TrainLoader
from flax_resnet.data.images.transforms import resize, train_transform
from flax_resnet.data.positions import example_rng
from tests.data.augment.images import IMAGES

GREY = {"channels": 1, "mean": (0.5,), "std": (0.25,)}
ALL_ON = {"jitter": (0.4, 0.4, 0.4, 0.1), "grey": 0.2, "blur": 0.5, "solarize": 0.2, "erase": 0.9}
FOR_GREY = ALL_ON | {"jitter": (0.4, 0.4, 0.0, 0.0), "grey": 0.0}


def config(augment: dict[str, object] | None = None, **settings) -> DataConfig:
    return DataConfig(augment=AugmentConfig(**(augment or {})), **settings)


@dataclass
class Noise:
    """Example i is noise from generator i, with label i % 10."""

    channels: int = 3
    name: str = "noise train"
    num_classes: int = 10
    class_names: tuple[str, ...] = ()
    named: bool = False

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int):
        size = (24, 24, self.channels)
        image = np.random.default_rng(index).integers(256, size=size, dtype=np.uint8)
        return {"image": image, "label": index % 10}

    def describe(self, index: int) -> str:
        return f"noise {index}"


@pytest.mark.parametrize(
    ("settings", "digest"),
    [
        ({"crop": "pad_crop"}, "baf9e9d43ae8abe5"),
        ({"crop": "none"}, "a6d7246cd4f4dadc"),
        ({"crop": "pad_crop", **GREY}, "20819ea83a228df3"),
    ],
)
def test_batches_without_augmentation_never_change(settings, digest):
    # Only images that need no resizing, whose last bits depend on the version of Pillow.
    chosen = DataConfig(**{"batch_size": 16, "image_size": 24, **settings})
    loader, found = TrainLoader(Noise(chosen.channels), chosen, seed=3), hashlib.sha256()
    for number in (0, 3, 7):
        batch = loader(number)
        for key in ("image", "label", "skipped"):
            found.update(np.ascontiguousarray(batch[key]).tobytes())
    assert found.hexdigest()[:16] == digest


def test_random_crops_without_augmentation_never_change():
    # Index 7 in epoch 1 of seed 3 had this rectangle, and was not mirrored.
    image, chosen = IMAGES["china"][:40, :50], DataConfig(image_size=24)
    found = train_transform(image, example_rng(3, 1, 7), chosen)
    np.testing.assert_array_equal(found, resize(image[4:39, 6:50], (24, 24)))


def test_every_stage_that_a_config_may_switch_on_is_in_the_table():
    assert tuple(STAGES) == STAGE_NAMES


def test_stages_are_off_by_default_and_switched_on_one_by_one():
    assert AugmentConfig().stages == AugmentConfig(repeats=3).stages == ()
    assert AugmentConfig(policy="rand", **ALL_ON).stages == STAGE_NAMES
    assert AugmentConfig(jitter=(0.4, 0, 0, 0), jitter_probability=0.0).stages == ()
    for name in ("policy", *ALL_ON):
        on = {name: "auto"} if name == "policy" else {name: ALL_ON[name]}
        assert AugmentConfig(**on).stages == (name,)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interpolation", ["area", "random"])
def test_any_image_passes_through_all_stages(policy, channels, interpolation):
    settings = {} if channels == 3 else GREY
    stages = {"policy": policy, **(ALL_ON if channels == 3 else FOR_GREY)}
    chosen = config(stages, image_size=20, interpolation=interpolation, **settings)
    for seed, image in enumerate(IMAGES.values()):
        if image.shape[2] == channels:
            rng, before = np.random.default_rng(seed), image.copy()
            result = train_transform(image, rng, chosen)
            assert result.shape == (20, 20, channels) and result.dtype == np.uint8
            np.testing.assert_array_equal(image, before)


def test_augmentation_does_not_change_crops_and_flips():
    off, on = (config(stages, image_size=24) for stages in ({}, {"solarize": 1.0}))
    for seed in range(20):
        rngs = np.random.default_rng(seed), np.random.default_rng(seed)
        plain = train_transform(IMAGES["china"], rngs[0], off)
        changed = train_transform(IMAGES["china"], rngs[1], on)
        np.testing.assert_array_equal(changed, np.where(plain < 128, plain, 255 - plain))


@pytest.mark.parametrize(
    ("stages", "probability"),
    [
        ({"grey": 0.2}, 0.2),
        ({"blur": 0.3}, 0.3),
        ({"solarize": 0.4}, 0.4),
        ({"erase": 0.25}, 0.25),
        ({"jitter": (0.4, 0.0, 0.0, 0.0), "jitter_probability": 0.8}, 0.8),
    ],
)
def test_each_stage_changes_images_with_its_probability(stages, probability):
    chosen, image = config(stages), IMAGES["noise"]
    rng, draws = np.random.default_rng(0), 2000
    results = (augment(image, rng, chosen) for _ in range(draws))
    count = sum(not np.array_equal(result, image) for result in results)
    assert abs(count - probability * draws) < 5 * (probability * (1 - probability) * draws) ** 0.5


def test_corners_are_filled_with_the_mean_or_with_black():
    image = np.full((40, 40, 3), 255, np.uint8)
    for fill, colour in (("mean", (124, 116, 104)), ("black", (0, 0, 0))):
        chosen = config({"policy": "trivial", "fill": fill})
        rng, seen = np.random.default_rng(0), set()
        for _ in range(300):
            result = augment(image, rng, chosen)
            seen |= {tuple(result[corner].tolist()) for corner in ((0, 0), (0, -1), (-1, 0))}
        assert {(255, 255, 255), colour} <= seen
        assert ((124, 116, 104) in seen) == (fill == "mean")


def test_random_interpolation_uses_both_filters_for_crops_and_geometric_operations():
    image, draws = IMAGES["china"], 200
    both = {}
    for filter_ in ("bilinear", "bicubic", "random"):
        chosen = config(crop="none", flip=False, image_size=32, interpolation=filter_)
        rng = np.random.default_rng(0)
        found = [train_transform(image, rng, chosen).tobytes() for _ in range(draws)]
        both[filter_] = {each: found.count(each) for each in set(found)}
    assert set(both["random"]) == set(both["bilinear"]) | set(both["bicubic"])
    assert min(both["random"].values()) > 70

    stages = {"policy": "rand", "probability": 1.0, "operations": 1, "magnitude": 5.0}
    seen = {}
    for filter_ in ("bilinear", "bicubic", "random"):
        chosen, rng = config(stages, interpolation=filter_), np.random.default_rng(0)
        seen[filter_] = {augment(image, rng, chosen).tobytes() for _ in range(600)}
    assert seen["random"] == seen["bilinear"] | seen["bicubic"]


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_repeats_augment_the_same_examples_differently_on_any_processes(process_count):
    chosen = config({"policy": "rand", "repeats": 3}, batch_size=12, image_size=24)
    parts = [TrainLoader(Noise(), chosen, 1, i, process_count)(2) for i in range(process_count)]
    images = np.concatenate([part["image"] for part in parts])
    whole = TrainLoader(Noise(), chosen, 1)(2)
    np.testing.assert_array_equal(images, whole["image"])
    assert len({image.tobytes() for image in images}) == 12
    for turn in (1, 2):
        np.testing.assert_array_equal(whole["label"], np.roll(whole["label"], 4 * turn))


def test_an_epoch_with_three_repeats_has_a_third_of_the_examples():
    chosen = config({"repeats": 3}, batch_size=10, image_size=8, crop="none", flip=False)
    loader = TrainLoader(Noise(), chosen, 0)
    epochs = []
    for epoch in range(2):
        batches = [loader(number) for number in range(5 * epoch, 5 * epoch + 5)]
        images = [image.tobytes() for batch in batches for image in batch["image"]]
        assert sorted(map(images.count, set(images))) == [2] + [3] * 16
        epochs.append(set(images))
    assert epochs[0] != epochs[1]
