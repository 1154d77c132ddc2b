"""Measure images per second and core from JPEG files to batches: the whole loader and its parts.

The bare loop decodes, randomly crops, resizes and flips photographs in memory, in one process per
core. The whole loader does the same in threads or worker processes, and also shuffles, batches and
passes batches through shared memory. The peers are Pillow as torchvision uses it, alone and in
torch's DataLoader, and tf.data, if they are installed. All take turns.
"""

import argparse
import dataclasses
import importlib.metadata
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import (
    QUICK_RESULTS,
    RESULTS,
    add_result_options,
    record_environment,
    result_path,
    shown,
    summarize,
    table,
    usable_cores,
    write_json,
)
from benchmarks.peers import pillow_side
from benchmarks.peers.input_sides import (
    SIZES,
    Alone,
    Photos,
    Side,
    carried_photos,
    folder_photos,
    installed,
    loader,
    prepare_ours,
    tf_loader,
    torch_loader,
)
from benchmarks.proc import require_proc
from flax_resnet.data import DataConfig
from flax_resnet.data.config import INTERPOLATIONS

TARGET_RATIO = 0.9
TARGET_SPEED = 600
BARE = "decode and crop alone"
PACKAGES = ("opencv-python-headless", "pillow", "grain", "torch", "tensorflow-cpu", "tensorflow")
Makers = dict[str, Callable[[], Side]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in turns, write the JSON and print a table."""
    options = _parser().parse_args(arguments)
    require_proc()
    options.repeats = options.repeats or (1 if options.quick else 5)
    options.repeat_s = options.repeat_s or (0.05 if options.quick else 3.0)
    if options.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    cores = usable_cores()
    photos = folder_photos(options.photos) if options.photos else carried_photos(SIZES)
    config = DataConfig(
        source="folder:photos",
        batch_size=4 if options.quick else options.batch_size,
        image_size=options.image_size,
        interpolation=options.interpolation,
    )
    workers = options.workers or ([0, 1] if options.quick else [*range(cores + 1)])
    makers = rows(photos, config, cores, workers, peers=not options.quick)
    result = {
        "benchmark": "input_pipeline",
        "environment": record_environment(options.note),
        "libraries": {name: _version(name) for name in PACKAGES},
        "settings": {
            "cores": cores,
            "photos": len(photos.files),
            "mean_kilobytes": statistics.mean(map(len, photos.files)) / 1000,
            "image_size": config.image_size,
            "interpolation": config.interpolation,
            "batch_size": config.batch_size,
        },
        "targets": {"ratio": TARGET_RATIO, "images_per_core_second": TARGET_SPEED},
        "missing": [name for name in ("torch", "tensorflow") if not installed(name)],
        "rows": compare(makers, options.repeats, options.repeat_s, cores),
    }
    folder = options.output or (QUICK_RESULTS if options.quick else RESULTS)
    kind = f"{'quick ' if options.quick else ''}input pipeline {config.interpolation}"
    path = result_path(folder, kind, f"{cores} cores")
    write_json(path, result)
    print(f"{summary(result)}\n\nwritten to {shown(path)}")
    return 0


def rows(
    photos: Photos, config: DataConfig, cores: int, workers: Sequence[int], peers: bool
) -> Makers:
    """Return by name a function that opens each side."""

    def whole(count: int) -> Callable[[], Side]:
        changed = dataclasses.replace(config, workers=count)
        return lambda: loader(photos, changed, cores)

    def name(count: int) -> str:
        return f"{count} worker{'s' * (count > 1)}" if count else "threads"

    found: Makers = {BARE: lambda: Alone(prepare_ours, photos, config, cores)}
    found |= {f"whole loader, {name(count)}": whole(count) for count in workers}
    found["Pillow alone"] = lambda: Alone(pillow_side.prepare, photos, config, cores)
    if peers and installed("torch"):
        found[f"torch's loader, {name(cores)}"] = lambda: torch_loader(photos, config, cores)
    if peers and installed("tensorflow"):
        found["tf.data, threads"] = lambda: tf_loader(photos, config, cores)
    return found


def compare(makers: Makers, repeats: int, repeat_s: float, cores: int) -> dict[str, Any]:
    """Open every side, measure them in turns, and return the numbers of each."""
    sides = {name: make() for name, make in makers.items()}
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    try:
        for _ in range(repeats):
            for name, side in sides.items():
                turns[name].append(_turn(side, repeat_s, cores))
                _wait_until_idle(side)
    finally:
        for side in sides.values():
            side.close()
    bare = turns[BARE]
    return {
        name: {
            **{key: summarize([turn[key] for turn in its]) for key in its[0]},
            "ratio": _ratio(its, bare, "images_per_second"),
            "cpu_ratio": _ratio(its, bare, "images_per_core_second"),
        }
        for name, its in turns.items()
    }


def _ratio(turns: list[dict[str, float]], bare: list[dict[str, float]], key: str) -> dict[str, Any]:
    return summarize([mine[key] / other[key] for mine, other in zip(turns, bare, strict=True)])


def _turn(side: Side, seconds: float, cores: int) -> dict[str, float]:
    side.settle()
    parent, workers, began = time.process_time(), side.worker_seconds(), time.perf_counter()
    count = side.take(seconds)
    taken = time.perf_counter() - began
    parent, workers = time.process_time() - parent, side.worker_seconds() - workers
    return {
        "images_per_second": count / taken,
        # Per CPU time of all processes, which other load on the machine hardly affects.
        "images_per_core_second": count / max(parent + workers, 1e-3),
        "parent_microseconds_per_image": 1e6 * parent / count,
        "cores_used": (parent + workers) / taken / cores,
    }


def _wait_until_idle(side: Side) -> None:
    """Wait until a side has refilled its buffers, so that the next one has all cores."""
    for _ in range(100):
        before = time.process_time() + side.worker_seconds()
        time.sleep(0.1)
        if time.process_time() + side.worker_seconds() - before < 0.02:
            return


def summary(result: dict[str, Any]) -> str:
    """Return a result as text."""
    columns = {
        "images_per_second": ",.0f",
        "images_per_core_second": ",.0f",
        "ratio": ".2f",
        "cpu_ratio": ".2f",
        "parent_microseconds_per_image": ".0f",
    }
    lines = [
        (name, *(format(row[key]["median"], layout) for key, layout in columns.items()))
        for name, row in result["rows"].items()
    ]
    settings = result["settings"]
    header = ("", "images/s", "images/s/core", "ratio", "by CPU time", "parent's us per image")
    said = [
        f"{settings['photos']} photos of {settings['mean_kilobytes']:.0f} KB on average to "
        f"{settings['image_size']} px, {settings['interpolation']}, batches of "
        f"{settings['batch_size']}, on {settings['cores']} cores",
        "",
        table(header, lines),
        "",
        f"ratios are to '{BARE}'; targets: {TARGET_RATIO} for the whole loader, {TARGET_SPEED} "
        "images/s/core alone",
    ]
    said += [f"{name} is not installed: its loader was left out" for name in result["missing"]]
    return "\n".join(said)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.input_pipeline", description=__doc__
    )
    parser.add_argument(
        "--photos", type=Path, help="a folder of JPEG files; default: scikit-learn's"
    )
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--interpolation", default="area", choices=INTERPOLATIONS)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--cores", type=int, help="number of cores to use; default: all")
    parser.add_argument("--workers", type=int, nargs="+", help="default: 0 to the number of cores")
    parser.add_argument("--repeats", type=int, help="turns; default: 5, quick 1")
    parser.add_argument("--repeat-s", type=float, help="seconds a turn; default: 3, quick 0.05")
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
