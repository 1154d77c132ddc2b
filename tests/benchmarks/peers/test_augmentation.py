import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.peers import augmentation, pillow_side
from benchmarks.peers.augmentation import RECIPES
from flax_resnet.data import DataConfig
from flax_resnet.data.augment.config import AugmentConfig
from flax_resnet.data.augment.operations import OPERATIONS
from flax_resnet.data.augment.stages import augment


def test_every_operation_is_measured():
    rows = augmentation.operation_rows(32)
    assert {*OPERATIONS} - {"identity"} <= {*rows}


def test_both_sides_do_the_same_to_an_image():
    for ours, peer in augmentation.operation_rows(32).values():
        np.testing.assert_array_equal(ours(), np.asarray(peer()))
    for ours, peer in augmentation.stage_rows(32).values():
        for _ in range(20):
            np.testing.assert_array_equal(ours(), peer())


def test_a_recipes_augmentation_is_the_same_on_both_sides():
    image = np.random.default_rng(0).integers(256, size=(24, 24, 3), dtype=np.uint8)
    for data, stages in RECIPES.values():
        config = DataConfig(**data, augment=AugmentConfig(**stages))
        rngs = np.random.default_rng(1), np.random.default_rng(1)
        for _ in range(20):
            expected = pillow_side.augment(Image.fromarray(image), rngs[1], config)
            np.testing.assert_array_equal(augment(image, rngs[0], config), expected)


def test_a_recipe_turns_a_file_into_a_row():
    ours, peer = augmentation.recipe_row([augmentation.photo("china.jpg")], DataConfig())
    ours()
    peer()


def test_a_comparison_has_a_ratio_for_each_turn():
    result = augmentation.compare(lambda: sum(range(100)), lambda: sum(range(1000)), 3, 0.0)
    assert len(result["ratio"]["values"]) == 3
    assert result["ratio"]["median"] > 1


@pytest.mark.exhaustive
def test_the_quick_mode_measures_everything(tmp_path, capsys):
    assert augmentation.main(["--quick", "--output", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("quick-augmentation_*.json")
    result = json.loads(path.read_text())
    assert set(result["operations"]) == set(result["stages"]) == {"224 px", "32 px"}
    assert set(result["recipes"]) == set(RECIPES)
    assert "torchvision V2" in capsys.readouterr().out
