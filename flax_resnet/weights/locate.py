"""Find weights, and what is known of the model and the images that they are for."""

import os
import re
from pathlib import Path

from flax_resnet.errors import InputError, expected_names, require_local
from flax_resnet.weights.files import SUFFIXES, read_metadata
from flax_resnet.weights.hub import (
    CONFIG,
    TORCH_WEIGHTS,
    WEIGHTS,
    download_config,
    download_weights,
)
from flax_resnet.weights.hub_config import METADATA, Description, parse_config
from flax_resnet.weights.json_fields import read_fields
from flax_resnet.weights.published import OWNER, Published, find_published, list_pretrained


def locate(source: str | os.PathLike[str], revision: str | None = None) -> tuple[Path, Description]:
    """Return the path of a source's weights, downloaded if necessary, and their description.

    Arguments and errors are those of `load_pretrained`.
    """
    name, path = os.fspath(source), _local(source)
    if path.is_dir():
        return _weights_in(path), describe(source)
    if path.is_file():
        return path, describe(source)
    found = describe(source, revision)
    published = _published(name)
    return download_weights(published.repository if published else name, revision), found


def describe(source: str | os.PathLike[str], revision: str | None = None) -> Description:
    """Return the description of a source's weights, without reading or downloading them.

    Arguments and errors are those of `load_pretrained`.
    """
    source, path = os.fspath(source), _local(source)
    if path.is_dir():
        config = path / CONFIG
        return _read_config(config) if config.is_file() else _of_file(_weights_in(path))
    if path.is_file():
        return _of_file(path)
    if path.suffix in SUFFIXES or not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", source):
        raise InputError(f"{path} does not exist: check the path of the weights")
    if row := _published(source):
        return Description(
            row.architecture,
            row.num_classes,
            {"image_size": row.image_size},
            row.preprocessing(),
            row.preprocessing(test=True),
        )
    try:
        return _read_config(download_config(source, revision))
    except InputError as error:
        published = [OWNER + name for name in list_pretrained()] if source.startswith(OWNER) else []
        near = f". Published weights: {expected_names(source, published)}" if published else ""
        raise InputError(f"{source} is not a file or folder, and {error}{near}") from error


def _local(source: str | os.PathLike[str]) -> Path:
    """Return a source as a path, whether or not it exists."""
    require_local(source)
    try:
        path = Path(source).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # a name too long, a locked folder, an unknown user
        raise InputError(f"{source} cannot be looked up: {error}") from error
    return path


def _published(source: str) -> Published | None:
    """Return the row of a published name; None for other repositories of the hub."""
    if "/" in source and source.removeprefix(OWNER) not in list_pretrained():
        return None
    return find_published(source)


def _weights_in(folder: Path) -> Path:
    path = next((folder / n for n in (WEIGHTS, TORCH_WEIGHTS) if (folder / n).is_file()), None)
    if path is None:
        raise InputError(
            f"the folder {folder} has no {WEIGHTS}: expected a folder that save_pretrained wrote, "
            "or the path of a file"
        )
    return path


def _of_file(path: Path) -> Description:
    """Return the description in a file, or else in the `config.json` beside it."""
    text, beside = read_metadata(path).get(METADATA), path.with_name(CONFIG)
    if text is not None:
        return parse_config(read_fields(text, str(path)))
    return _read_config(beside) if beside.is_file() else Description()


def _read_config(path: Path) -> Description:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return parse_config(read_fields(text, str(path)))
