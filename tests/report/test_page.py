"""The report page: complete, self-contained and correct."""

import csv
import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from flax_resnet import InputError, evaluate_run, restore, train
from flax_resnet.__main__ import main
from flax_resnet.commands.report import report_when_done
from flax_resnet.report import page
from flax_resnet.report.page import data_name, distinct_names, write_report
from flax_resnet.training.logging.writers import read_rows

EMPTY = {"meta", "img", "line", "circle", "polyline", "br", "input"}


class Reader(HTMLParser):
    """Collect text and attributes, and fail if a tag is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("p", "li"):  # HTML may omit these end tags; our page never does.
            assert self.open[-1] == tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> Reader:
    return Reader(path.read_text("utf-8"))


def test_a_page_shows_its_run_and_loads_nothing_else(tiny_run: Path, tmp_path: Path) -> None:
    found = read(write_report([tiny_run], tmp_path / "page.html", "python train.py --x='<y>'"))
    run = restore(tiny_run)
    assert f"{run.metrics['loss']:.4f}" in found.text
    assert "python train.py --x='<y>'" in found.text
    assert ("tr", {"class": "marked"}) in found.tags  # Some settings are not the defaults.
    for part in ("Validation accuracy", "need attention first", "mistakes", "model.name", "jaxlib"):
        assert part in found.text
    assert {tag for tag, _ in found.tags} & {"script", "link", "iframe", "object"} == set()
    sources = [value for _, own in found.tags for name, value in own.items() if name == "src"]
    assert sources
    assert all(str(source).startswith("data:image/") for source in sources)
    assert not any(name == "href" for _, own in found.tags for name in own)
    assert "url(" not in (tmp_path / "page.html").read_text()


def test_a_class_name_with_html_stays_text(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "<script>alert('x')</script>&amp;"
    run = restore(tiny_run)
    named = dataclasses.replace(run, class_names=(evil, *run.class_names[1:]))
    monkeypatch.setattr(page, "restore", lambda workdir: named)
    found = read(write_report([tiny_run], tmp_path / "page.html"))
    assert evil in found.text
    assert "script" not in {tag for tag, _ in found.tags}


@pytest.mark.slow
def test_a_page_of_two_runs_marks_the_settings_that_differ(tiny_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "<other>"
    shutil.copytree(tiny_run, other)
    found = read(write_report([tiny_run, other], tmp_path / "page.html"))
    assert "<other>: validation" in found.text
    assert ("tr", {"class": "marked"}) not in found.tags  # Their settings are equal.


@pytest.fixture
def tested_run(tmp_path: Path, tiny_config: Any) -> Path:
    """Return a run on a folder of images that has a test split."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4), ("test", 6)):
        for name, low in (("dark", 0), ("light", 60)):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(low, low + 128, (9, 9), np.uint8)
                cv2.imwrite(str(tmp_path / "photos" / split / name / f"{number}.png"), pixels)
    splits = dict(data__eval_split="val", data__test_split="test", data__batch_size=16)
    train(
        tiny_config(data__source=f"folder:{tmp_path / 'photos'}/", steps=1, **splits),
        tmp_path / "runs" / "mine",
    )
    return tmp_path / "runs" / "mine"


def test_the_test_result_is_the_headline_and_no_folder_of_the_machine_is_told(
    tested_run: Path, tmp_path: Path
) -> None:
    found = read(write_report([tested_run]))
    figures = evaluate_run(restore(tested_run))
    headline = found.text.partition("tiny on photos, 2 classes")[2].split()
    assert headline[:4] == ["Test", "accuracy", f"{100 * figures['top1']:.1f}", "%"]
    assert found.text.index("Test accuracy") < found.text.index("Validation accuracy")
    assert re.search(r"of 12 images; 95 % interval", found.text)
    places = {own["title"] for _, own in found.tags if own.get("class") == "file"}
    assert places <= {f"{name}/{number}.png" for name in ("dark", "light") for number in range(6)}
    assert str(tmp_path) not in (tested_run / "report.html").read_text()


def test_a_page_has_f1_calibration_and_the_labels_that_are_suspect(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = tmp_path / "suspects.csv", tmp_path / "page.html"
    words = ["report", str(tiny_run), "--out", str(out), "--suspects", str(table)]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"labels most likely wrong: {table}"
    text = read(out).text
    for part in ("ECE, 15 bins", "reliability: accuracy", "Labels most likely wrong", "F1"):
        assert part in text
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert rows
    assert all(row["label"] != row["suggested"] for row in rows)
    assert rows[0]["image"] in text.partition("Labels most likely wrong")[2]
    with pytest.raises(SystemExit, match="2"):
        main([*words[:2], *words[1:]])
    assert "expected one run" in capsys.readouterr().err


def test_runs_are_told_apart_by_as_few_folders_as_needed(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a/x", "b/x", "b/y")]
    assert distinct_names(paths[1:]) == ["x", "y"]
    assert distinct_names(paths) == ["a/x", "b/x", "b/y"]
    assert distinct_names([paths[0], paths[0]]) == ["x", "x"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("tfds:imagenette/160px-v2", "imagenette/160px-v2"),
        ("folder:/data/birds/", "birds"),
        ("csv:/data/birds/labels.csv", "labels.csv"),
        ("digits", "digits"),
        ("synthetic:10", "synthetic"),
    ],
)
def test_data_are_called_by_their_own_name(tiny_run: Path, source: str, name: str) -> None:
    run = restore(tiny_run)
    data = dataclasses.replace(run.config.data, source=source)
    assert (
        data_name(dataclasses.replace(run, config=dataclasses.replace(run.config, data=data)))
        == name
    )


def test_arguments_of_a_network_are_settings(tiny_run: Path) -> None:
    run = restore(tiny_run)
    model = dataclasses.replace(run.config.model, arguments={"zero_init_last": True})
    other = dataclasses.replace(run, config=dataclasses.replace(run.config, model=model))
    plain, changed = (
        page.Subject("x", "", each, [], [], [], None, [], "") for each in (run, other)
    )
    key = "model.zero_init_last"
    assert (key, ["True"], True) in page._settings([changed])
    assert (key, ["-", "True"], True) in page._settings([plain, changed])


def rewrite(workdir: Path, lines: list[str]) -> None:
    (workdir / "metrics.jsonl").write_text("\n".join(lines))


@pytest.mark.parametrize(
    "lines",
    [
        [],
        pytest.param(
            [json.dumps(dict(kind="train", step=1, loss=None, accuracy=None))],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            [json.dumps(dict(kind="train", step=1, loss=1.0)), '{"kind": "train", "st'],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["none", "not finite", "torn"],
)
def test_missing_and_broken_metrics_still_give_a_page(
    tiny_run: Path, tmp_path: Path, lines: list[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(tiny_run, copy)
    rewrite(copy, lines)
    assert len(read_rows(copy)) <= 1
    assert "Confusion matrix" in read(write_report([copy])).text
    assert (copy / "report.html").is_file()


def test_an_error_in_a_report_does_not_fail_the_run(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: Any, **settings: Any) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("flax_resnet.commands.report.write_report", fail)
    report_when_done(tiny_run, "again")
    assert capsys.readouterr().err == "warning: no report was written: by nothing\n"


def test_the_command_needs_a_path_for_several_runs(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tiny_run), "--out", str(tmp_path / "a.html")]) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'a.html'}\n"
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(tiny_run), str(tiny_run)])
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(tmp_path)])
    with pytest.raises(InputError, match="cannot be written to"):
        write_report([tiny_run], tmp_path / "nowhere" / "a.html")
