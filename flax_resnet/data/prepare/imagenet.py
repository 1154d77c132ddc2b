"""Pack the official ImageNet archives for `tfds.builder("imagenet2012")`.

The result equals that of TFDS's own builder, which needs TensorFlow: ArrayRecord shards of
serialized tf.train.Example messages, features.json and dataset_info.json.
"""

import json
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from flax_resnet.data.batches.processes import worker_context
from flax_resnet.data.batches.workers import start_worker
from flax_resnet.data.images.decode import DecodeError, decode_image, is_rgb_or_grey_jpeg
from flax_resnet.data.images.transforms import resize
from flax_resnet.data.positions import permutation
from flax_resnet.data.prepare.archives import Member, train_members, validation_members
from flax_resnet.errors import InputError, require_local

# (task, amount done, total amount), for a progress bar.
Report = Callable[[str, int, int], None]
_SHUFFLE_SEED = 0
# For images that are resized or that are not RGB or gray JPEGs.
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class _Shard:
    """The contents of one file, for the worker process that writes it."""

    path: Path
    archive: Path
    members: list[Member]
    resize_to: int | None


def pack_imagenet(
    train: Path | None,
    validation: Path | None,
    data_dir: str | None,
    *,
    resize_to: int | None = None,
    workers: int = 1,
    report: Report = lambda what, done, total: None,
) -> Path:
    """Pack the given archives and return the data set's folder.

    Complete shards of an earlier run with the same archives and options are kept.

    Args:
      resize_to: the short side, in pixels, to which larger images are resized.
      workers: the number of processes; 1: this process.
    """
    for path in (train, validation, data_dir):
        require_local(path or "")
    builder = tfds.builder("imagenet2012", data_dir=data_dir)
    folder = Path(builder.data_dir)
    archives = {"train": train, "validation": validation}
    if not any(archives.values()):
        raise InputError("No archive is given; expected --train, --val or both.")
    splits = {info.name: info for info in builder.info.splits.values()}
    for split, archive in archives.items():
        if archive is not None:
            _check_unclaimed(split, split in splits, folder)
            shards = _plan(split, archive, folder, resize_to, report)
            sizes = _write_all(split, shards, workers, report)
            lengths = [len(shard.members) for shard in shards]
            splits[split] = tfds.core.SplitInfo(
                name=split,
                shard_lengths=lengths,
                num_bytes=sum(sizes),
                filename_template=_template(folder, split),
            )
    builder.info.set_file_format("array_record", override=True, override_if_initialized=True)
    builder.info.set_splits(tfds.core.splits.SplitDict(splits.values()))
    builder.info.write_to_directory(folder)
    return folder


def _plan(
    split: str, archive: Path, folder: Path, resize_to: int | None, report: Report
) -> list[_Shard]:
    """Return the shards with their images."""
    if not archive.is_file():
        raise InputError(f"{archive} is not a file; expected the archive of the {split} images.")
    total = archive.stat().st_size
    list_members = train_members if split == "train" else validation_members
    members = list_members(archive, lambda done: report(f"reading {archive.name}", done, total))
    if split == "train":  # The archive is sorted by class.
        members = [members[i] for i in permutation(_SHUFFLE_SEED, 0, len(members))]
    report(f"reading {archive.name}", total, total)
    size = sum(member.size for member in members)
    count = tfds.core.utils.shard_utils.ShardConfig.calculate_number_shards(size, len(members))
    _check_same_plan(_plan_file(folder, split), members, resize_to)
    ends = [round(len(members) * shard / count) for shard in range(count + 1)]
    template = _template(folder, split)
    return [
        _Shard(
            path=Path(template.sharded_filepath(shard_index=shard, num_shards=count)),
            archive=archive,
            members=members[ends[shard] : ends[shard + 1]],
            resize_to=resize_to,
        )
        for shard in range(count)
    ]


def _template(folder: Path, split: str) -> tfds.core.ShardedFileTemplate:
    return tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name="imagenet2012", split=split, filetype_suffix="array_record"
    )


def _plan_file(folder: Path, split: str) -> Path:
    return folder / f"pack-{split}.json"


def _check_unclaimed(split: str, prepared: bool, folder: Path) -> None:
    """Raise `InputError` if another program, such as TFDS, has prepared the split."""
    if prepared and not _plan_file(folder, split).exists():
        raise InputError(
            f"{folder} already has a {split} split, which was not packed by this command. Use it "
            "as it is, or choose another --data-dir."
        )


def _check_same_plan(path: Path, members: list[Member], resize_to: int | None) -> None:
    """Raise `InputError` if an earlier run had other images: mixed shards repeat and lose some."""
    listing = "\n".join(f"{member.name} {member.size}" for member in members)
    plan = {"images": len(members), "crc32": zlib.crc32(listing.encode()), "resize": resize_to}
    text = json.dumps(plan)
    if path.exists() and (begun := path.read_text(errors="replace")) != text:
        raise InputError(
            f"{path.parent} was begun with other archives or options ({begun}; now {text}). Give "
            "the same ones to go on, or choose another --data-dir."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"incomplete.{path.name}")
    partial.write_text(text)
    partial.rename(path)


def _write_all(split: str, shards: list[_Shard], workers: int, report: Report) -> list[int]:
    """Write the missing shards; return the sizes of all in bytes."""
    what, total = f"packing {split}", sum(len(shard.members) for shard in shards)
    done = 0
    for shard in _written(shards, workers):
        done += len(shard.members)
        report(what, done, total)
    return [shard.path.stat().st_size for shard in shards]


def _written(shards: list[_Shard], workers: int) -> Iterator[_Shard]:
    """Yield every shard once it is complete."""
    missing = [shard for shard in shards if not shard.path.exists()]
    yield from (shard for shard in shards if shard.path.exists())
    if workers <= 1 or len(missing) <= 1:
        for shard in missing:
            write_shard(shard)
            yield shard
        return
    count = min(workers, len(missing))
    with ProcessPoolExecutor(count, worker_context(), start_worker, (0, count)) as pool:
        yield from _completed(pool, missing)


def _completed(pool: Executor, shards: list[_Shard]) -> Iterator[_Shard]:
    futures: dict[Future[None], _Shard] = {pool.submit(write_shard, s): s for s in shards}
    try:
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    finally:
        # After an error or Ctrl-C, only the current shards are finished.
        pool.shutdown(cancel_futures=True)


def write_shard(shard: _Shard) -> None:
    """Write one file under a temporary name, and rename it when it is complete."""
    cv2.setNumThreads(0)
    features = tfds.builder("imagenet2012", data_dir=shard.path.parents[2]).info.features
    partial = shard.path.with_name(f"incomplete.{shard.path.name}")
    # One record per group, for random access.
    writer = ArrayRecordWriter(str(partial), "group_size:1")
    try:
        with shard.archive.open("rb") as archive:
            for member in shard.members:
                archive.seek(member.offset)
                image = _encoded(archive.read(member.size), shard, member)
                example = {"image": image, "label": member.synset, "file_name": member.name}
                writer.write(features.serialize_example(example))
    finally:
        writer.close()
    partial.rename(shard.path)


def _encoded(data: bytes, shard: _Shard, member: Member) -> bytes:
    """Return an RGB or gray JPEG of the requested size.

    Like TFDS, convert the PNG and the 22 CMYK JPEGs of the training images to RGB JPEGs.
    """
    if shard.resize_to is None and is_rgb_or_grey_jpeg(data):
        return data
    try:
        image = decode_image(data, 3)
    except DecodeError as error:
        raise InputError(
            f"{member.name} in {shard.archive} cannot be decoded: {error}. The archive is "
            "damaged: compare its checksum and fetch it again."
        ) from error
    smaller = shrink(image, shard.resize_to)
    if smaller is image and is_rgb_or_grey_jpeg(data):
        return data
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return cv2.imencode(".jpg", smaller[..., ::-1], options)[1].tobytes()


def shrink(image: np.ndarray, short_side: int | None) -> np.ndarray:
    """Return uint8 (height, width, 3), resized if its short side is longer than `short_side`."""
    height, width = image.shape[:2]
    if short_side is None or min(height, width) <= short_side:
        return image
    scale = short_side / min(height, width)
    return resize(image, (round(height * scale), round(width * scale)))
