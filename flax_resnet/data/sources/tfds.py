"""TFDS data sets, read from ArrayRecord without TensorFlow."""

import contextlib
import functools
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError
from tensorflow_datasets.core import units
from tensorflow_datasets.proto import tf_example_pb2

from flax_resnet.data.config import DataConfig
from flax_resnet.data.sources.labels import read_labels
from flax_resnet.data.sources.source import Example, resolve_split, split_size
from flax_resnet.errors import InputError, expected_names, install_extra, require_local

# Data sets up to this size are read into memory: reading a record of MNIST then takes 8
# microseconds instead of 170.
_IN_MEMORY_BYTES = 2**28


@dataclass(frozen=True)
class TfdsSource:
    """Serialized examples, from which the image and the label are read."""

    name: str
    records: Sequence[bytes] = field(repr=False)
    """tf.train.Example messages: a list, or an open ArrayRecord data source."""
    image_key: str
    label_key: str
    class_names: tuple[str, ...]
    several_labels: bool = False

    @property
    def named(self) -> bool:
        """Return whether the data set names its classes; TFDS numbers them where it does not."""
        return self.class_names != tuple(map(str, range(len(self.class_names))))

    @property
    def num_classes(self) -> int:
        """Return the number of classes of the label feature."""
        return len(self.class_names)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Return the label of each record; all are read, once."""
        return read_labels(self)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        """Return the encoded image and the label, or the labels, of a record."""
        # TFDS's own parser takes four times as long.
        try:
            feature = tf_example_pb2.Example.FromString(self.records[index]).features.feature
            image = feature[self.image_key].bytes_list.value[0]
            labels = feature[self.label_key].int64_list.value
            return {"image": image, "label": tuple(labels) if self.several_labels else labels[0]}
        except (RuntimeError, DecodeError, IndexError) as error:  # Damaged or missing files.
            raise OSError(str(error)) from error

    def describe(self, index: int) -> str:
        """Return the name of the record and its data set."""
        return f"{self.place(index)} of {self.name}"

    def place(self, index: int) -> str:
        """Return the number of the record."""
        return f"record {index}"


def open_tfds(config: DataConfig, rest: str, split: str) -> TfdsSource:
    """Open a split of `tfds:NAME[/config][:version]`, preparing the data set when need be."""
    return open_builder(find_builder(rest, config.data_dir), config.source, split)


def find_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """Return TFDS's builder for NAME[/config][:version]."""
    if not name:
        raise InputError("config.data.source is 'tfds:'; expected a name, such as tfds:mnist.")
    require_local(data_dir or os.environ.get("TFDS_DATA_DIR", ""))
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        near = expected_names(name.partition("/")[0].partition(":")[0], known)
        raise InputError(f"TFDS has no data set {name!r}: {near}") from None
    except ImportError as error:
        raise missing_package(f"tfds:{name}", error) from error
    except (ValueError, AssertionError) as error:  # An unknown config or version.
        raise InputError(f"TFDS cannot open {name!r}: {error}") from error


def open_builder(builder: tfds.core.DatasetBuilder, source: str, split: str) -> TfdsSource:
    """Return a split of a builder's data set, preparing it if necessary."""
    image_key, label_key = _keys(builder.info, source)
    prepare(builder, source)
    sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
    name = f"{source} {split}"
    if split_size(resolve_split(source, split, sizes)) == 0:
        raise InputError(f"{name} has no examples; expected at least one. Widen the slice.")
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    records = builder.as_data_source(split, deserialize_method=raw).data_source
    if sum(info.num_bytes for info in builder.info.splits.values()) <= _IN_MEMORY_BYTES:
        records = _in_memory(records, name)
    label = builder.info.features[label_key]
    several = not isinstance(label, tfds.features.ClassLabel)
    names = tuple((label.feature if several else label).names)
    return TfdsSource(name, records, image_key, label_key, names, several)


def _in_memory(records: Any, name: str) -> list[bytes]:
    try:
        return records.__getitems__(range(len(records)))
    except RuntimeError as error:  # The exception of array_record.
        raise InputError(
            f"The files of {name} are damaged or missing: {error}. Delete its folder and prepare "
            "it again: python -m flax_resnet prepare"
        ) from error


def _keys(info: tfds.core.DatasetInfo, source: str) -> tuple[str, str]:
    """Return the names of the image and the label feature."""
    features = info.features
    images = [key for key, feature in features.items() if _is_image(feature)]
    labels = [key for key, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    lists = [key for key, feature in features.items() if _is_list_of_labels(feature)]
    # Some data sets, such as cifar100, have two labels: the supervised pair selects one.
    pair = info.supervised_keys or ()
    image_keys = [key for key in images if key in pair] or images
    label_keys = [key for key in (*labels, *lists) if key in pair] or labels or lists
    if len(image_keys) != 1 or len(label_keys) != 1:
        raise InputError(
            f"{source} has the features {', '.join(features)}; expected one 8-bit Image and one "
            "ClassLabel. Choose a data set for image classification."
        )
    return image_keys[0], label_keys[0]


def _is_image(feature: tfds.features.FeatureConnector) -> bool:
    return isinstance(feature, tfds.features.Image) and feature.np_dtype == np.uint8


def _is_list_of_labels(feature: tfds.features.FeatureConnector) -> bool:
    inner = feature.feature if isinstance(feature, tfds.features.Sequence) else None
    return isinstance(inner, tfds.features.ClassLabel)


def prepare(builder: tfds.core.DatasetBuilder, source: str) -> None:
    """Download and prepare a data set unless it already exists as ArrayRecord."""
    if builder.data_path.exists() and builder.is_prepared():
        _check_format(builder, source)
        return
    if builder.name == "imagenet2012":
        raise InputError(
            f"{source} is not in {builder.data_dir}. Its archives need a registration at "
            "https://image-net.org; then pack them: python -m flax_resnet prepare imagenet "
            "--train ILSVRC2012_img_train.tar --val ILSVRC2012_img_val.tar "
            f"--data-dir {builder.data_dir_root}"
        )
    try:
        if builder.url_infos:
            print(f"Preparing {source}: {_download(builder)}", file=sys.stderr)
            builder.download_and_prepare(file_format="array_record")
        else:
            _prepare_quietly(builder)
    except ImportError as error:
        raise missing_package(source, error) from error
    except (OSError, tfds.download.DownloadError) as error:
        # Another process of the same run may have prepared it at the same time.
        if not (builder.data_path.exists() and builder.is_prepared()):
            raise InputError(
                f"{source} could not be prepared in {builder.data_dir}: {error}. Check the "
                "network and the disk, or set config.data.data_dir to where it is prepared."
            ) from error


def missing_package(source: str, error: ImportError) -> InputError:
    """Return the error for a TFDS builder that needs a package that is not installed."""
    return InputError(
        f"TFDS's builder of {source} needs a package that is missing ({error}). Install it "
        f"({install_extra('prepare')}), then run this again; finished downloads are kept."
    )


def _download(builder: tfds.core.DatasetBuilder) -> str:
    """Return a description of the download: size, sources and destination."""
    files = sorted(builder.url_infos)
    # A builder with several configs lists the files of all of them.
    listed = sum(info.size for info in builder.url_infos.values())
    size = units.Size(builder.info.download_size or listed)
    more = ", ..." if len(files) > 3 else ""
    return f"download of up to {size} ({', '.join(files[:3])}{more}) to {builder.data_dir}"


def _prepare_quietly(builder: tfds.core.DatasetBuilder) -> None:
    """Prepare data that need no download, such as the digits, without TFDS's progress bars."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(file_format="array_record")
    finally:
        tfds.enable_progress_bar()


def _check_format(builder: tfds.core.DatasetBuilder, source: str) -> None:
    formats = {str(found.value) for found in builder.info.available_file_formats()}
    if "array_record" not in formats:
        raise InputError(
            f"{source} is in {builder.data_dir} as {', '.join(sorted(formats))}; expected "
            f"array_record. Convert it: {install_extra('prepare')}; then "
            f"tfds convert_format --dataset_version_dir={builder.data_dir} "
            "--out_file_format=array_record"
        )
