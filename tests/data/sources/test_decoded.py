"""Small images are decoded once; nothing else changes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from flax_resnet.data import DataConfig, open_source
from flax_resnet.data.sources import open as decoded
from flax_resnet.data.sources.open import DecodedSource


@pytest.fixture
def source(folder) -> DecodedSource:
    source = open_source(DataConfig(source=f"folder:{folder}"), "train")
    assert isinstance(source, DecodedSource)
    return source


def test_a_decoded_source_equals_the_original(source, folder):
    assert (len(source), source.num_classes) == (9, 3)
    assert source.class_names == ("ant", "bee", "cat")
    assert source.name == f"folder:{folder} train"
    assert source[4]["image"].shape == (12, 10, 3)
    assert source.describe(4).startswith(str(folder))


def test_an_image_is_read_once(source, folder):
    before = source[4]["image"].copy()
    Path(source.describe(4).partition(" (")[0]).unlink()
    np.testing.assert_array_equal(source[4]["image"], before)
    sent = pickle.loads(pickle.dumps(source))
    with pytest.raises(FileNotFoundError):  # A worker process decodes its own share.
        sent[4]


def test_large_images_and_large_sets_stay_encoded(folder, monkeypatch):
    config = DataConfig(source=f"folder:{folder}")
    monkeypatch.setattr(decoded, "_MEMORY_BYTES", 9 * 12 * 10 * 3 - 1)
    assert not isinstance(open_source(config, "train"), DecodedSource)
    monkeypatch.undo()
    monkeypatch.setattr(decoded, "_SMALL_ENCODED", 10)
    assert not isinstance(open_source(config, "train"), DecodedSource)


def test_a_large_image_after_small_ones_is_not_kept(source, folder, encode, monkeypatch):
    path = Path(source.describe(4).partition(" (")[0])
    path.write_bytes(encode(np.zeros((99, 10, 3), np.uint8), "PNG"))
    monkeypatch.setattr(decoded, "_MEMORY_BYTES", 9 * 12 * 10 * 3)
    assert source[4]["image"] is not source[4]["image"]
    assert source[3]["image"] is source[3]["image"]
