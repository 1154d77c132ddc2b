"""The split of a run is drawn once."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from flax_resnet import InputError
from flax_resnet.data import DataConfig, open_source
from flax_resnet.finetune.split import settle_split


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten images of each of two classes."""
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            image = np.full((8, 8, 3), 20 * number, np.uint8)
            cv2.imwrite(str(tmp_path / "photos" / name / f"{number}.png"), image)
    return tmp_path / "photos"


def test_a_split_is_drawn_once(photos: Path, tmp_path: Path) -> None:
    first, _ = settle_split(tmp_path / "run", photos)
    assert sum(row.split == "validation" for row in first) == 4
    (photos / "ant" / "0.png").touch()
    (photos / "ant" / "bad.jpg").write_bytes(b"hello")
    assert settle_split(tmp_path / "run", photos) == (first, {})


def test_images_that_have_changed_are_named_with_what_to_do(photos: Path, tmp_path: Path) -> None:
    first, _ = settle_split(tmp_path / "run", photos)
    shutil.copy(photos / "ant" / "0.png", photos / "ant" / "new.png")
    (photos / "ant" / "1.png").unlink()
    (photos / "ant" / "2.png").rename(photos / "bee" / "moved.png")
    shutil.copy(photos / "ant" / "9.png", photos / "ant" / "3.png")
    with pytest.raises(InputError) as found:
        settle_split(tmp_path / "run", photos)
    told = str(found.value)
    for line in (
        f"2 new: {photos}/ant/new.png, {photos}/bee/moved.png",
        f"2 gone: {photos}/ant/1.png, {photos}/ant/2.png",
        f"1 changed: {photos}/ant/3.png",
        "use another --workdir",
        "--keep-split",
    ):
        assert line in told
    assert settle_split(tmp_path / "run", photos, keep=True) == (first, {})
    assert settle_split(tmp_path / "other", photos)[0] != first


def test_rows_of_a_table_that_have_changed_are_named(photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    rows = [f"{label}/{n}.png,{label},train" for label in ("ant", "bee") for n in range(10)]

    def write() -> None:
        table.write_text("\n".join(["file,label,split", *rows]))

    write()
    settle_split(tmp_path / "run", photos, table)
    settle_split(tmp_path / "run", photos, table)
    rows[0], rows[1] = "ant/0.png,bee,train", "ant/1.png,ant,test"
    write()
    expected = r"1 of another class: .*ant/0.png\n  1 of another split: .*ant/1.png"
    with pytest.raises(InputError, match=expected):
        settle_split(tmp_path / "run", photos, table)


def test_a_run_that_was_moved_without_its_images_finds_them(photos: Path, tmp_path: Path) -> None:
    first, _ = settle_split(tmp_path / "runs" / "run", photos)
    moved = (tmp_path / "runs" / "run").rename(tmp_path / "moved")
    assert settle_split(moved, photos) == (first, {})
    config = DataConfig(source=f"csv:{moved / 'split.csv'}", follow_links=True)
    assert np.size(open_source(config, "validation")[0]["image"])


def test_a_split_of_an_earlier_version_is_compared_by_its_names(
    photos: Path, tmp_path: Path
) -> None:
    first, _ = settle_split(tmp_path / "run", photos)
    path = tmp_path / "run" / "split.json"
    values = json.loads(path.read_text())
    del values["images"], values["folder"]
    path.write_text(json.dumps(values))
    shutil.copy(photos / "ant" / "9.png", photos / "ant" / "3.png")
    assert settle_split(tmp_path / "run", photos) == (first, {})
    (photos / "ant" / "1.png").unlink()
    with pytest.raises(InputError, match=r"1 gone: .*ant/1\.png"):
        settle_split(tmp_path / "run", photos)


def test_the_split_is_a_source_even_after_the_project_has_moved(
    photos: Path, tmp_path: Path
) -> None:
    settle_split(tmp_path / "run", photos)
    (tmp_path / "moved").mkdir()
    for name in ("run", "photos"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    config = DataConfig(source=f"csv:{tmp_path / 'moved/run/split.csv'}", follow_links=True)
    train, validation = (open_source(config, split) for split in ("train", "validation"))
    assert (len(train), len(validation)) == (16, 4)
    assert all(np.size(validation[index]["image"]) for index in range(4))


def test_links_out_of_the_folder_are_followed_on_request(photos: Path, tmp_path: Path) -> None:
    elsewhere = (photos / "ant").rename(tmp_path / "ant")
    (photos / "ant").symlink_to(elsewhere)
    with pytest.raises(InputError, match="finetune: --follow-links"):
        settle_split(tmp_path / "run", photos)
    rows, _ = settle_split(tmp_path / "run", photos, follow_links=True)
    assert {Path(row.file).parent for row in rows if row.label == "ant"} == {Path("../ant")}


def test_a_run_killed_between_its_two_files_splits_again(photos: Path, tmp_path: Path) -> None:
    first, _ = settle_split(tmp_path / "run", photos, seed=1)
    (tmp_path / "run" / "split.json").unlink()
    assert settle_split(tmp_path / "run", photos, seed=1) == (first, {})


def test_other_choices_are_refused(photos: Path, tmp_path: Path) -> None:
    settle_split(tmp_path / "run", photos)
    with pytest.raises(InputError, match=r"of other images:\n  validation: 0.2 before, 0.5 now"):
        settle_split(tmp_path / "run", photos, fraction=0.5)
    with pytest.raises(InputError, match=r"photos: ../photos before, ../photos/ant now"):
        settle_split(tmp_path / "run", photos / "ant")


def test_the_folder_of_another_run_is_not_changed(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="has a run of other data"):
        settle_split(tmp_path / "run", photos)
    assert not (tmp_path / "run" / "split.csv").exists()


def test_a_folder_that_cannot_be_created_is_an_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written to"):
        settle_split(tmp_path / "file" / "run", photos)
