"""Whole files are read, and nothing but files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flax_resnet.data.images.decode import MAX_BYTES, DecodeError, read_file


def test_a_file_is_read_whole(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(256)) * 1000)
    assert read_file(tmp_path / "a") == bytes(range(256)) * 1000


def test_a_named_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a")
    with pytest.raises(DecodeError, match="it is a named pipe; expected a file"):
        read_file(tmp_path / "a")


def test_a_device_is_not_read_forever():
    with pytest.raises(DecodeError, match="it is a device; expected a file"):
        read_file(Path("/dev/zero"))


def test_a_huge_file_is_not_read(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(DecodeError, match="more than the limit"):
        read_file(tmp_path / "a")


def test_folders_and_missing_files_are_os_errors(tmp_path):
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "gone")
