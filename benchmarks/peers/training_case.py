"""One training that several frameworks repeat: its files, and what each of them records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case


@dataclass(frozen=True)
class TrainingCase(Case):
    """The training in a folder, in one framework and one dtype; only numpy is needed to read it.

    The folder has `initial.npz` (weights under torch's keys), `images.npy` (steps, n, h, w, c) and
    `labels.npy` (steps, n), `rates.npy` (the learning rate of each step), `test_images.npy` and
    `test_labels.npy`, and `config.json`.
    """

    folder: str = "."
    record: str = "record"
    """The name of the file that gets what this training records."""
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    decay_norms: bool = True
    label_smoothing: float = 0.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    kept_steps: tuple[int, ...] = ()
    """Steps whose gradient, loss in full precision, and weights before the update are recorded."""
    tests: bool = False
    """Classify the test images when training ends."""

    def read(self, name: str) -> np.ndarray:
        """Return an array of the folder, without reading all of it into memory."""
        array: np.ndarray = np.load(Path(self.folder) / f"{name}.npy", mmap_mode="r")
        return array

    def initial(self) -> dict[str, np.ndarray]:
        """Return the initial weights and statistics by torch's keys."""
        with np.load(Path(self.folder) / "initial.npz") as arrays:
            return dict(arrays)


class Record:
    """The record of a training: losses, kept gradients and weights, and predictions."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._arrays: dict[str, np.ndarray] = {}

    def add(self, loss: Any) -> None:
        """Append the loss of a step."""
        self._losses.append(float(loss))

    def keep(self, step: int, kind: str, values: Mapping[str, np.ndarray]) -> None:
        """Store arrays, which have torch's keys, of a step as one vector."""
        self._arrays[f"{kind}/{step}"] = as_vector(values)

    def write(self, case: TrainingCase, predicted: Sequence[Any] = ()) -> None:
        """Write the record into the folder of the case."""
        self._arrays["loss"] = np.asarray(self._losses, np.float64)
        if predicted:
            self._arrays["predicted"] = np.concatenate([np.asarray(part) for part in predicted])
        np.savez(Path(case.folder) / f"{case.record}.npz", **self._arrays)  # type: ignore[arg-type]


def read_record(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a record: loss; gradient/, weights/ and loss/STEP; predicted."""
    with np.load(folder / f"{name}.npz") as arrays:
        return dict(arrays)


def as_vector(values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return all floating-point arrays in float64 as one vector, in the order of their keys."""
    parts = (np.asarray(values[key]) for key in sorted(values))
    return np.concatenate(
        [part.astype(np.float64).ravel() for part in parts if part.dtype.kind == "f"]
    )
