"""The loaders that the library's is compared with, where their packages are installed."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import pillow_side
from benchmarks.input_photos import Photos
from benchmarks.input_sides import Stream
from flax_resnet.data import DataConfig

READY = 4


def torch_loader(photos: Photos, config: DataConfig, workers: int) -> Stream:
    """Return torch's DataLoader around Pillow's random crop and flip, as torchvision has them.

    The images stay uint8, which spares it the conversion to float32 that people let it do.
    """
    import torch.utils.data

    def make() -> Any:
        return torch.utils.data.DataLoader(
            _Cropped(photos, config),
            batch_size=config.batch_size,
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
        )

    return Stream(make, len, ready=2 * workers)


class _Cropped:
    """A data set as torch's loader wants it."""

    def __init__(self, photos: Photos, config: DataConfig) -> None:
        self._photos, self._config = photos, config

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> Any:
        import torch

        encoded = self._photos.files[index % len(self._photos.files)]
        rng = np.random.default_rng(index)
        # Pillow's pixels cannot be written to, so torchvision copies them too.
        return torch.tensor(pillow_side.prepare(encoded, rng, self._config))


def tf_loader(photos: Photos, config: DataConfig, cores: int) -> Stream:
    """Return tf.data with decode_and_crop_jpeg, as the ImageNet example of Flax has it.

    Its pixels become float32 on the way, for so TensorFlow resizes; batches are uint8 here.
    """
    return Stream(lambda: _TfBatches(photos, config, cores), len, ready=READY)


class _TfBatches:
    def __init__(self, photos: Photos, config: DataConfig, cores: int) -> None:
        import tensorflow as tf

        options = tf.data.Options()
        options.threading.private_threadpool_size = cores
        files = tf.data.Dataset.from_tensor_slices(list(photos.files)).repeat()
        images = files.map(lambda file: _tf_crop(tf, file, config), num_parallel_calls=cores)
        batches = images.batch(config.batch_size, drop_remainder=True).prefetch(2)
        self._batches = batches.with_options(options).as_numpy_iterator()

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from self._batches

    def close(self) -> None:
        del self._batches


def _tf_crop(tf: Any, file: Any, config: DataConfig) -> Any:
    shape = tf.io.extract_jpeg_shape(file)
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.constant([0.0, 0.0, 1.0, 1.0], shape=[1, 1, 4]),
        min_object_covered=0.1,
        aspect_ratio_range=config.crop_ratio,
        area_range=config.crop_scale,
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.stack([begin[0], begin[1], size[0], size[1]])
    image = tf.io.decode_and_crop_jpeg(file, window, channels=3)
    side = (config.image_size, config.image_size)
    image = tf.image.resize(image, side, antialias=config.interpolation != "aliased")
    return tf.cast(tf.image.random_flip_left_right(image), tf.uint8)


def installed(package: str) -> bool:
    """Say whether a package can be imported."""
    return importlib.util.find_spec(package) is not None
