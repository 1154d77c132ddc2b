"""scikit-learn's 1,797 handwritten digits as a TFDS data set."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from flax_resnet.data.config import DataConfig
from flax_resnet.data.sources.tfds import TfdsSource, open_builder
from flax_resnet.errors import InputError

# Stratified: one fifth of each class, 360 images in total.
_TEST_FRACTION = 0.2
_SPLIT_SEED = 0


class FlaxResnetDigits(tfds.core.GeneratorBasedBuilder):
    """Prepare the digits without TensorFlow: OpenCV encodes the PNGs."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012, TFDS reads it from the class.

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of 43 people, 8 x 8 pixels in 17 greys.",
            homepage="https://archive.ics.uci.edu/dataset/80",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Any]]]:
        del dl_manager  # The images come with scikit-learn.
        # Imported here because other data sets do not need scikit-learn.
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits().images, load_digits().target
        train, test = train_test_split(
            np.arange(len(labels)),
            test_size=_TEST_FRACTION,
            random_state=_SPLIT_SEED,
            stratify=labels,
        )
        return {
            "train": self._generate_examples(images, labels, train),
            "test": self._generate_examples(images, labels, test),
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, chosen: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in chosen.tolist():
            grey = np.round(images[index] * (255 / 16)).astype(np.uint8)
            png = cv2.imencode(".png", grey)[1].tobytes()
            yield index, {"image": png, "label": int(labels[index])}


def open_digits(config: DataConfig, rest: str, split: str) -> TfdsSource:
    """Return a split of the digits, train (1,437) or test (360), prepared on first use."""
    if rest:
        raise InputError(
            f"config.data.source is {config.source!r}; expected 'digits' alone. Splits and slices "
            "go into config.data.train_split and config.data.eval_split."
        )
    return open_builder(FlaxResnetDigits(data_dir=config.data_dir), config.source, split)
