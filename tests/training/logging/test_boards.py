"""Numbers, images and histograms on TensorBoard and Weights & Biases."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from flax_resnet.errors import InputError
from flax_resnet.training.config import LoggingConfig
from flax_resnet.training.logging.boards import TensorBoard, WeightsAndBiases
from flax_resnet.training.loop import train
from flax_resnet.training.parsing import parse

TINY = {
    "steps": 2,
    "log_every": 1,
    "model": {"name": "mnist_resnet"},
    "data": {
        "source": "synthetic:3",
        "train_split": "train[:16]",
        "eval_split": "validation[:8]",
        "batch_size": 8,
        "eval_batch_size": 8,
        "image_size": 8,
        "channels": 1,
        "mean": (0.5,),
        "std": (0.5,),
        "workers": 0,
    },
}


def events(folder: Path) -> Iterator[tuple[int, Summary.Value]]:
    """Yield step and value of everything that TensorBoard finds in a folder."""
    for file in sorted(folder.glob("events*")):
        data = file.read_bytes()
        while data:  # length, its checksum, the event, its checksum
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            yield from ((event.step, value) for value in event.summary.value)
            data = data[16 + length :]


def test_tensorboard_has_numbers_under_their_kind(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, 0)
    board.write({"kind": "train", "step": 3, "loss": 1.5})
    board.close()
    found = {value.tag: (step, value.simple_value) for step, value in events(tmp_path)}
    assert found == {"train/loss": (3, 1.5)}


@pytest.mark.parametrize("channels", [1, 3])
def test_tensorboard_has_images_side_by_side(tmp_path: Path, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, channels), np.uint8)
    board = TensorBoard(tmp_path, 0)
    board.images(0, images)
    board.close()
    ((step, value),) = events(tmp_path)
    picture = np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)))
    expected = np.broadcast_to(np.concatenate(images, axis=1), (8, 16, 3))
    assert (step, value.tag) == (0, "train/images")
    np.testing.assert_array_equal(picture.reshape(8, 16, -1)[..., :3], expected)


def test_a_histogram_counts_every_value_and_skips_arrays_that_are_not_finite(
    tmp_path: Path,
) -> None:
    board = TensorBoard(tmp_path, 0)
    board.histograms(5, {"kernel": np.arange(6.0).reshape(2, 3), "bias": np.array([np.nan])})
    board.close()
    ((step, value),) = events(tmp_path)
    assert (step, value.tag, value.histo.num, value.histo.max) == (5, "kernel", 6, 5)


@pytest.mark.slow
def test_a_run_shows_its_first_images_and_its_parameters(tmp_path: Path) -> None:
    train(parse(TINY | {"logging": {"histograms": True, "images": 3}}), tmp_path)
    found = {value.tag: step for step, value in events(tmp_path / "tensorboard")}
    assert found["train/images"] == 0
    assert found["fc.kernel"] == 2
    train(parse(TINY | {"logging": {"images": 0}}), tmp_path / "without")
    without = {value.tag for _, value in events(tmp_path / "without" / "tensorboard")}
    assert "train/loss" in without
    assert not {"train/images", "fc.kernel"} & without


def test_a_negative_number_of_images_is_refused() -> None:
    with pytest.raises(InputError, match=r"config\.logging\.images is -1"):
        LoggingConfig(images=-1)


def logged(file: Path) -> Iterator[bytes]:
    """Yield the records of a file in LevelDB's log format, after the 7 bytes of W&B's header."""
    data, at, record, block = file.read_bytes(), 7, b"", 2**15
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        length, part = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if part in (1, 4):  # a whole record, or its last part
            yield record
            record = b""


def recorded(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of every offline run in a folder, as wandb would send them."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows = []
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        for data in logged(file):
            items = Record.FromString(data).history.item
            row = {item.key or ".".join(item.nested_key): item.value_json for item in items}
            rows += [{name: json.loads(value) for name, value in row.items()}] if row else []
    return rows


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_weights_and_biases_has_one_run_across_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = parse(TINY | {"logging": {"wandb": "residuals", "histograms": True}})
    train(config, tmp_path, stop_after=1)
    train(config, tmp_path)
    wandb.teardown()  # Its own process may not have written everything yet.
    rows = recorded(tmp_path)
    steps = [row["_step"] for row in rows if "train/loss" in row]
    assert steps == [1, 2]
    assert [row["_step"] for row in rows if "train/images.count" in row] == [0]
    assert any("fc.kernel.bins" in row and row["eval/top1"] >= 0 for row in rows)
    # Those of the same second differ by a number after the name.
    (name,) = {file.name.split("-")[3] for file in tmp_path.glob("wandb/offline-run-*")}
    assert name == (tmp_path / "wandb_id.txt").read_text()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_weights_and_biases_without_a_key_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb").teardown()  # It remembers the environment that it has read.
    for name in ("WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match="WANDB_MODE=offline"):
        WeightsAndBiases("residuals", tmp_path, {})
