"""An image and its mask are transformed alike."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from flax_resnet.data import DataConfig, MaskConfig
from flax_resnet.data.images.paired import displacements, pad_to, paired_transform
from tests.data.circles import circle

ALL = dict(flip=True, flip_vertical=True, quarter_turns=True)


def config(**settings) -> DataConfig:
    names = {entry.name for entry in dataclasses.fields(MaskConfig)}
    masks = {name: settings.pop(name) for name in names & settings.keys()}
    off = dict(source="masks:", flip=False, image_size=16, channels=1, mean=(0.5,), std=(0.5,))
    return DataConfig(**{**off, **settings}, masks=masks)


def transformed(seed: int, image: np.ndarray, label: np.ndarray, **settings):
    return paired_transform(image, label, np.random.default_rng(seed), config(**settings))


@pytest.mark.parametrize("height", [16, 11, 40])
@pytest.mark.parametrize("settings", [{}, ALL], ids=["crop", "all"])
def test_an_image_that_equals_its_mask_stays_equal(height: int, settings: dict) -> None:
    label = circle(0, height, 30)[0]
    for seed in range(20):
        image, mask = transformed(seed, label[..., None], label, **settings)
        assert mask.shape == (16, 16)
        np.testing.assert_array_equal(image[..., 0], mask)


def test_deformed_images_stay_aligned_with_their_masks() -> None:
    label = (circle(0, 64, 64)[1] > 100).astype(np.uint8)
    settings = dict(ALL, image_size=48, elastic=4.0, elastic_spacing=16)
    for seed in range(5):
        image, mask = transformed(seed, 255 * label[..., None], label, **settings)
        straight, _ = transformed(
            seed, 255 * label[..., None], label, **dict(settings, elastic=0.0)
        )
        assert np.mean((image[..., 0] > 127) != mask) < 0.01  # the edge: bilinear against nearest
        assert np.mean((image[..., 0] > 127) != (straight[..., 0] > 127)) > 0.02


def test_deformed_labels_have_no_new_values() -> None:
    label = np.random.default_rng(0).choice(np.asarray([0, 7, 255], np.uint8), (32, 32))
    _, mask = transformed(0, label[..., None], label, elastic=3.0)
    assert set(np.unique(mask)) <= {0, 7, 255}


def test_pixels_move_by_the_field() -> None:
    rows, columns = np.mgrid[:64, :64].astype(np.uint8)
    image = np.stack([rows, columns, rows], axis=-1)
    settings = dict(image_size=64, channels=3, elastic=3.0, elastic_spacing=16)
    rng = np.random.default_rng(5)
    bent, _ = paired_transform(
        image, rows, rng, config(**settings, mean=(0.5,) * 3, std=(1.0,) * 3)
    )
    rng = np.random.default_rng(5)
    rng.random(5)
    field = displacements(rng, 64, 16, 3.0)
    inner = slice(16, -16)  # beyond, the border reflects
    moved = np.stack([bent[..., 0] - rows.astype(float), bent[..., 1] - columns.astype(float)], -1)
    np.testing.assert_allclose(moved[inner, inner], field[inner, inner], atol=0.55)


def test_crops_reach_every_position_and_reflect_at_the_border() -> None:
    label = np.arange(20, dtype=np.uint8)[:, None] * np.ones((1, 6), np.uint8)
    tops = {int(transformed(seed, label[..., None], label)[1][0, 0]) for seed in range(200)}
    assert tops == set(range(5))
    wide = np.arange(6, dtype=np.uint8)[None] * np.ones((20, 1), np.uint8)
    row = transformed(0, wide[..., None], wide, image_size=8)[1][0]
    assert row.tolist() == [1, 0, 1, 2, 3, 4, 5, 4]


@pytest.mark.parametrize(
    ("settings", "count"),
    [({}, 1), ({"flip": True}, 2), ({"flip_vertical": True}, 2), ({"quarter_turns": True}, 4),
     (ALL, 8)],
)  # fmt: skip
def test_every_flip_and_turn_occurs(settings: dict, count: int) -> None:
    label = np.arange(4, dtype=np.uint8).reshape(2, 2)
    settings = dict(settings, image_size=2)
    seen = {
        transformed(seed, label[..., None], label, **settings)[1].tobytes() for seed in range(99)
    }
    assert len(seen) == count


def test_switching_off_flips_does_not_change_crops_and_fields() -> None:
    image, label = circle(0, 40, 40)
    bent = transformed(3, image[..., None], label, elastic=2.0)[0]
    flipped = transformed(3, image[..., None], label, elastic=2.0, **ALL)[0]
    turns = [np.rot90(view, k) for view in (bent, bent[:, ::-1]) for k in range(4)]
    assert any(np.array_equal(flipped, turn) for turn in turns)


@pytest.mark.parametrize("spacing", [1, 7, 64, 300])
def test_displacements_are_smooth_and_have_the_given_size(spacing: int) -> None:
    fields = [displacements(np.random.default_rng(s), 50, spacing, 2.0) for s in range(200)]
    nodes = np.stack(fields)[:, ::spacing, ::spacing]
    assert abs(nodes.mean()) < 0.2
    assert nodes.std() == pytest.approx(2.0, rel=0.15)
    steps = np.abs(np.diff(np.stack(fields), axis=1)).max()
    assert steps < 30 / spacing


def test_the_spline_is_opencvs_cubic_between_the_same_nodes() -> None:
    field = displacements(np.random.default_rng(0), 33, 8, 1.0)
    nodes = np.random.default_rng(0).standard_normal((8, 8, 2), np.float32)
    at = np.arange(33, dtype=np.float32) / 8 + 1
    columns, rows = np.meshgrid(at, at)
    expected = cv2.remap(nodes, columns, rows, cv2.INTER_CUBIC)  # there a = -3/4
    np.testing.assert_allclose(field, expected, atol=0.25)
    np.testing.assert_allclose(field[::8, ::8], nodes[1:6, 1:6], atol=1e-6)


def test_padding_reflects_below_and_to_the_right() -> None:
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    assert pad_to(image, 3, 5)[..., 0].tolist() == [
        [0, 1, 2, 1, 0],
        [3, 4, 5, 4, 3],
        [0, 1, 2, 1, 0],
    ]
