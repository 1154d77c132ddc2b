"""Logging to TensorBoard and to Weights & Biases."""

import logging
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8
from tensorboardX import SummaryWriter

from flax_resnet.errors import InputError, install_extra
from flax_resnet.files import replace_text

Row = dict[str, Any]
Images = UInt8[np.ndarray, "n h w c"]
_IMAGES = "train/images"


class Writer(Protocol):
    """A destination for the logs of a run."""

    def write(self, row: Row) -> None:
        """Take a row: `kind`, `step`, and names with numbers."""

    def images(self, step: int, images: Images) -> None:
        """Take images as the network saw them at a step."""

    def histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Take named arrays, whose distributions are shown."""

    def close(self) -> None:
        """Finish writing."""


class TensorBoard:
    """Write numbers as scalars called `kind/name`; later ones replace those past `start`."""

    def __init__(self, folder: Path, start: int) -> None:
        # It warns about values that are not finite, which the run reports itself.
        logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)
        self._writer = SummaryWriter(str(folder), purge_step=start + 1)

    def write(self, row: Row) -> None:
        """Write every number of a row."""
        for name, value in _numbers(row).items():
            self._writer.add_scalar(name, value, row["step"])

    def images(self, step: int, images: Images) -> None:
        """Write all images as one grid."""
        self._writer.add_images(_IMAGES, images, step, dataformats="NHWC")

    def histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a histogram of every array that is finite."""
        for name, values in _finite(arrays).items():
            self._writer.add_histogram(name, values, step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class WeightsAndBiases:
    """Send numbers, images and histograms to a project, as one run across restarts.

    A run that resumes from a checkpoint may repeat steps that it has already logged. W&B drops
    these; as they are the same, nothing is lost.
    """

    def __init__(self, project: str, workdir: Path, config: Mapping[str, Any]) -> None:
        """Start or resume the run whose id is stored in the folder.

        Raises:
          InputError: wandb is not installed, or will not start.
        """
        try:
            import wandb
        except ModuleNotFoundError:
            raise InputError(
                f"config.logging.wandb needs wandb: {install_extra('wandb')}"
            ) from None
        self._wandb = wandb
        try:
            self._run = wandb.init(
                project=project,
                dir=workdir,
                id=_lasting_name(workdir / "wandb_id.txt"),
                name=workdir.name,
                resume="allow",
                config=dict(config),
                settings=wandb.Settings(silent=True, console="off"),
            )
        except wandb.errors.Error as error:
            raise InputError(
                f"Weights & Biases cannot be started: {error}. Run `wandb login`, or set "
                "WANDB_MODE=offline to write only to the run's folder"
            ) from None
        self._last = 0

    def write(self, row: Row) -> None:
        """Send every number of a row."""
        self._log(row["step"], _numbers(row))

    def images(self, step: int, images: Images) -> None:
        """Send images one by one."""
        self._log(step, {_IMAGES: [self._wandb.Image(image.squeeze()) for image in images]})

    def histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Send a histogram of every array that is finite."""
        found = _finite(arrays).items()
        self._log(step, {name: self._wandb.Histogram(values.tolist()) for name, values in found})

    def close(self) -> None:
        """Finish sending."""
        self._run.finish()

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        # The test comes last but belongs to the best checkpoint, an earlier step; W&B accepts only
        # increasing steps.
        self._last = max(self._last, step)
        self._run.log(dict(values), step=self._last)


def _numbers(row: Row) -> dict[str, float]:
    return {f"{row['kind']}/{name}": value for name, value in row.items() if type(value) is float}


def _finite(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays that have a histogram, as float32."""
    several = {name: np.asarray(values, np.float32).ravel() for name, values in arrays.items()}
    return {name: values for name, values in several.items() if np.isfinite(values).all()}


def _lasting_name(file: Path) -> str:
    if not file.is_file():
        replace_text(file, uuid.uuid4().hex)
    return file.read_text().strip()
