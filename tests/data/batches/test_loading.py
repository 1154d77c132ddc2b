"""A batch is a function of its number."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from flax_resnet.data import DataConfig
from flax_resnet.data.batches.loading import EvalLoader, TrainLoader
from flax_resnet.errors import InputError


@dataclass
class Numbered:
    """Example i is an image full of i with label i; some cannot be decoded."""

    length: int
    bad: tuple[int, ...] = ()
    labels: dict[int, int] = field(default_factory=dict)
    name: str = "numbers train"
    num_classes: int = 1000
    class_names: tuple[str, ...] = ()
    named: bool = False

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int):
        image = b"not an image" if index in self.bad else np.full((4, 4, 1), index, np.uint8)
        return {"image": image, "label": self.labels.get(index, index)}

    def describe(self, index: int) -> str:
        return f"number {index}"


def config(**settings) -> DataConfig:
    defaults = {"batch_size": 4, "eval_batch_size": 4, "image_size": 4, "channels": 1}
    small = {"crop": "none", "eval_crop": 1.0, "mean": (0.5,), "std": (0.5,)}
    return DataConfig(**{**defaults, **small, **settings})


def test_batches_straddle_epochs_and_lose_nothing():
    loader = TrainLoader(Numbered(10), config(), seed=0)
    labels = np.concatenate([loader(number)["label"] for number in range(5)])
    assert sorted(labels[:10]) == sorted(labels[10:]) == list(range(10))
    assert labels[:10].tolist() != labels[10:].tolist()


def test_a_batch_may_be_larger_than_the_data_set():
    labels = TrainLoader(Numbered(3), config(batch_size=6), seed=0)(0)["label"]
    assert sorted(labels) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_the_processes_reassemble_the_global_batch(process_count):
    settings, source = config(batch_size=8, crop="random_resized_crop"), Numbered(30)
    whole = TrainLoader(source, settings, seed=1)(2)
    parts = [TrainLoader(source, settings, 1, i, process_count)(2) for i in range(process_count)]
    for key in ("image", "label", "skipped"):
        np.testing.assert_array_equal(np.concatenate([part[key] for part in parts]), whole[key])


def test_types_and_shapes():
    batch = EvalLoader(Numbered(3), config(channels=3, mean=(0.5,), image_size=6))(0)
    assert {key: (value.dtype.name, value.shape) for key, value in batch.items()} == {
        "image": ("uint8", (4, 6, 6, 3)),
        "label": ("int32", (4,)),
        "skipped": ("int32", (4,)),
        "mask": ("bool", (4,)),
    }


@pytest.mark.parametrize("process_count", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 4, 7, 9])
def test_evaluation_counts_every_example_once(length, process_count):
    counted = []
    for process in range(process_count):
        loader = EvalLoader(Numbered(length), config(), process, process_count)
        for number in range(-(-length // 4)):
            batch = loader(number)
            counted += batch["label"][batch["mask"]].tolist()
            assert not batch["image"][~batch["mask"]].any()
    assert sorted(counted) == list(range(length))


def test_a_record_that_cannot_be_decoded_is_named():
    with pytest.raises(InputError, match=r"number 2 cannot be decoded: .*on_error='skip'"):
        EvalLoader(Numbered(4, bad=(2,)), config())(0)


def test_training_uses_the_next_record_instead():
    loader = TrainLoader(Numbered(8, bad=(6, 7)), config(batch_size=8, on_error="skip"), seed=0)
    batch = loader(0)
    assert sorted(batch["label"]) == [0, 0, 0, 1, 2, 3, 4, 5]
    assert sorted(batch["skipped"][batch["label"] == 0]) == [0, 1, 2]


def test_evaluation_masks_undecodable_records():
    batch = EvalLoader(Numbered(4, bad=(2,)), config(on_error="skip"))(0)
    assert batch["mask"].tolist() == [True, True, False, True]
    assert batch["skipped"].tolist() == [0, 0, 1, 0]


def test_skipping_ends_when_nothing_can_be_decoded():
    source = Numbered(4, bad=(0, 1, 2, 3))
    with pytest.raises(InputError, match="cannot be decoded"):
        TrainLoader(source, config(on_error="skip"), seed=0)(0)


@pytest.mark.parametrize("label", [-1, 1000])
def test_a_label_out_of_range_is_an_error(label):
    with pytest.raises(InputError, match=f"number 1 has label {label}; expected 0 .. 999"):
        EvalLoader(Numbered(4, labels={1: label}), config(on_error="skip"))(0)
