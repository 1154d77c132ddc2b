"""The recipe `digits`, which also records the batches that its process trains on.

`tests.endurance.processes` passes this file to `train.py` as a config, so that the unchanged
`train.py` is what it observes. Each process records what it reads, sends to its devices and writes.
"""

import atexit
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from benchmarks.measuring import write_json
from benchmarks.training_run import METRICS
from configs import digits
from flax_resnet.data.batches import loading
from flax_resnet.data.positions import Place
from flax_resnet.training.cluster import agreement

Record = dict[str, Any]
# The epoch, the number of a record, and the digest of the resulting row.
Row = tuple[int, int, str]


def record_to(path: Path) -> None:
    """Record from now on, and write the records as JSON when the process ends.

    `reads` are `[position in the stream, epoch, record]` in the loader's order; `rows` are digests
    of the pixels and label of every row in the order of the updates; `writes` is how often a file
    of metrics was opened for writing.
    """
    notes: dict[str, list[Any]] = {"reads": [], "rows": [], "writes": []}
    locate, put_batch = loading.locate, agreement.put_batch

    def locate_and_note(position: int, seed: int, length: int, repeats: int) -> Place:
        place = locate(position, seed, length, repeats)
        notes["reads"].append((position, place.epoch, place.example))
        return place

    def put_and_note(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
        if "mask" not in batch:  # batches of an evaluation have one
            notes["rows"].extend(_digests(batch))
        return put_batch(batch, mesh)

    def note_opening(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            name = Path(str(arguments[0])).name
            notes["writes"] += [name] if METRICS in name else []

    mock.patch.object(loading, "locate", locate_and_note).start()
    mock.patch.object(agreement, "put_batch", put_and_note).start()
    sys.addaudithook(note_opening)
    atexit.register(lambda: write_json(path, {**notes, "writes": len(notes["writes"])}))


def read_records(folder: Path) -> dict[int, list[Record]]:
    """Return the records in files `LIFE-PROCESS.json`, by process."""
    found: dict[int, list[Record]] = {}
    for path in sorted(folder.glob("*.json")):
        process = int(path.stem.rpartition("-")[2])
        found.setdefault(process, []).append(json.loads(path.read_text()))
    return dict(sorted(found.items()))


def merge(records: Sequence[Record]) -> tuple[dict[int, Row], list[str]]:
    """Return the example at each position of the stream, and the faults.

    Args:
      records: those of all processes and lives of a run.
    """
    stream, faults = dict[int, Row](), []
    for record in records:
        reads, rows = sorted(record["reads"]), record["rows"]
        if len(reads) != len(rows):
            faults.append(f"a process read {len(reads)} records and trained on {len(rows)}")
        # A process prepares consecutive rows of consecutive batches.
        for (position, epoch, index), digest in zip(reads, rows, strict=False):
            if position in stream:
                faults.append(f"position {position} was read more than once")
            stream[position] = (epoch, index, digest)
    return stream, faults


def compare_streams(expected: dict[int, Row], found: dict[int, Row]) -> list[str]:
    """Return where a stream of examples has gaps, goes too far or has other examples."""
    missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
    differing = [at for at in expected.keys() & found.keys() if expected[at] != found[at]]
    return [
        f"{len(positions)} positions {what}, the first is {min(positions)}"
        for what, positions in (
            ("were not read", missing),
            ("are beyond the end of the run", extra),
            ("have another example", differing),
        )
        if positions
    ]


def _digests(batch: dict[str, np.ndarray]) -> Iterator[str]:
    for image, label in zip(batch["image"], batch["label"], strict=True):
        yield hashlib.blake2b(image.tobytes() + label.tobytes(), digest_size=8).hexdigest()


RECORD = "FLAX_RESNET_BATCH_RECORD"


def get_config() -> ConfigDict:
    """Return the settings; start recording if the environment names a file."""
    if RECORD in os.environ:
        record_to(Path(os.environ[RECORD]))
    return digits.get_config()
