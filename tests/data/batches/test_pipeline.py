"""The stream of batches does not depend on threads or processes, and ends cleanly."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from flax_resnet.data import DataConfig, eval_batches, open_source, train_batches
from flax_resnet.data.batches.pipeline import has_small_images
from flax_resnet.data.batches.workers import choose_threads, choose_workers
from flax_resnet.errors import InputError

CONFIG = DataConfig(
    source="synthetic", image_size=8, crop_padding=2, crop="pad_crop", batch_size=60, workers=0
)


def digest(batches) -> list[tuple[bytes, bytes]]:
    return [(batch["image"].tobytes(), batch["label"].tobytes()) for batch in batches]


@pytest.fixture(scope="module")
def source():
    return open_source(CONFIG, "train[:100]")


@pytest.fixture(scope="module")
def uninterrupted(source):
    return digest(train_batches(source, CONFIG, seed=7, num_batches=6))


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_worker_processes_make_the_batches_that_threads_make(source, uninterrupted, workers):
    config = dataclasses.replace(CONFIG, workers=workers)
    start = workers - 1  # From the first batch and from a later one.
    batches = train_batches(source, config, seed=7, start_batch=start, num_batches=6 - start)
    assert digest(batches) == uninterrupted[start:]


@pytest.mark.parametrize("start", range(6))
def test_a_restart_sees_what_an_uninterrupted_run_sees(source, uninterrupted, start):
    batches = train_batches(source, CONFIG, seed=7, start_batch=start, num_batches=6 - start)
    assert digest(batches) == uninterrupted[start:]


@pytest.mark.parametrize("process_count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_restart_with_more_processes_sees_the_same_batches(source, uninterrupted, process_count):
    parts = [
        train_batches(
            source, CONFIG, seed=7, start_batch=3, num_batches=3,
            process_index=index, process_count=process_count,
        )
        for index in range(process_count)
    ]  # fmt: skip
    for rows, (images, labels) in zip(zip(*parts, strict=True), uninterrupted[3:], strict=True):
        assert np.concatenate([row["image"] for row in rows]).tobytes() == images
        assert np.concatenate([row["label"] for row in rows]).tobytes() == labels


def test_seeds_differ(source, uninterrupted):
    assert digest(train_batches(source, CONFIG, seed=8, num_batches=6)) != uninterrupted


@pytest.mark.parametrize("process_count", [1, 2])
def test_evaluation_is_finite_and_counts_every_example_once(source, process_count):
    config = dataclasses.replace(CONFIG, eval_batch_size=30)
    streams = [
        list(eval_batches(source, config, process_index=index, process_count=process_count))
        for index in range(process_count)
    ]
    assert [len(stream) for stream in streams] == [4] * process_count
    assert sum(int(batch["mask"].sum()) for stream in streams for batch in stream) == 100


def test_a_batch_that_the_processes_cannot_share_is_an_error(source):
    with pytest.raises(InputError, match="batch_size is 60; expected a multiple of the 7"):
        train_batches(source, CONFIG, seed=0, num_batches=1, process_count=7)


def test_an_error_in_a_worker_process_keeps_its_message(folder):
    bad = folder / "train" / "bee" / "1.PNG"
    bad.write_bytes(bad.read_bytes()[:40])
    config = dataclasses.replace(CONFIG, source=f"folder:{folder}", workers=1)
    batches = train_batches(open_source(config, "train"), config, seed=0, num_batches=9)
    with pytest.raises(InputError, match=r"bee/1.PNG \(folder:.* train\) cannot be decoded"):
        list(batches)
    assert list(batches) == []


def test_skipping_stops_at_the_limit_of_an_epoch(folder):
    (folder / "train" / "bee" / "1.PNG").write_bytes(b"")
    name = f"folder:{folder}"
    config = dataclasses.replace(CONFIG, source=name, batch_size=9, on_error="skip", max_errors=1)
    source = open_source(config, "train")
    skipped = [b["skipped"].sum() for b in train_batches(source, config, seed=0, num_batches=5)]
    assert skipped == [1] * 5  # One in each epoch is within the limit.
    (folder / "train" / "ant" / "1.PNG").write_bytes(b"")
    source = open_source(config, "train")
    with pytest.raises(InputError, match=r"2 records of folder:.* more than .*max_errors = 1"):
        list(train_batches(source, config, seed=0, num_batches=5))


def test_the_number_of_workers_depends_on_machine_and_images(source):
    config, gib = DataConfig(), 2**30
    assert choose_workers(config, small=False, cores=2, memory=gib) == 0
    assert choose_workers(config, small=False, cores=16, memory=64 * gib) == 14
    assert choose_workers(config, small=False, cores=16, memory=2**26) == 0
    assert choose_workers(config, False, cores=16, memory=64 * gib, row_bytes=2**24) == 4
    assert choose_workers(config, small=True, cores=16, memory=gib) == 0
    assert choose_threads(small=False, cores=2) == 2
    assert choose_threads(small=True, cores=16) == 1
    assert has_small_images(source)
    large = DataConfig(source="synthetic", image_size=224)
    assert not has_small_images(open_source(large, "train"))


def test_batches_too_large_for_memory_are_an_error(source):
    config = dataclasses.replace(CONFIG, image_size=4096, batch_size=2**14, workers=64)
    with pytest.raises(InputError, match=r"workers is 64, whose batches need .* MiB"):
        train_batches(source, config, seed=0, num_batches=1)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("sys.exit()", id="exit", marks=pytest.mark.slow),
        pytest.param(
            "list(batches); batches.close(); batches.close()",
            id="exhaust and close",
            marks=pytest.mark.slow,
        ),
        pytest.param("del batches", id="drop", marks=pytest.mark.exhaustive),
    ],
)
def test_worker_processes_end_silently(end):
    program = f"""
        import sys
        from flax_resnet.data import (DataConfig, open_source, train_batches)
        if __name__ == "__main__":
            config = DataConfig(source="synthetic", image_size=8, batch_size=16, workers=1)
            source = open_source(config, "train")
            batches = train_batches(source, config, seed=0, num_batches=20)
            first = next(batches)
            {end}
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


@pytest.mark.slow
def test_workers_end_when_the_main_process_is_killed_and_not_before():
    program = """
        import os, signal, sys, time
        import multiprocessing
        from flax_resnet.data import (DataConfig, open_source, train_batches)
        if __name__ == "__main__":
            config = DataConfig(source="synthetic", image_size=8, batch_size=16, workers=1)
            source = open_source(config, "train")
            batches = train_batches(source, config, seed=0, num_batches=9)
            next(batches)
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid, signal.SIGTERM)
            for _ in range(8):
                next(batches)
            print(worker.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    until = time.monotonic() + 30
    while Path(f"/proc/{killed.stdout.strip()}").exists():
        assert time.monotonic() < until, "the worker is still there"
        time.sleep(0.1)
