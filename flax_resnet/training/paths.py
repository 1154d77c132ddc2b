"""Where the files are that a run's settings name, so that the run or its project can be moved."""

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax_resnet.files import replace_text
from flax_resnet.training.config import TrainConfig

FILE = "paths.json"
# Settings that are paths, or names where there is no such path.
SETTINGS = ("data.source", "data.data_dir", "distill.teacher", "model.pretrained")
_SOURCES = ("csv:", "folder:", "masks:")
# The table that `finetune` writes into the run's folder; early runs did not remember paths.
_OWN_TABLE = "split.csv"


def remember_paths(config: TrainConfig, workdir: Path) -> None:
    """Write where the files and folders of the settings are: from the run, and absolute."""
    home, before = os.path.realpath(workdir), _read(workdir)
    places = dict(before)
    for name in SETTINGS:
        _, path = _parted(name, value := _get(config.to_dict(), name))
        if path is not None and path.exists():
            absolute = os.path.realpath(path)
            places[value] = {"near": os.path.relpath(absolute, home), "absolute": absolute}
    if places != before:
        replace_text(workdir / FILE, json.dumps(places, indent=1) + "\n")


def find_paths(values: Mapping[str, Any], workdir: Path) -> dict[str, Any]:
    """Return stored settings with paths that lead from here to the files that they named.

    A file in the run's folder is the one in it now. Another one is where it was, or else where it
    is if the whole project was moved, or else where the setting leads from the working directory.
    """
    found, places = copy.deepcopy(dict(values)), _read(workdir)
    for name in SETTINGS:
        kind, path = _parted(name, value := _get(found, name))
        if path is None:
            continue
        place = places.get(value, {})
        if not place and path.name == _OWN_TABLE and (workdir / _OWN_TABLE).is_file():
            place = {"near": _OWN_TABLE, "absolute": ""}
        if there := _where(path, place, workdir):
            section, key = name.split(".")
            found[section][key] = kind + there
    return found


def same_path(name: str, before: object, now: object) -> bool:
    """Return whether two values of one of `SETTINGS` name the same file, folder or network."""
    (kind, path), (other_kind, other) = _parted(name, before), _parted(name, now)
    if path is None or other is None or kind != other_kind:
        return before == now
    return os.path.realpath(path) == os.path.realpath(other)


def _where(path: Path, place: Mapping[str, str], workdir: Path) -> str | None:
    """Return another path to a remembered file; None if `path` leads there, or nothing does."""
    if not place:
        return None
    near = os.path.realpath(workdir / place["near"])
    inside = Path(near).is_relative_to(os.path.realpath(workdir))
    options = [near] if inside else [place["absolute"], near]
    found = next((option for option in options if Path(option).exists()), None)
    return None if found is None or found == os.path.realpath(path) else found


def _parted(name: str, value: object) -> tuple[str, Path | None]:
    """Return the kind of a source, such as `csv:`, and the path in a setting; None: it has none."""
    if not isinstance(value, str) or not value:
        return "", None
    kind = ""
    if name == "data.source":
        kind = next((kind for kind in _SOURCES if value.startswith(kind)), "")
        if not kind:
            return "", None
    try:
        return kind, Path(value.removeprefix(kind)).expanduser()
    except RuntimeError:  # An unknown user.
        return kind, None


def _get(values: Mapping[str, Any], name: str) -> Any:
    section, key = name.split(".")
    return values.get(section, {}).get(key)


def _read(workdir: Path) -> dict[str, dict[str, str]]:
    try:
        places = dict(json.loads((workdir / FILE).read_text()))
        return {text: {"near": p["near"], "absolute": p["absolute"]} for text, p in places.items()}
    except (OSError, ValueError, TypeError, KeyError):  # Without it paths are used as they are.
        return {}
