"""Classify very many images into numbered files, with several processes.

A file is written whole or not at all: after an interruption, the same call writes the missing ones.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from flax_resnet.data.batches.processes import worker_context
from flax_resnet.data.batches.workers import start_worker
from flax_resnet.errors import InputError
from flax_resnet.files import replace_text, writable
from flax_resnet.inference.predictor import Predictor, open_predictor
from flax_resnet.inference.stream import TOP, output_to_json, outputs, top_classes

MANIFEST = "shards.json"


@dataclass(frozen=True)
class Job:
    """How every image is classified: the arguments of `open_predictor`, and how many classes."""

    source: str
    step: str = "best"
    average: bool = True
    batch_size: int = 32
    top: int | None = TOP
    key: str | None = None
    train_size: bool = False
    threshold: str | None = None


class Shard(NamedTuple):
    """Some of the images, and the file for their classes."""

    path: Path
    files: list[str]


def write_shards(
    job: Job,
    files: list[str],
    folder: Path,
    size: int,
    processes: int = 1,
    on_shard: Callable[[int, int], object] = lambda done, total: None,
) -> int:
    """Write the classes of `files` to `folder/00000.jsonl` and so on, `size` to a file.

    Returns:
      How many images could not be read.

    Raises:
      InputError: the folder holds the classes of other images, or of another network.
    """
    if size < 1 or processes < 1:
        raise InputError(f"{size} images per file by {processes} processes; expected 1 or more")
    numbered = enumerate(_cut(files, size))
    shards = [Shard(folder / f"{number:05}.jsonl", part) for number, part in numbered]
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _claim(folder, job, files, size)
        missing = [shard for shard in shards if not shard.path.is_file()]
        for done, _ in enumerate(_written(job, missing, processes), len(shards) - len(missing) + 1):
            on_shard(done, len(shards))
    return sum(_unread(shard.path) for shard in shards)


def _cut(files: list[str], size: int) -> Iterator[list[str]]:
    remaining = iter(files)
    while part := list(itertools.islice(remaining, size)):
        yield part


def _claim(folder: Path, job: Job, files: list[str], size: int) -> None:
    """Record the job in the folder; refuse a folder of another job."""
    names = "\n".join(files).encode("utf-8", "surrogateescape")
    asked = asdict(job) | {"size": size, "pictures": len(files)}
    asked |= {"digest": hashlib.sha256(names).hexdigest()}
    # The batch size does not change the results; a job without a threshold is as it always was.
    del asked["batch_size"]
    if job.threshold is None:
        del asked["threshold"]
    manifest = folder / MANIFEST
    if not manifest.is_file():
        replace_text(manifest, json.dumps(asked, indent=1) + "\n")
        return
    try:
        found = json.loads(manifest.read_text())
    except json.JSONDecodeError:
        found = {}
    other = [key for key, value in asked.items() if found.get(key) != value]
    if other:
        raise InputError(
            f"{folder} is of another job ({', '.join(other)} differ): choose another folder, or "
            "remove this one"
        )


def _written(job: Job, shards: list[Shard], processes: int) -> Iterator[Path]:
    """Write the shards; yield the path of each once it is written."""
    if not shards:
        return
    if processes == 1:
        _open(job)
        yield from map(_write, shards)
        return
    workers = min(processes, len(shards))
    with ProcessPoolExecutor(workers, worker_context(), _start, (job, workers)) as pool:
        try:
            yield from pool.map(_write, shards)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


# Each process opens the network once for all its shards.
_OPENED: list[tuple[Job, Predictor]] = []


def _start(job: Job, count: int) -> None:
    start_worker(0, count)
    _open(job)


def _open(job: Job) -> None:
    predictor = open_predictor(
        job.source,
        job.step,
        job.average,
        job.batch_size,
        key=job.key,
        train_size=job.train_size,
        threshold=job.threshold,
    )
    _OPENED[:] = [(job, predictor)]


def _write(shard: Shard) -> Path:
    ((job, predictor),) = _OPENED
    names, least = predictor.class_names, predictor.threshold
    lines = [
        json.dumps(output_to_json(output, top_classes(output.values, names, job.top, least)))
        for output in outputs(predictor, shard.files, predictor.probabilities)
    ]
    replace_text(shard.path, "".join(f"{line}\n" for line in lines))
    return shard.path


def _unread(path: Path) -> int:
    with path.open() as file:
        return sum("error" in json.loads(line) for line in file)
