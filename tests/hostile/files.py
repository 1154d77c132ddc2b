"""Damaged or malicious archives and weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flax_resnet import __main__, load_pretrained
from tests.hostile import made
from tests.hostile.case import Case


def archive(**fields: object) -> Callable[[Path], object]:
    """Pack an archive of validation images whose only member has these fields."""

    def run(folder: Path) -> object:
        path = made.archive(folder / "val.tar", **fields)
        command = ["prepare", "imagenet", "--val", str(path), "--data-dir", str(folder)]
        return __main__.main([*command, "--workers", "1"])

    return run


def weights(make: Callable[[Path], Path]) -> Callable[[Path], object]:
    """Load weights."""
    return lambda folder: load_pretrained(make(folder / "model.safetensors"), model="resnet18")


def hub_config(text: str) -> Callable[[Path], object]:
    """Evaluate weights that are stored beside this config.json."""
    return lambda folder: __main__.main(
        ["eval", str(made.weights_folder(folder / "weights", text)), "--data", "digits"]
    )


FILES = [
    Case(
        "an archive with a path that leads out of it",
        archive(name="../" + made.VALIDATION_IMAGE),
        "contains '../ILSVRC2012_val_00000001.JPEG'; expected plain files with paths inside",
    ),
    Case(
        "an archive with an absolute path",
        archive(name="/etc/passwd"),
        "contains '/etc/passwd'; expected plain files with paths inside the archive",
    ),
    Case(
        "an archive with a link",
        archive(type=b"2", linkname="/etc/passwd"),
        "expected plain files with paths inside the archive",
    ),
    Case(
        "an archive whose header claims 4 EiB",
        archive(type=b"L", size=2**62),
        "cannot be read as an uncompressed tar archive",
    ),
    Case(
        "an archive of a text",
        archive(type=b"0", data=b"hello world"),
        "ILSVRC2012_val_00000001.JPEG in ~ cannot be decoded: its 11 bytes start with",
    ),
    Case(
        "weights whose header is longer than the file",
        weights(lambda path: path.write_bytes(b"\xff" * 7 + b"\x00") and path),
        "is not a complete safetensors file: ~ Download or copy it again",
    ),
    Case(
        "weights whose arrays overlap",
        weights(
            lambda path: made.safetensors(
                path,
                {"a": made.array([2], 0, 8), "b": made.array([2], 4, 12)},
                bytes(12),
            )
        ),
        "is not a complete safetensors file: ~ Download or copy it again",
    ),
    Case(
        "weights of a shape that no memory holds",
        weights(lambda path: made.safetensors(path, {"a": made.array([0, 2**62], 0, 0)})),
        "contains an array that numpy cannot represent: array is too big",
    ),
    Case(
        "weights in eight bits",
        weights(
            lambda path: made.safetensors(path, {"a": made.array([4], 0, 4, "F8_E4M3")}, b"1234")
        ),
        "contains an array that numpy cannot represent: ~ Convert it to float32",
    ),
    Case("a config.json that is none", hub_config("[" * 9), "config.json is not JSON (Expecting"),
    Case(
        "a config.json nested without end",
        hub_config("[" * 100_000),
        "config.json is not JSON (maximum recursion depth",
    ),
    Case(
        "a config.json with a word for a number",
        hub_config('{"pretrained_cfg": {"input_size": "large"}}'),
        "has input_size 'large'; expected a list such as [3, 224, 224]",
    ),
    Case(
        "a config.json of a million million classes",
        hub_config('{"architecture": "resnet18", "num_classes": 1000000000000}'),
        "has num_classes 1000000000000; expected a whole number from 0 to 1048576",
    ),
    Case(
        "a config.json of a billion blocks",
        lambda folder: load_pretrained(
            made.weights_folder(
                folder / "weights",
                '{"architecture":"resnet18","flax_resnet": {"stage_sizes": [1000000000, 1, 1, 1]}}',
            )
        ),
        "1000000003 blocks, but the file has 1 arrays)",
    ),
]
