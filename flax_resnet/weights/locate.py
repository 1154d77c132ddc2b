"""Find weights, and what is known of the model and the images that they are for."""

import os
import re
from pathlib import Path

from flax_resnet.errors import InputError, expected_names, near_paths, require_local, warn_once
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
from flax_resnet.weights.published import (
    OWNER,
    Published,
    find_published,
    list_pretrained,
    published_classes,
)

# What a name of the hub begins with, unless its owner is `OWNER`.
HUB = "hub:"
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def locate(source: str | os.PathLike[str], revision: str | None = None) -> tuple[Path, Description]:
    """Return the path of a source's weights, downloaded if necessary, and their description.

    Arguments and errors are those of `load_pretrained`.
    """
    found, path = describe(source, revision), _local(source)
    if path.is_dir():
        return _weights_in(path), found
    if path.is_file():
        return path, found
    name = os.fspath(source).removeprefix(HUB)
    published = _published(name)
    if published and published.non_commercial:
        warn_once(
            f"the license of {published.name} is {published.license}, which excludes commercial "
            "use, also of networks that are trained from it"
        )
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
    name = _name(source, path)
    if row := _published(name):
        return Description(
            row.architecture,
            row.num_classes,
            {"image_size": row.image_size},
            row.preprocessing(train_size=True),
            row.preprocessing(),
            published_classes(row.name, row.num_classes),
        )
    try:
        return _read_config(download_config(name, revision))
    except InputError as error:
        published = [OWNER + name for name in list_pretrained()] if name.startswith(OWNER) else []
        near = f". Published weights: {expected_names(name, published)}" if published else ""
        local = "" if name != source else f"{source} is not a file or folder, and "
        raise InputError(f"{local}{error}{near}") from error


def _name(source: str, missing: Path) -> str:
    """Return the name of published weights or of a repository, without `hub:`.

    Raises:
      InputError: the source looks like a path, or the name is unknown.
    """
    name = source.removeprefix(HUB)
    repository = _REPOSITORY.fullmatch(name)
    if name != source:
        if not repository:
            raise InputError(f"{source!r} is not a repository: expected {HUB}OWNER/NAME")
        return name
    says = f"{missing} does not exist: check the path of the weights.{near_paths(missing)}"
    if missing.suffix in SUFFIXES:
        raise InputError(says)
    if repository and name.startswith(OWNER):
        return name
    if re.fullmatch(r"\w[\w.-]*", name):
        if list_pretrained(f"{name}.*") or name in list_pretrained():
            return find_published(name).name
        raise InputError(f"{says} As published weights {expected_names(name, list_pretrained())}")
    if repository:
        raise InputError(f"{says} A repository of the hub is written {HUB}{name}.")
    raise InputError(says)


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
            f"the path of a file, or the folder of a run.{near_paths(folder / WEIGHTS)}"
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
