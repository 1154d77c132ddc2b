"""The listing of folders, and which links are followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flax_resnet.data import DataConfig, open_source
from flax_resnet.errors import InputError

# The superuser may read everything.
AS_USER = pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")


def count(path: Path, **settings: object) -> int:
    return len(open_source(DataConfig(source=f"folder:{path}", **settings), "train"))


def test_links_that_stay_inside_are_followed(folder):
    ant = folder / "train" / "ant"
    (ant / "9.png").symlink_to("0.png")
    (ant / "8.png").symlink_to(folder / "val" / "ant" / "0.png")
    (folder / "train" / "dog").symlink_to(folder / "val" / "cat")
    assert count(folder) == 9 + 2 + 2


@pytest.mark.parametrize("place", ["train/ant/9.png", "train/dog", "training"])
def test_links_out_of_the_folder_are_followed_on_request(folder, tmp_path, place):
    outside = tmp_path / "outside"
    (folder / "val").rename(outside)
    link = folder / place
    link.symlink_to(outside / "ant" / "0.png" if link.suffix else outside / "cat")
    if place == "training":
        (folder / "train").rename(tmp_path / "train")
        link.unlink()
        link.symlink_to(tmp_path / "train")
    with pytest.raises(InputError, match=r"is a link to .*Set config.data.follow_links=True"):
        count(folder)
    assert count(folder, follow_links=True) >= 9


def test_links_beside_the_splits_are_not_followed(folder, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "0.png").touch()
    (folder / "more").symlink_to(tmp_path / "outside")
    assert count(folder) == 9


def test_the_source_itself_may_be_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert count(tmp_path / "link") == 9


def test_links_out_of_a_folder_of_masks_are_refused(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "outside" / name).mkdir(parents=True)
        (tmp_path / "pairs").mkdir(exist_ok=True)
        (tmp_path / "pairs" / name).symlink_to(tmp_path / "outside" / name)
    with pytest.raises(InputError, match=r"images is a link to .*outside/images"):
        open_source(DataConfig(source=f"masks:{tmp_path / 'pairs'}"), "train")


def test_only_links_are_resolved(folder, monkeypatch):
    resolved = []
    realpath = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: resolved.append(path) or realpath(path))
    count(folder)
    assert resolved == []


def test_special_files_are_errors_even_if_errors_are_skipped(folder):
    os.mkfifo(folder / "train" / "ant" / "9.jpg")
    with pytest.raises(InputError, match=r"9\.jpg is a named pipe; expected a file"):
        count(folder, on_error="skip")


def test_a_device_behind_a_link_is_an_error(folder):
    (folder / "train" / "ant" / "9.jpg").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"9\.jpg is a device; expected a file"):
        count(folder, follow_links=True)


@AS_USER
@pytest.mark.parametrize("locked", ["", "train", "train/ant"])
def test_an_unreadable_folder_is_an_error(folder, locked):
    (folder / locked).chmod(0)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            count(folder)
    finally:
        (folder / locked).chmod(0o755)
