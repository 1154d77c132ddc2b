"""The files of a run's settings are found after the run, or its project, was moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flax_resnet.training.parsing import parse
from flax_resnet.training.paths import find_paths, remember_paths, same_path


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory: a project with a run and a folder of images."""
    project = tmp_path / "project"
    (project / "runs" / "base").mkdir(parents=True)
    (project / "runs" / "base" / "split.csv").touch()
    (project / "photos").mkdir()
    monkeypatch.chdir(project)
    return project


def stored(source: str) -> dict[str, Any]:
    """Return the stored settings of a run in runs/base that has remembered its paths."""
    config = parse({"data": {"source": source}})
    remember_paths(config, Path("runs/base"))
    return config.to_dict()


def source_in(values: dict[str, Any], workdir: Path | str) -> str:
    return str(find_paths(values, Path(workdir))["data"]["source"])


@pytest.mark.parametrize("source", ["csv:runs/base/split.csv", "folder:photos", "digits"])
def test_a_path_that_still_leads_there_is_kept(source: str) -> None:
    assert source_in(stored(source), "runs/base") == source


def test_files_are_found_from_another_working_directory(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = stored("csv:runs/base/split.csv"), stored("folder:photos")
    monkeypatch.chdir(project.parent)
    run = project / "runs" / "base"
    assert [source_in(each, run) for each in values] == [
        f"csv:{run / 'split.csv'}",
        f"folder:{project / 'photos'}",
    ]


def test_a_moved_run_uses_its_own_files_and_finds_the_others(project: Path) -> None:
    values = stored("csv:runs/base/split.csv"), stored("folder:photos")
    moved = (project / "runs" / "base").rename(project.parent / "elsewhere")
    assert source_in(values[0], moved) == f"csv:{moved / 'split.csv'}"
    assert source_in(values[1], moved) == "folder:photos"


def test_a_moved_project_finds_its_images(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = stored("folder:photos")
    moved = project.rename(project.parent / "moved")
    monkeypatch.chdir(moved.parent)
    assert source_in(values, "moved/runs/base") == f"folder:{moved / 'photos'}"


def test_an_early_run_has_not_remembered_its_paths(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = parse({"data": {"source": "csv:runs/base/split.csv"}}).to_dict()
    monkeypatch.chdir(project.parent)
    table = project / "runs" / "base" / "split.csv"
    assert source_in(values, project / "runs" / "base") == f"csv:{table}"


def test_a_name_is_not_a_path(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "digits").mkdir()
    values = stored("digits")
    monkeypatch.chdir(project.parent)
    assert source_in(values, project / "runs" / "base") == "digits"


def test_paths_are_compared_as_files(project: Path) -> None:
    photos = project / "photos"
    assert same_path("data.source", "folder:photos", f"folder:{photos}")
    assert same_path("data.source", "folder:photos", "folder:runs/../photos/")
    assert not same_path("data.source", "folder:photos", "masks:photos")
    assert not same_path("data.source", "folder:photos", "folder:runs")
    assert same_path("model.pretrained", "runs/base", str(project / "runs" / "base"))
    assert not same_path("model.pretrained", None, "runs/base")
    assert same_path("model.pretrained", None, None)
