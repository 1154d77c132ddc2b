"""`python -m flax_resnet finetune`: from a folder of images to a run."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from flax_resnet import evaluate_run, load_pretrained, restore, save_pretrained
from flax_resnet.__main__ import main
from flax_resnet.commands.finetune import confusion_table
from flax_resnet.models.variants import VARIANTS


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    row = dict(stage_sizes=(1,), widths=(8,), stem="cifar", image_size=8)
    monkeypatch.setitem(VARIANTS, "tiny", row)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of 20 dark and 20 light noise images, and one image of a third class."""
    rng = np.random.default_rng(0)
    for name, low, count in (("dark", 0, 20), ("light", 128, 20), ("rare", 64, 1)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(count):
            image = rng.integers(low, low + 128, (12, 10, 3), np.uint8)
            cv2.imwrite(str(tmp_path / "photos" / name / f"{number}.png"), image)
    return tmp_path / "photos"


def finetune(photos: Path, workdir: Path, *arguments: str) -> int:
    return main(["finetune", str(photos), "--workdir", str(workdir), *arguments])


SCRATCH = ("--weights", "none", "--model", "tiny", "--epochs", "10")


def test_a_folder_becomes_a_run_and_a_second_call_trains_nothing(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "dark" / "bad.jpg").write_bytes(b"hello")
    workdir = tmp_path / "run"
    assert finetune(photos, workdir, *SCRATCH) == 0
    printed = "".join(capsys.readouterr())
    run = restore(workdir)
    figures = evaluate_run(run)
    assert figures["count"] == 8
    for text in (
        f"41 images of 3 classes: 33 train, 8 validation ({workdir}/split.csv)",
        "warning: images that cannot be read are left out (1):",
        "dark/bad.jpg: its 5 bytes start with",
        "warning: classes with a single image, which is not in any evaluation (1):\n  rare",
        f"accuracy {figures['top1']:.2%}: ",
        f"report: {workdir}/report.html",
        f"python -m flax_resnet predict {workdir}",
    ):
        assert text in printed
    lines = (workdir / "confusion.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["truth", "dark", "light", "rare"]
    assert figures["top1"] > 0.7
    (photos / "dark" / "bad.jpg").unlink()
    before = contents(workdir)
    assert finetune(photos, workdir, *SCRATCH) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"the run in {workdir} is finished: 10 epochs")
    changed = {name for name, content in contents(workdir).items() if before.get(name) != content}
    assert changed <= {Path("owner.json")}
    assert main(["eval", str(workdir)]) == 0


def contents(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.slow
def test_a_finished_run_is_extended_and_other_options_are_refused(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short, long = ((*SCRATCH[:-1], epochs) for epochs in ("1", "2"))
    monkeypatch.chdir(tmp_path)
    assert finetune(Path("photos"), Path("run"), *short) == 0
    with pytest.raises(SystemExit, match="2"):
        finetune(Path("photos"), Path("run"), *short, "--rate", "0.3", "--balance", "weights")
    told = capsys.readouterr().err
    changed = "--balance: none before, weights now\n  --rate: the default before, 0.3 now"
    assert f"other settings:\n  {changed}\nUse another" in told
    assert restore("run", "latest").step == 5
    # The same run, by other names.
    assert finetune(photos, tmp_path / "run", *long) == 0
    assert restore("run", "latest").step == 9
    assert finetune(photos, tmp_path / "run", *long, "--rate", "0.3", "--allow_config_change") == 0


@pytest.mark.slow
def test_a_run_is_evaluated_wherever_it_is(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert finetune(Path("photos"), Path("runs/base"), *SCRATCH[:-1], "1") == 0
    expected = evaluate_run(restore("runs/base"))
    (tmp_path / "far" / "away").mkdir(parents=True)
    moved = Path("runs/base").rename(tmp_path / "far" / "away" / "base")
    monkeypatch.chdir(tmp_path / "far")
    assert evaluate_run(restore(moved)) == pytest.approx(expected)
    assert expected["count"] == 8


@pytest.mark.slow
def test_training_starts_from_a_run_or_a_saved_folder(photos: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    finetune(photos, first, *SCRATCH[:-1], "1")
    run = restore(first)
    save_pretrained(run.model, run.variables, tmp_path / "saved", architecture="tiny")
    (photos / "rare" / "0.png").unlink()
    (photos / "rare").rmdir()
    for weights in (first, tmp_path / "saved"):
        workdir = tmp_path / f"from-{weights.name}"
        assert finetune(photos, workdir, "--weights", str(weights), "--epochs", "1") == 0
        config = restore(workdir).config
        assert (config.model.name, config.data.image_size) == ("tiny", 8)
        assert load_pretrained(workdir)[0].num_classes == 2
        # Frozen statistics are those of the start.
        kept = restore(workdir, "latest").variables["batch_stats"]["bn1"]["mean"]
        np.testing.assert_array_equal(kept, run.variables["batch_stats"]["bn1"]["mean"])


@pytest.mark.slow
def test_a_table_with_a_test_split_is_evaluated_on_it(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        f"{name}/{number}.png,{label},{split}"
        for name, label in (("dark", "night"), ("light", "day"))
        for number, split in enumerate(["train"] * 8 + ["val"] * 4 + ["test"] * 3)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,split", *rows]))
    table = ("--csv", str(tmp_path / "labels.csv"))
    assert finetune(photos, tmp_path / "run", *table, *SCRATCH, "--image-size", "16") == 0
    printed = capsys.readouterr().out
    assert "30 images of 2 classes: 16 train, 8 validation, 6 test" in printed
    assert "of 6 images (step" in printed
    run = restore(tmp_path / "run")
    assert run.class_names == ("day", "night")
    assert run.config.data.image_size == 16


def test_bad_input_is_one_error_with_status_2(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one" / "cat").mkdir(parents=True)
    for folder, arguments, message in (
        (tmp_path / "gone", (), "which is not a folder"),
        (tmp_path / "one", (), "cat has no images"),
        (photos / "dark", (), "has no class folders"),
        (photos, ("--validation", "2"), "expected one between 0 and 1"),
        (photos, ("--weights", "none", "--model", "tinny"), "Did you mean 'tiny'"),
        (photos, ("--weights", "./gone"), "does not exist"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            finetune(folder, tmp_path / "run", *arguments)
        printed = capsys.readouterr().err
        assert "\nerror: " in f"\n{printed}"
        assert message in printed


@pytest.mark.slow
def test_a_run_folder_is_named_after_images_and_weights(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["finetune", "photos", *SCRATCH[:-1], "1"]) == 0
    assert restore("runs/photos-tiny").config.data.source == "csv:runs/photos-tiny/split.csv"


def shown(confusion: np.ndarray, names: list[str], width: int = 200) -> list[list[str]]:
    """Return the words of each line of the table."""
    console = Console(width=width, file=io.StringIO())
    console.print(confusion_table(console, confusion, names))
    lines = console.file.getvalue().splitlines()
    return [line.replace("│", " ").replace("┃", " ").split() for line in lines]


def test_a_small_confusion_matrix_is_shown_whole() -> None:
    lines = shown(np.array([[3, 1], [0, 0]]), ["cat", "[red]dog\n"])
    assert ["truth", "cat", r"[red]dog\n", "right"] in lines
    assert ["cat", "3", "1", "75%"] in lines
    assert [r"[red]dog\n", "0", "0", "-"] in lines


def test_a_large_confusion_matrix_is_shown_as_its_largest_errors() -> None:
    confusion = np.eye(20, dtype=np.int64)
    confusion[3, 5], confusion[7, 1] = 2, 4
    lines = shown(confusion, [f"class{number}" for number in range(20)])
    rows = [line for line in lines if line and line[0].startswith("class")]
    assert rows == [["class7", "class1", "4", "5"], ["class3", "class5", "2", "3"]]


def test_a_confusion_matrix_that_does_not_fit_is_shown_as_its_largest_errors() -> None:
    confusion = np.array([[3, 1], [0, 2]])
    names = ["a" * 30, "b" * 30]
    assert ["truth", *names, "right"] in shown(confusion, names)
    assert [names[0], names[1], "1", "4"] in shown(confusion, names, width=90)
