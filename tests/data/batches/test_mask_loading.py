"""Batches of images with masks: functions of their number, every pixel counted once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from flax_resnet.data import DataConfig, eval_batches, open_source, train_batches
from flax_resnet.data.batches.mask_loading import pixel_weights
from flax_resnet.data.images.paired import border_weights
from flax_resnet.errors import InputError
from flax_resnet.models import IGNORED
from tests.data.circles import INSIDE, OUTSIDE, circle, write_circles


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    folder = write_circles(tmp_path_factory.mktemp("circles"), 5, sizes=((24, 20), (18, 26)))
    return DataConfig(
        source=f"masks:{folder}", channels=1, mean=(0.5,), std=(0.5,), image_size=16, batch_size=4,
        eval_batch_size=2, workers=0, masks=dict(
            elastic=2.0, elastic_spacing=8, border_weight=5.0, flip_vertical=True,
            quarter_turns=True,
        ),
    )  # fmt: skip


def digest(batches) -> list[bytes]:
    return [b"".join(batch[key].tobytes() for key in sorted(batch)) for batch in batches]


def test_types_and_shapes(config: DataConfig) -> None:
    source = open_source(config, "train")
    plain = dataclasses.replace(config, masks={})
    batch = next(train_batches(source, config, seed=0, num_batches=1))
    whole = next(eval_batches(source, config))
    kinds = [{k: (v.dtype.name, v.shape) for k, v in b.items()} for b in (batch, whole)]
    assert kinds[0] == {
        "image": ("uint8", (4, 16, 16, 1)),
        "label": ("uint8", (4, 16, 16)),
        "skipped": ("int32", (4,)),
        "weight": ("float32", (4, 16, 16)),
    }
    assert kinds[1] == {
        "image": ("uint8", (2, 24, 26, 1)),
        "label": ("uint8", (2, 24, 26)),
        "skipped": ("int32", (2,)),
        "mask": ("bool", (2,)),
    }
    assert "weight" not in next(train_batches(source, plain, seed=0, num_batches=1))


@pytest.mark.parametrize(
    ("workers", "start"),
    [(0, 2), *(pytest.param(2, start, marks=pytest.mark.slow) for start in (0, 3))],
)
def test_batches_do_not_depend_on_workers_or_restarts(
    config: DataConfig, workers: int, start: int
) -> None:
    source = open_source(config, "train")
    whole = digest(train_batches(source, config, seed=7, num_batches=5))
    assert len(set(whole)) == 5
    again = dataclasses.replace(config, workers=workers)
    batches = train_batches(source, again, seed=7, start_batch=start, num_batches=5 - start)
    assert digest(batches) == whole[start:]


@pytest.mark.parametrize("process_count", [1, 2])
def test_evaluation_counts_every_pixel_once(config: DataConfig, process_count: int) -> None:
    source, found = open_source(config, "train"), []
    for index in range(process_count):
        place = dict(process_index=index, process_count=process_count)
        for batch in eval_batches(source, config, **place):
            assert (batch["label"][~batch["mask"]] == IGNORED).all()
            found += [
                (image[label != IGNORED].tobytes(), label[label != IGNORED].tobytes())
                for image, label in zip(batch["image"][..., 0], batch["label"], strict=True)
                if (label != IGNORED).any()
            ]
    pictures = [circle(n, *((24, 20), (18, 26))[n % 2]) for n in range(5)]
    expected = [(image.tobytes(), (mask == INSIDE).tobytes()) for image, mask in pictures]
    assert sorted(found) == sorted(expected)


def test_an_image_that_cannot_be_decoded_is_skipped(tmp_path: Path, config: DataConfig) -> None:
    write_circles(tmp_path, 4)
    (tmp_path / "images" / "2.png").write_bytes(b"no image")
    changed = dataclasses.replace(config, source=f"masks:{tmp_path}")
    with pytest.raises(InputError, match=r"images/2\.png .* cannot be decoded"):
        list(eval_batches(open_source(changed, "train"), changed))
    changed = dataclasses.replace(changed, on_error="skip")
    source = open_source(changed, "train")
    rows = [batch["mask"].tolist() for batch in eval_batches(source, changed)]
    assert rows == [[True, True], [False, True]]
    batch = next(train_batches(source, changed, seed=0, num_batches=1))
    assert batch["skipped"].sum() == 1


def test_pixels_are_weighted_by_class_and_gap(config: DataConfig) -> None:
    labels = np.asarray([[0, 1, 0, 1, IGNORED]], np.uint8)
    weighted = dataclasses.replace(config.masks, class_weights=(2.0, 3.0))
    expected = np.asarray([[2, 3, 2, 3, 1]]) + border_weights(labels, 5.0, 5.0)
    np.testing.assert_allclose(pixel_weights(labels, weighted), expected)


def test_the_classes_are_the_values_of_the_masks(config: DataConfig) -> None:
    assert open_source(config, "train").values == (OUTSIDE, INSIDE)


def test_strips_that_only_a_huge_frame_could_hold_are_refused(tmp_path: Path) -> None:
    folder = write_circles(tmp_path, 2, sizes=((1, 40_000), (40_000, 1)))
    config = DataConfig(source=f"masks:{folder}", channels=1, mean=(0.5,), std=(0.5,), workers=0)
    source = open_source(config, "train")
    assert next(train_batches(source, config, seed=0, num_batches=1))["image"].any()
    with pytest.raises(InputError, match="up to 40000 pixels wide and 40000 high"):
        eval_batches(source, config)
    with pytest.raises(InputError, match=r"side of 40000 pixels; .* config\.data\.masks\.elastic"):
        train_batches(
            source, dataclasses.replace(config, masks={"elastic": 1.0}), seed=0, num_batches=1
        )
