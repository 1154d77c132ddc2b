"""Data stored on devices: the host's order, valid crops, and the same batches on any devices."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from flax_resnet import restore, train
from flax_resnet.data import DataConfig
from flax_resnet.data.batches.in_memory import InMemoryData
from flax_resnet.data.batches.loading import TrainLoader
from flax_resnet.errors import InputError
from flax_resnet.training import on_device
from flax_resnet.training.on_device import DeviceData, check_room, make_take
from flax_resnet.training.setup import prepare_run

Meshes = Callable[[int], Mesh]
Configs = Callable[..., Any]
SEED, COUNT, SIDE = 5, 50, 6
CONFIG = DataConfig(
    source="synthetic", on_device=True, batch_size=16, image_size=SIDE, crop="pad_crop",
    crop_padding=2, channels=1, mean=(0.5,), std=(0.5,), workers=0, eval_batch_size=16,
)  # fmt: skip


class Noise:
    """Images of which no two windows are equal; example i has label i."""

    name, num_classes, class_names, named = "noise", COUNT, (), False

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.integers(1, 256, size=(COUNT, SIDE, SIDE, 1), dtype=np.uint8)

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        return {"image": self.images[index], "label": index}

    def describe(self, index: int) -> str:
        return f"noise {index}"


NOISE = Noise()
IN_MEMORY = InMemoryData(
    NOISE.images, np.arange(COUNT, dtype=np.int32), np.zeros(COUNT, np.int32), np.ones(COUNT, bool)
)


def stream(mesh: Mesh, config: DataConfig, start: int = 0, count: int = 8) -> list[dict[str, Any]]:
    data = DeviceData(IN_MEMORY, mesh, make_take(mesh, config, SEED))
    return jax.device_get(list(data.training(config, SEED, range(start, start + count))))


@pytest.mark.parametrize("repeats", [1, 3])
def test_batches_hold_the_examples_of_the_hosts_batches(devices: Meshes, repeats: int) -> None:
    augment = dataclasses.replace(CONFIG.augment, repeats=repeats)
    config = dataclasses.replace(CONFIG, augment=augment)
    load = TrainLoader(NOISE, config, SEED)
    for number, batch in enumerate(stream(devices(1), config)):
        np.testing.assert_array_equal(batch["label"], load(number)["label"])
        np.testing.assert_array_equal(batch["skipped"], 0)


def test_without_crops_and_flips_the_pixels_are_the_hosts(devices: Meshes) -> None:
    config = dataclasses.replace(CONFIG, crop="none", flip=False)
    load = TrainLoader(NOISE, config, SEED)
    for number, batch in enumerate(stream(devices(2), config)):
        np.testing.assert_array_equal(batch["image"], load(number)["image"])


def windows(image: np.ndarray) -> dict[bytes, tuple[int, int, bool]]:
    """Return (top, left, mirrored) of every image that pad_crop and a flip can give."""
    reach = CONFIG.crop_padding
    padded = np.pad(image[..., 0], reach)
    shifts = itertools.product(range(2 * reach + 1), repeat=2)
    cuts = {(top, left): padded[top : top + SIDE, left : left + SIDE] for top, left in shifts}
    ways = ((where, cut, flip) for where, cut in cuts.items() for flip in (False, True))
    return {(cut[:, ::-1] if flip else cut).tobytes(): (*where, flip) for where, cut, flip in ways}


def test_every_image_is_a_shifted_or_mirrored_version_of_its_example(devices: Meshes) -> None:
    known = [windows(image) for image in NOISE.images]
    found = [
        known[label][image.tobytes()]
        for batch in stream(devices(1), CONFIG, count=60)
        for image, label in zip(batch["image"], batch["label"], strict=True)
    ]
    tops, lefts, mirrored = zip(*found, strict=True)
    for shifts in (tops, lefts):
        shares = np.bincount(shifts, minlength=5) / len(found)
        np.testing.assert_allclose(shares, 0.2, atol=0.05)
    assert 0.45 < np.mean(mirrored) < 0.55
    assert len(set(found)) == 50


def test_crops_and_flips_can_be_switched_off_separately(devices: Meshes) -> None:
    changes = [dict(crop="none"), dict(flip=False)]
    alone = [stream(devices(1), dataclasses.replace(CONFIG, **change)) for change in changes]
    for label, flipped, shifted, both in (
        (label, *images)
        for only_flip, only_shift, batch in zip(*alone, stream(devices(1), CONFIG), strict=True)
        for label, *images in zip(
            batch["label"], only_flip["image"], only_shift["image"], batch["image"], strict=True
        )
    ):
        table = windows(NOISE.images[label])
        top, left, mirrored = table[both.tobytes()]
        assert table[flipped.tobytes()] == (2, 2, mirrored)
        assert table[shifted.tobytes()] == (top, left, False)


def test_epochs_and_seeds_differ(devices: Meshes) -> None:
    config = dataclasses.replace(CONFIG, batch_size=COUNT)
    first, second = stream(devices(1), config, count=2)
    by_label = [batch["image"][np.argsort(batch["label"])] for batch in (first, second)]
    assert np.mean(by_label[0] != by_label[1]) > 0.5
    data = DeviceData(IN_MEMORY, devices(1), make_take(devices(1), config, SEED + 1))
    other = jax.device_get(next(data.training(config, SEED, range(1))))
    assert np.mean(other["image"] != first["image"]) > 0.5


@pytest.mark.parametrize("start", [1, 3, 7])
def test_a_restart_sees_what_an_uninterrupted_run_sees(devices: Meshes, start: int) -> None:
    whole = stream(devices(1), CONFIG)
    chex.assert_trees_all_equal(stream(devices(1), CONFIG, start, 8 - start), whole[start:])


@pytest.mark.parametrize("count", [2, 8])
def test_batches_do_not_depend_on_the_devices(devices: Meshes, count: int) -> None:
    several = stream(devices(count), CONFIG)
    chex.assert_trees_all_equal(several, stream(devices(1), CONFIG))
    data = DeviceData(IN_MEMORY, devices(count), make_take(devices(count), CONFIG, SEED))
    batch = next(data.training(CONFIG, SEED, range(1)))
    rows = {shard.data.shape[0] for shard in batch["image"].addressable_shards}
    assert rows == {CONFIG.batch_size // count}


def test_devices_do_not_communicate(devices: Meshes) -> None:
    take, mesh = make_take(devices(8), CONFIG, SEED), devices(8)
    data = DeviceData(IN_MEMORY, mesh, take)
    places = on_device.put_batch({"places": np.zeros((16, 3), np.int32)}, mesh)["places"]
    program = take.lower(data._images, data._labels, places).compile().as_text()
    assert not any(word in program for word in ("all-gather", "all-reduce", "all-to-all"))


def test_evaluation_counts_every_example_once(devices: Meshes) -> None:
    held = dataclasses.replace(IN_MEMORY, mask=np.arange(COUNT) != 3)
    data = DeviceData(held, devices(4), make_take(devices(4)))
    batches = jax.device_get(list(data.evaluation(CONFIG)))
    labels = np.concatenate([batch["label"][batch["mask"]] for batch in batches])
    assert labels.tolist() == [*range(3), *range(4, COUNT)]
    for batch in batches:
        np.testing.assert_array_equal(batch["image"], NOISE.images[batch["label"]])


def plain(tiny_config: Configs, **changes: Any) -> Any:
    return tiny_config(data__crop="none", steps=10, eval_every_epochs=0.05, **changes)


def test_a_run_equals_the_hosts_where_nothing_is_random(
    tiny_config: Configs, devices: Meshes, tmp_path: Path
) -> None:
    runs = [
        train(plain(tiny_config, data__on_device=on), tmp_path / str(on), mesh=devices(1))
        for on in (False, True)
    ]
    chex.assert_trees_all_equal(runs[0].variables, runs[1].variables)
    assert runs[0].metrics == runs[1].metrics


@pytest.mark.slow
def test_a_stopped_run_continues_bit_for_bit(
    tiny_config: Configs, devices: Meshes, tmp_path: Path
) -> None:
    config = tiny_config(data__on_device=True, steps=9, average__precise_batches=2)
    whole = train(config, tmp_path / "whole", mesh=devices(1))
    for stop in (4, None):
        stopped = train(config, tmp_path / "stopped", stop_after=stop, mesh=devices(1))
    chex.assert_trees_all_equal(stopped.variables, whole.variables)
    assert restore(tmp_path / "stopped", mesh=devices(1)).metrics == whole.metrics


@pytest.mark.slow
def test_a_nan_loss_is_explained_by_the_batch_that_caused_it(
    tiny_config: Configs, devices: Meshes, tmp_path: Path
) -> None:
    config = tiny_config(data__on_device=True, schedule__learning_rate=1e18)
    with pytest.raises(InputError, match=r"example \d+ of synthetic"):
        train(config, tmp_path, mesh=devices(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(crop="random_resized_crop"), "crop is 'random_resized_crop'; expected 'pad_crop'"),
        (dict(interpolation="random"), "interpolation is 'random'; expected one filter"),
        (dict(sizes=((1, 8),)), "sizes is .*; expected .* one size"),
        (dict(augment=dict(erase=0.5)), r"augment.erase is 0.5; expected its default"),
        (dict(source="masks:somewhere"), "source is 'masks:somewhere'; expected a class"),
    ],
)
def test_settings_that_devices_do_not_support_are_an_error(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=f"config.data.{message}.*on_device=False"):
        dataclasses.replace(CONFIG, **settings)


def test_images_that_do_not_fit_are_an_error(
    tiny_config: Configs, devices: Meshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_device, "_device_memory", lambda mesh: 2**17)
    with pytest.raises(InputError, match="1280 images of 8 pixels need 0 MiB"):
        prepare_run(tiny_config(data__on_device=True), devices(1))
    check_room(dataclasses.replace(CONFIG, on_device=False), 10**9, 0, devices(1))
