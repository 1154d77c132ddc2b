"""Prepare a TFDS data set as ArrayRecord, telling the user what happens and what is missing."""

from __future__ import annotations

import contextlib
import io
import sys

import tensorflow_datasets as tfds
from tensorflow_datasets.core import units

from flax_resnet.errors import InputError


def prepare(builder: tfds.core.DatasetBuilder, source: str) -> None:
    """Download and prepare a data set unless it lies in its folder as ArrayRecord already."""
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
                "network and the disk, or set config.data.data_dir to where it lies prepared."
            ) from error


def missing_package(source: str, error: ImportError) -> InputError:
    """Return the error for a builder of TFDS that needs what is not installed."""
    return InputError(
        f"TFDS's builder of {source} needs a package that is missing ({error}). Install it with: "
        'pip install "flax_resnet[prepare]", then run this again; what has been downloaded is kept.'
    )


def _download(builder: tfds.core.DatasetBuilder) -> str:
    """Say what will be downloaded, from where and where to."""
    files = sorted(builder.url_infos)
    # A builder of several configs lists the files of all of them.
    listed = sum(info.size for info in builder.url_infos.values())
    size = units.Size(builder.info.download_size or listed)
    more = ", ..." if len(files) > 3 else ""
    return f"download of up to {size} ({', '.join(files[:3])}{more}) to {builder.data_dir}"


def _prepare_quietly(builder: tfds.core.DatasetBuilder) -> None:
    """Prepare data that TFDS need not download, such as the digits, without its progress bars."""
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
            f"{source} lies in {builder.data_dir} as {', '.join(sorted(formats))}; expected "
            'array_record. Convert it with: pip install "flax_resnet[prepare]"; '
            f"tfds convert_format --dataset_version_dir={builder.data_dir} "
            "--out_file_format=array_record"
        )
