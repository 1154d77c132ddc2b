"""What is a path, and what is a name on the hub."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from flax_resnet import InputError, load_pretrained, restore
from flax_resnet.__main__ import main
from flax_resnet.errors import warn_once
from flax_resnet.weights import Description, describe, locate

ASKED = "the hub was asked"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with runs; a question to the hub is an error that says so."""

    def refuse(name: str, revision: str | None = None) -> Path:
        raise InputError(f"{ASKED} for {name}")

    monkeypatch.setattr(locate, "download_config", refuse)
    monkeypatch.setattr(locate, "download_weights", refuse)
    for name in ("runs/digits", "runs/photos", "saved"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "saved" / "weights.safetensors").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "near"),
    [
        ("runs/digit", "Did you mean 'runs/digits'?"),
        ("runs/digits/../photo", "Did you mean "),
        ("run/digits", "Did you mean 'runs/digits'?"),
        ("run/typo", "Did you mean 'runs'?"),
        ("runs/typo", "runs has digits, photos."),
        ("./run", "Did you mean 'runs'?"),
        ("~/runs/photo", "runs/photos'?"),
        ("runs\\digits", "Did you mean 'runs/digits'?"),
        ("..\\x", "..\\x does not exist"),
        ("x.safetensors", "x.safetensors does not exist"),
        ("saved/weight.safetensors", "Did you mean 'saved/weights.safetensors'?"),
        ("timm/resnet18.safetensors", "timm/resnet18.safetensors does not exist"),
        ("saves", "Did you mean 'saved'?"),
        ("someone/digits", "A repository of the hub is written hub:someone/digits."),
    ],
)
def test_what_looks_like_a_path_is_never_a_name_of_the_hub(source: str, near: str) -> None:
    with pytest.raises(InputError, match=re.escape(near)) as caught:
        describe(source)
    assert " does not exist: check the path of the weights." in str(caught.value)
    assert ASKED not in str(caught.value)


@pytest.mark.parametrize("command", ["predict", "embed", "eval", "export", "segment", "report"])
def test_commands_name_what_is_near(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"predict": ["a.jpg"], "embed": ["a.jpg", "--out", "a.npy"]}.get(command, [])
    with pytest.raises(SystemExit, match="2"):
        main([command, "runs/digit", *more])
    told = capsys.readouterr().err
    assert "runs/digit does not exist" in told
    assert "Did you mean 'runs/digits'?" in told


@pytest.mark.parametrize(
    ("source", "repository"),
    [
        ("hub:runs/digit", "runs/digit"),
        ("hub:runs/digits", "runs/digits"),
        ("timm/vgg16.tv_in1k", "timm/vgg16.tv_in1k"),
    ],
)
def test_a_prefix_or_a_known_owner_asks_the_hub(source: str, repository: str) -> None:
    with pytest.raises(InputError, match=f"{ASKED} for {repository}"):
        describe(source)


def test_published_names_are_known_without_the_hub() -> None:
    known = describe("resnet18.a1_in1k")
    assert isinstance(known, Description)
    assert known == describe("timm/resnet18.a1_in1k") == describe("hub:timm/resnet18.a1_in1k")


@pytest.mark.parametrize("name", ["hub:", "hub:digits", "hub:a/b/c", "hub:../x"])
def test_a_repository_has_an_owner_and_a_name(name: str) -> None:
    with pytest.raises(InputError, match="is not a repository: expected hub:OWNER/NAME"):
        describe(name)


def test_a_folder_of_other_things_is_an_error_that_lists_them() -> None:
    with pytest.raises(InputError, match=r"runs has no model\.safetensors.* runs has digits, pho"):
        load_pretrained("runs")
    with pytest.raises(InputError, match=r"Did you mean 'saved/weights\.safetensors'"):
        load_pretrained("saved")


def test_runs_are_found_in_the_home_folder(tiny_run: Path, home: Path) -> None:
    (home / "linked").symlink_to(tiny_run)
    assert restore("~/linked").step == 1
    assert load_pretrained("~/linked")[0].num_classes == 10


def test_a_license_that_excludes_commercial_use_is_named_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locate, "download_weights", lambda *_: Path("weights"))
    warn_once.cache_clear()
    with pytest.warns(UserWarning, match=r"license of resnet18.fb_ssl\S+ is cc-by-nc-4.0"):
        locate.locate("resnet18.fb_ssl_yfcc100m_ft_in1k")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        locate.locate("timm/resnet18.fb_ssl_yfcc100m_ft_in1k")
        locate.locate("resnet18.a1_in1k")
