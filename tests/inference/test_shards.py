"""Predictions for many images in many files, every image once."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_resnet import InputError, train
from flax_resnet.__main__ import main
from flax_resnet.inference.predictor import open_predictor
from flax_resnet.inference.shards import MANIFEST, Job, write_shards
from flax_resnet.training.parsing import parse


@pytest.fixture
def many(tmp_path: Path) -> list[str]:
    (tmp_path / "many").mkdir()
    files = []
    for number in range(7):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 8, 3), np.uint8)
        files.append(str(tmp_path / "many" / f"{number}.png"))
        Image.fromarray(pixels).save(files[-1])
    (tmp_path / "many" / "3.png").write_text("torn")
    return files


def read_lines(folder: Path) -> list[dict[str, object]]:
    parts = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def test_missing_shards_are_written_and_existing_ones_are_kept(
    tiny_run: Path, many: list[str], tmp_path: Path
) -> None:
    out, job = tmp_path / "out", Job(str(tiny_run), top=2)
    told: list[tuple[int, int]] = []
    assert write_shards(job, many, out, 3, on_shard=lambda *at: told.append(at)) == 1
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert [row["file"] for row in read_lines(out)] == many
    assert ["error" in row for row in read_lines(out)] == [name.endswith("3.png") for name in many]
    predictor = open_predictor(tiny_run)
    (chances,) = predictor.probabilities(predictor.prepare(Path(many[0]).read_bytes())[None])
    (best, _) = read_lines(out)[0]["classes"]  # type: ignore[misc]
    assert best["class"] == predictor.class_names[chances.argmax()]
    (out / "00001.jsonl").unlink()
    before = {part: part.stat().st_mtime_ns for part in out.glob("*.jsonl")}
    assert write_shards(job, many, out, 3) == 1
    assert [row["file"] for row in read_lines(out)] == many
    assert all(part.stat().st_mtime_ns == when for part, when in before.items())


def test_a_folder_of_another_job_is_refused_and_unchanged(
    tiny_run: Path, many: list[str], tmp_path: Path
) -> None:
    out, job = tmp_path / "out", Job(str(tiny_run))
    write_shards(job, many, out, 4)
    before = (out / MANIFEST).read_text(), read_lines(out)
    with pytest.raises(InputError, match=r"\(pictures, digest differ\)"):
        write_shards(job, many[1:], out, 4)
    with pytest.raises(InputError, match=r"\(top differ\)"):
        write_shards(Job(str(tiny_run), top=3), many, out, 4)
    assert ((out / MANIFEST).read_text(), read_lines(out)) == before
    with pytest.raises(InputError, match="expected 1 or more"):
        write_shards(job, many, out, 0)
    with pytest.raises(InputError, match="cannot be written to"):
        write_shards(job, many, Path(many[0]), 4)


@pytest.mark.slow
def test_two_processes_write_the_same_as_one(many: list[str], tmp_path: Path) -> None:
    data = dict(source="synthetic:4", batch_size=16, image_size=8, train_split="train[:16]")
    config = {"steps": 1, "model": {"name": "mnist_resnet"}, "data": data | {"channels": 3}}
    train(parse(config), tmp_path / "run")
    words = ["predict", str(tmp_path / "run"), str(tmp_path / "many"), "--shard-size", "2"]
    assert main([*words, "--shards", str(tmp_path / "one")]) == 1
    assert main([*words, "--shards", str(tmp_path / "two"), "--processes", "2"]) == 1
    assert read_lines(tmp_path / "two") == read_lines(tmp_path / "one")
    assert len(read_lines(tmp_path / "two")) == len(many)
