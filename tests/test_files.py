"""Files and folders are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from flax_resnet.files import filling


def test_a_folder_is_filled_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    with filling(target) as part:
        (part / "deep").mkdir()
        (part / "deep" / "file").write_text("new")
        assert not target.exists()
    assert (target / "deep" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_other_files_of_a_folder_stay(tmp_path: Path) -> None:
    for name in ("same", "other"):
        (tmp_path / "folder" / name).mkdir(parents=True)
        (tmp_path / "folder" / name / "file").write_text("old")
    with filling(tmp_path / "folder") as part:
        (part / "same").mkdir()
        (part / "same" / "file").write_text("new")
    assert (tmp_path / "folder" / "same" / "file").read_text() == "new"
    assert (tmp_path / "folder" / "other" / "file").read_text() == "old"


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), filling(tmp_path / "new" / "folder") as part:
        (part / "file").write_text("new")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
