"""The images that a command names."""

import io
import os
from pathlib import Path

import pytest

from flax_resnet import InputError
from flax_resnet.inference.inputs import find_images


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.jpg", "b/1.PNG", "b/deep/3.webp", "b/notes.txt", "a[1].jpg", "z",
                 "c/1.jfif", "c/2.tif", "c/Thumbs.db", "c/._1.jfif", "c/__MACOSX/1.jpg",
                 "c/.ipynb_checkpoints/1-checkpoint.jpg"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "none").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "words, found",
    [
        (["z", "gone.jpg"], ["z", "gone.jpg"]),
        (["c"], ["c/1.jfif", "c/2.tif"]),
        (["b/*.jpg"], ["b/2.jpg"]),
        (["c/*"], ["c/1.jfif", "c/2.tif"]),
        (["?"], ["b/1.PNG", "b/2.jpg", "b/deep/3.webp", "c/1.jfif", "c/2.tif", "z"]),
        (["c/**"], ["c/1.jfif", "c/2.tif"]),
        (["c/__MACOSX/*"], ["c/__MACOSX/1.jpg"]),
        (["b/**/*.webp", "z"], ["b/deep/3.webp", "z"]),
        (["a[1].jpg"], ["a[1].jpg"]),  # an existing file before a pattern
        (["-", "z"], ["x y.jpg", " w.jpg", "z"]),
    ],
)
def test_files_folders_patterns_and_lists(folder: Path, words: list[str], found: list[str]) -> None:
    lines = ["x y.jpg\n", "\r\n", " w.jpg"]
    assert list(find_images(words, lines)) == [each.replace("/", os.sep) for each in found]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_a_list_may_come_from_another_system(folder: Path, encoding: str) -> None:
    text = "b\\2.jpg\r\né.jpg\r\n"
    stream = io.TextIOWrapper(io.BytesIO(text.encode(encoding)), encoding="ascii")
    assert list(find_images(["-"], stream)) == ["b/2.jpg", "é.jpg"]


def test_other_files_of_a_folder_are_counted(folder: Path) -> None:
    (folder / "b" / "deep" / "4.HEIC").touch()
    (folder / "b" / "5.heic").touch()
    with pytest.warns(UserWarning, match=r"^b: passed over: \.heic \(2\), \.txt \(1\)$"):
        assert list(find_images(["b"])) == ["b/1.PNG", "b/2.jpg", "b/deep/3.webp"]
    assert len(list(find_images(["b"]))) == 3


@pytest.mark.parametrize(
    "word, told", [("none", "none has no images in it; expected JPEG, PNG"), ("q*", "'q*'")]
)
def test_a_folder_or_pattern_without_images_is_an_error(folder: Path, word: str, told: str) -> None:
    with pytest.raises(InputError, match=told.replace("*", r"\*")):
        list(find_images([word]))
