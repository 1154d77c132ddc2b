"""An address is refused wherever a path is expected, and nothing is created."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import flax_resnet
from flax_resnet.__main__ import main
from flax_resnet.data import DataConfig
from flax_resnet.errors import InputError, require_local
from flax_resnet.finetune.split import settle_split
from flax_resnet.inference.shards import Job, write_shards
from flax_resnet.lab import perform
from flax_resnet.report.page import write_report
from flax_resnet.training.config import ModelConfig
from flax_resnet.training.parsing import parse
from tests.hostile.settings import parse_words


@pytest.mark.parametrize(
    "address",
    [
        "gs://b",
        "gs://b/run",
        "az://x",
        "S3://b/k",
        "hf://o/n",
        "abfss://c@a/x",
        "hdfs:///x",
        "a+b://c",
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_an_address_is_shown_as_it_was_typed(address: str, kind: Callable[[str], str]) -> None:
    shown = address.replace(":///", "://")
    with pytest.raises(InputError, match="is an address; expected a path on this machine") as found:
        require_local(kind(address))
    assert str(found.value).replace(":///", "://").startswith(f"{shown} is")


@pytest.mark.parametrize("path", ["a", "/a:/b", "./gs", "C:/x", "folder:/a", "csv://a", "a:b/c"])
def test_a_path_of_this_machine_is_not_an_address(path: str) -> None:
    require_local(path)
    require_local(Path(path.removeprefix("folder:").removeprefix("csv:")))


@pytest.mark.parametrize(
    "words",
    [
        "embed runs/x a.jpg --out gs://b/f.npy",
        "embed runs/x gs://b/a.jpg --out f.npy",
        "eval runs/x --data folder:gs://b/photos",
        "eval gs://b/run",
        "eval runs/x --data-dir gs://b",
        "export az://b/run",
        "export runs/x --out s3://b/x",
        "finetune photos --workdir gs://b/run",
        "finetune photos --csv s3://b/t.csv",
        "finetune photos --weights hf://timm/resnet18.a1_in1k",
        "finetune gs://b/photos",
        "lab walk --out gs://b/lab",
        "predict runs/x a.jpg --csv gs://b/t.csv",
        "predict runs/x a.jpg --shards gs://b/t",
        "prepare digits --data-dir gs://b",
        "prepare imagenet --train gs://b/t.tar",
        "report gs://b/run",
        "report runs/x --out gs://b/r.html",
        "segment runs/x --out gs://b/masks",
        "serve hf://o/n",
        "sweep digits --out gs://b/runs",
        "train --config digits --workdir gs://b/run",
        "train --config gs://b/recipe.py",
    ],
)
def test_every_command_refuses_an_address(
    words: str,
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "x").symlink_to(tiny_run)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(words.split())
    assert "is an address; expected a path on this machine" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["x"]


@pytest.mark.parametrize(
    "setting",
    ["data.source=folder:gs://b/x", "data.data_dir=gs://b", "model.pretrained=s3://b/w.pth"],
)
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
def test_settings_are_checked_before_a_run_begins(setting: str) -> None:
    with pytest.raises(InputError, match="is an address"):
        parse_words(["--config=digits", f"--config.{setting}"])


def test_python_refuses_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    address = "gs://b/x"
    model = flax_resnet.create_model("resnet18")
    calls: list[Callable[[], object]] = [
        lambda: flax_resnet.train(parse({}), address),
        lambda: flax_resnet.train(parse({}), Path(address)),
        lambda: flax_resnet.restore(address),
        lambda: flax_resnet.load_pretrained(address),
        lambda: flax_resnet.save_pretrained(model, {}, address),
        lambda: DataConfig(source=f"csv:{address}"),
        lambda: DataConfig(source=address),
        lambda: DataConfig(data_dir=address),
        lambda: ModelConfig(pretrained=address),
        lambda: parse({"distill": {"teacher": address}}),
        lambda: settle_split(tmp_path / "run", Path(address)),
        lambda: settle_split(Path(address), tmp_path),
        lambda: write_shards(Job("x"), ["a.jpg"], Path(address), 1),
        lambda: write_report([Path(address)]),
        lambda: perform("walk", address),
    ]
    for call in calls:
        with pytest.raises(InputError, match="gs://b/x is an address"):
            call()
    assert list(tmp_path.iterdir()) == []
