"""`python -m flax_resnet prepare`: packing, downloads and reports."""

from __future__ import annotations

import argparse
import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from flax_resnet.commands import prepare
from flax_resnet.errors import InputError


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    prepare.add_arguments(parser)
    return prepare.run(parser.parse_args(arguments)).status


def test_prepare_digits(tmp_path, capfd):
    assert run("digits", "--data-dir", str(tmp_path)) == 0
    printed = capfd.readouterr().out
    assert printed.startswith(f"digits is stored in {tmp_path}")
    assert list(tmp_path.rglob("*.array_record*"))
    assert run("digits", "--data-dir", str(tmp_path)) == 0  # Again: nothing to do.


def test_imagenet_prints_plain_lines_without_a_terminal(tmp_path, capfd):
    jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    archive = tmp_path / "val.tar"
    with tarfile.open(archive, "w") as tar:
        info = tarfile.TarInfo("ILSVRC2012_val_00000001.JPEG")
        info.size = len(jpeg)
        tar.addfile(info, io.BytesIO(jpeg))
    assert run("imagenet", "--val", str(archive), "--data-dir", str(tmp_path)) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("reading val.tar: ") and lines[0].endswith("(100%)")
    assert lines[1] == "packing validation: 1 of 1 (100%)"
    assert lines[2] == f"tfds:imagenet2012 is stored in {Path(tmp_path, 'imagenet2012', '5.1.0')}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagnet", "expected imagenet, digits or tfds:NAME"),
        ("folder:images", "Images in folders need no preparation"),
        ("tfds:mnits", "Did you mean 'mnist'"),
        ("imagenet", "expected --train, --val or both"),
    ],
)
def test_invalid_preparations_are_errors(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        run(name, "--data-dir", str(tmp_path))
