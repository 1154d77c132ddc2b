"""Runs on data sets of the hub, which may change between two starts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import cv2
import numpy as np
import pytest

from flax_resnet import InputError, evaluate_run, train
from flax_resnet.data.sources import hub
from flax_resnet.data.sources.hub_files import HubFiles, HubName

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
Configs = Callable[..., Any]
FIRST, SECOND = "a" * 40, "b" * 40
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"_type": "ClassLabel", "names": [f"class {number}" for number in range(10)]},
}


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes a commit the newest one of `hf:o/n`."""

    def files(name: HubName) -> HubFiles:
        commit = name.revision or newest[-1]
        return HubFiles(HubName("o/n", "default", commit), {"train": ("train",)}, FEATURES)

    def download(name: HubName, file: str) -> Path:
        seed = int(str(name.revision)[0], 16)
        pixels = np.random.default_rng(seed).integers(256, size=(40, 8, 8), dtype=np.uint8)
        encoded = [cv2.imencode(".png", each)[1].tobytes() for each in pixels]
        labels = [row % 10 for row in range(40)]
        path = tmp_path / f"{name.revision}.parquet"
        pq.write_table(pa.table({"image": encoded, "label": labels}), path)
        return path

    newest: list[str] = []
    monkeypatch.setattr(hub, "find_files", files)
    monkeypatch.setattr(hub, "_download", download)
    return newest.append


@pytest.mark.slow
def test_a_run_resumes_on_the_commit_with_which_it_began(
    publish: Callable[[str], None], tiny_config: Configs, tmp_path: Path
) -> None:
    def config(source: str = "hf:o/n", **changes: Any) -> Any:
        return tiny_config(
            data__source=source, data__train_split="train[:75%]", data__eval_split="train[75%:]",
            data__data_dir=str(tmp_path / "prepared"), schedule__name="constant", **changes,
        )  # fmt: skip

    publish(FIRST)
    whole = train(config(steps=4), tmp_path / "whole")
    train(config(steps=2), tmp_path / "parts")
    publish(SECOND)
    parts = train(config(steps=4), tmp_path / "parts")
    chex.assert_trees_all_equal(whole.variables, parts.variables)
    stored = json.loads((tmp_path / "parts" / "config.json").read_text())["data"]["source"]
    assert stored == f"hf:o/n/default@{FIRST}"
    assert evaluate_run(parts)["count"] == 10
    with pytest.raises(InputError, match=f"config.data.source: 'hf:o/n/default@{FIRST}' before"):
        train(config(f"hf:o/n@{SECOND}", steps=4), tmp_path / "parts")
