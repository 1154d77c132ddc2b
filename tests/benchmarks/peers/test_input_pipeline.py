import json

import numpy as np
import pytest

from benchmarks.peers import input_pipeline
from benchmarks.peers.input_sides import Side, Stream, carried_photos, folder_photos, prepare_ours
from flax_resnet.data import DataConfig
from flax_resnet.data.images.decode import decode_image


class Counter(Side):
    """Prepare a fixed number of images at a time."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images, self.closed = images, False

    def take(self, seconds: float) -> int:
        return self.images

    def close(self) -> None:
        self.closed = True


def test_the_default_photos_resemble_imagenets():
    photos = carried_photos()
    pixels = [decode_image(file, 3)[..., 0].size for file in photos.files]
    assert 100_000 < np.mean(pixels) < 250_000
    assert 60_000 < np.mean([len(file) for file in photos.files]) < 150_000
    assert photos[len(photos) - 1]["image"] in photos.files


def test_a_folder_of_photos_is_read_and_one_without_photos_is_named(tmp_path):
    (tmp_path / "one.JPEG").write_bytes(carried_photos([(40, 30)]).files[0])
    (photo,) = folder_photos(tmp_path).files
    row = prepare_ours(photo, np.random.default_rng(0), DataConfig(image_size=16))
    assert (row.shape, row.dtype) == ((16, 16, 3), np.uint8)
    (tmp_path / "one.JPEG").unlink()
    with pytest.raises(SystemExit, match=r"--photos is .*; expected a folder of .jpg"):
        folder_photos(tmp_path)


def test_every_turn_is_compared_with_the_bare_loop():
    sides = {input_pipeline.BARE: Counter(100), "other": Counter(50)}
    makers = {name: lambda side=side: side for name, side in sides.items()}
    found = input_pipeline.compare(makers, repeats=3, repeat_s=0.0, cores=1)
    assert found[input_pipeline.BARE]["ratio"]["values"] == [1.0] * 3
    assert len(found["other"]["ratio"]["values"]) == 3
    assert all(side.closed for side in sides.values())


def test_prefetched_batches_are_not_counted():
    taken = []
    side = Stream(lambda: iter(range(100)), lambda number: taken.append(number) or 1, ready=3)
    assert taken == [0, 1, 2, 3]
    side.settle()
    assert side.take(0) == 1
    assert taken[-1] == 7


@pytest.mark.exhaustive
def test_the_quick_mode_measures_the_loader_and_its_parts(tmp_path, capsys):
    assert input_pipeline.main(["--quick", "--output", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("quick-input-pipeline-area_*.json")
    result = json.loads(path.read_text())
    names = [input_pipeline.BARE, "whole loader, threads", "whole loader, 1 worker", "Pillow alone"]
    assert list(result["rows"]) == names
    for row in result["rows"].values():
        assert row["images_per_second"]["median"] > 0
    assert "images/s/core" in capsys.readouterr().out
