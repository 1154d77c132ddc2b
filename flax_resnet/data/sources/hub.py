"""Data sets of the Hugging Face hub: `hf:OWNER/NAME[/config][@revision][:label]`.

A split is downloaded as parquet files and packed once; from then on neither a network nor pyarrow
is needed. The commit that was read is part of a run's settings, so that a run resumes on the same
data even if the repository changes.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import filelock
import numpy as np

from flax_resnet.data.config import DataConfig
from flax_resnet.data.sources.classes import check_distinct
from flax_resnet.data.sources.folder import canonical_split, shuffled
from flax_resnet.data.sources.hub_files import HubFiles, HubName, find_files, parse_name
from flax_resnet.data.sources.packed import IMAGES, INFO, Packed, PackedSource, pack, read_packed
from flax_resnet.data.sources.source import check_split, resolve_split, split_size
from flax_resnet.errors import InputError, shortened
from flax_resnet.files import replace_text, writable
from flax_resnet.hub import explained


def open_hub(config: DataConfig, rest: str, split: str) -> PackedSource:
    """Return a split of `hf:OWNER/NAME[/config]...`, downloading it when need be.

    Slices of splits refer to a fixed shuffled order, since files are often sorted by class.
    """
    name, spec = parse_name(rest), canonical_split(split)
    home = _home(config) / name.repository.replace("/", "--")
    files = _files(dataclasses.replace(name, label=None), home)
    files = dataclasses.replace(files, name=dataclasses.replace(files.name, label=name.label))
    check_split(config.source, spec, files.splits)
    wanted = [known for known in files.splits if known in spec] or list(files.splits)
    packed = {known: _packed(files, known, home) for known in wanted}
    sizes = {known: len(packed[known].ends) if known in packed else 0 for known in files.splits}
    parts = resolve_split(config.source, spec, sizes)
    if split_size(parts) == 0:
        raise InputError(f"{config.source} {split} has no images; expected one. Widen the slice.")
    names, named = _classes(files, packed, home, config.source)
    chosen = [(packed[known], shuffled(sizes[known], positions)) for known, positions in parts]
    return PackedSource(
        name=f"{config.source} {split}",
        images=tuple(part.folder / IMAGES for part, _ in chosen),
        parts=np.repeat(np.arange(len(chosen)), [len(at) for _, at in chosen]),
        positions=np.concatenate([at for _, at in chosen]),
        starts=np.concatenate([part.starts[at] for part, at in chosen]),
        sizes=np.concatenate([part.sizes[at] for part, at in chosen]),
        labels=np.concatenate([_numbers(part, names, config.source)[at] for part, at in chosen]),
        class_names=names,
        named=named,
        pinned=str(files.name),
    )


def _home(config: DataConfig) -> Path:
    if config.data_dir is not None:
        return Path(config.data_dir).expanduser()
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "flax_resnet"


def _files(name: HubName, home: Path) -> HubFiles:
    """Return the files of a data set; those of a known commit, and without a network, from disk."""
    path = home / _listing(name)
    if name.is_commit and path.exists():
        return _read_listing(path)
    try:
        files = find_files(name)
    except InputError as error:
        if path.exists() and not _answered(error):
            return _read_listing(path)
        raise
    with writable(home, "Set config.data.data_dir to another folder"):
        home.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dataclasses.asdict(files), indent=1)
        for each in (name, files.name):
            replace_text(home / _listing(each), text)
    return files


def _answered(error: InputError) -> bool:
    """Return whether the hub was reached, or the files cannot be used."""
    from huggingface_hub.errors import HfHubHTTPError

    return error.__cause__ is None or isinstance(error.__cause__, HfHubHTTPError)


def _listing(name: HubName) -> str:
    revision = (name.revision or "main").replace("/", "-")
    return f"{revision}{'.' + name.config if name.config else ''}.json"


def _read_listing(path: Path) -> HubFiles:
    values = json.loads(path.read_text())
    splits = {split: tuple(names) for split, names in values["splits"].items()}
    return HubFiles(HubName(**values["name"]), splits, values["features"])


def _packed(files: HubFiles, split: str, home: Path) -> Packed:
    """Return a split, which is downloaded and packed unless it is there."""
    name = files.name
    part = split + (f".{name.label}" if name.label else "")
    folder = home / str(name.revision) / str(name.config) / part.replace("/", "-")
    source = f"hf:{name.repository} {split}"
    if not (folder / INFO).exists():
        with writable(folder, "Make room, or set config.data.data_dir to another folder"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            # The other processes of a run wait for the first.
            with filelock.FileLock(home / "lock"):
                if not (folder / INFO).exists():
                    count = len(files.splits[split])
                    print(
                        f"Preparing {source} ({count} parquet files) in {folder}", file=sys.stderr
                    )
                    paths = (_download(name, file) for file in files.splits[split])
                    pack(paths, folder, source=source, features=files.features, label=name.label)
    return read_packed(folder)


def _download(name: HubName, file: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        with explained(name.repository, file, name.revision, "datasets/"):
            path = hf_hub_download(
                name.repository,
                file,
                repo_type="dataset",
                revision=name.revision,
                library_name="flax_resnet",
            )
    except EntryNotFoundError as error:
        raise InputError(
            f"{file} of hf:{name.repository} is neither in the cache nor on the hub, or the hub "
            f"cannot be reached ({error}): connect to a network and try again"
        ) from error
    return Path(path)


def _classes(
    files: HubFiles, packed: Mapping[str, Packed], home: Path, source: str
) -> tuple[tuple[str, ...], bool]:
    """Return the names of the classes, and whether the data set names them.

    Without names in its features, the classes are the labels of the train split.
    """
    first = next(iter(packed.values()))
    if first.names is not None:
        return first.names, first.names != tuple(map(str, range(len(first.names))))
    base = first
    if "train" in files.splits:
        base = packed.get("train") or _packed(files, "train", home)
    if base.labels.dtype.kind in "iu":
        return tuple(map(str, range(int(base.labels.max(initial=-1)) + 1))), False
    names = tuple(sorted(set(base.labels.tolist())))
    check_distinct(names, source)
    return names, True


def _numbers(part: Packed, names: tuple[str, ...], source: str) -> np.ndarray:
    """Return the labels of a split as numbers of classes."""
    if part.labels.dtype.kind in "iu":
        return part.labels
    numbers = {name: number for number, name in enumerate(names)}
    extra = sorted(set(part.labels.tolist()) - set(names))
    if extra:
        raise InputError(
            f"{source} has the class {extra[0]!r} outside of its train split, which has "
            f"{shortened(names)}; expected every class there"
        )
    return np.array([numbers[label] for label in part.labels.tolist()])
