"""Which parquet files of the Hugging Face hub are a split of a data set.

The files are those of the repository itself, as its card or their names say, or else those into
which the hub has converted it (the branch `refs/convert/parquet`, with CONFIG/SPLIT/*.parquet).
"""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flax_resnet.data.sources.folder import canonical_split
from flax_resnet.errors import InputError, expected_names
from flax_resnet.hub import explained

CONVERTED = "refs/convert/parquet"
DEFAULT = "default"
_FORM = "hf:OWNER/NAME[/config][@revision][:label]"
_COMMIT = re.compile(r"[0-9a-f]{40}")
# As the library `datasets` names the files that it uploads.
_NUMBERED = re.compile(r"(?:.*/)?([\w.]+(?:-[\w.]+)*)-\d{5}-of-\d{5}[^/]*\.parquet")
_CONVERTED_FILE = re.compile(r"[^/]+/[^/]+/\d{4,}\.parquet")
# Words in other names of files and folders.
_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


@dataclass(frozen=True)
class HubName:
    """A data set of the hub, as `config.data.source` names it."""

    repository: str
    """owner/name"""
    config: str | None
    revision: str | None
    """A branch, a tag or a commit; None: the main branch."""
    label: str | None = None
    """The column of the labels; None: the only one."""

    @property
    def is_commit(self) -> bool:
        """Return whether the revision is a commit, whose files never change."""
        return bool(_COMMIT.fullmatch(self.revision or ""))

    def __str__(self) -> str:
        """Return the name as `config.data.source`."""
        parts = (("/", self.config), ("@", self.revision), (":", self.label))
        return f"hf:{self.repository}" + "".join(mark + part for mark, part in parts if part)


def parse_name(rest: str) -> HubName:
    """Return the parts of `OWNER/NAME[/config][@revision][:label]`.

    Raises:
      InputError: it is not of this form.
    """
    whole, colon, label = rest.partition(":")
    name, at, revision = whole.partition("@")
    owner, *others = parts = name.split("/")
    empty = not all(parts) or (at and not revision) or (colon and not label)
    if len(others) not in (1, 2) or empty:
        raise InputError(
            f"config.data.source is 'hf:{rest}'; expected {_FORM}, such as hf:uoft-cs/cifar10"
        )
    config = others[1] if len(others) == 2 else None
    return HubName(f"{owner}/{others[0]}", config, revision or None, label or None)


def is_commit_of(source: str, unpinned: str) -> bool:
    """Return whether a `config.data.source` is a commit of another one that has no revision."""
    if not (source.startswith("hf:") and unpinned.startswith("hf:")):
        return False
    pinned, name = (parse_name(each.removeprefix("hf:")) for each in (source, unpinned))
    same = pinned.repository == name.repository and name.config in (None, pinned.config)
    return same and name.label == pinned.label and name.revision is None and pinned.is_commit


@dataclass(frozen=True)
class HubFiles:
    """The parquet files of one config of a data set, at one commit."""

    name: HubName
    """With the config and the commit."""
    splits: Mapping[str, tuple[str, ...]]
    """The files of each split, in order; splits have canonical names, such as validation."""
    features: Mapping[str, Any] = field(default_factory=dict)
    """Those that the card describes, by column."""


def find_files(name: HubName) -> HubFiles:
    """Ask the hub for the parquet files of a data set.

    Raises:
      InputError: the hub cannot be reached, or there is no such data set, config or revision, or
        it has no complete parquet files.
    """
    info = _info(name.repository, name.revision)
    card = info.card_data.to_dict() if info.card_data else {}
    files = _parquet(info)
    convert = files and all(map(_CONVERTED_FILE.fullmatch, files))
    configs = _converted(files) if convert else _described(card, files) if files else {}
    if not configs and name.revision is None:
        info = _info(name.repository, CONVERTED)
        configs = _converted(_parquet(info))
    if not configs:
        raise InputError(
            f"{name} has no parquet files on the hub, not even converted ones; expected a data set "
            "that the hub's viewer shows. Download it and use folder:PATH or csv:PATH."
        )
    config = _choose(name, configs, card)
    if any(split.startswith("partial-") for split in configs[config]):
        raise InputError(
            f"{name} is so large that the hub has converted only a part of it to parquet; expected "
            "all of it. Download it and use folder:PATH or csv:PATH."
        )
    found = dataclasses.replace(name, config=config, revision=info.sha)
    return HubFiles(found, configs[config], _features(card, config))


def _info(repository: str, revision: str | None) -> Any:
    from huggingface_hub import HfApi

    with explained(repository, "the list of files", revision, "datasets/"):
        return HfApi(library_name="flax_resnet").dataset_info(repository, revision=revision)


def _parquet(info: Any) -> list[str]:
    names = sorted(sibling.rfilename for sibling in info.siblings or ())
    return [name for name in names if name.endswith(".parquet")]


def _described(card: Mapping[str, Any], files: list[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the files of each config and split as the card, or else their names, tell them."""
    entries = card.get("configs") or [{"config_name": DEFAULT}]
    configs = {}
    for entry in entries:
        folder = str(entry.get("data_dir") or "").strip("/")
        inside = [name for name in files if not folder or name.startswith(folder + "/")]
        patterns = _patterns(entry.get("data_files"))
        splits = _by_words(inside) if patterns is None else _matching(inside, folder, patterns)
        splits = {split: found for split, found in splits.items() if found}
        if splits:
            configs[str(entry.get("config_name", DEFAULT))] = splits
    return configs


def _matching(
    files: list[str], folder: str, patterns: Mapping[str, list[str]]
) -> dict[str, tuple[str, ...]]:
    """Return the files of each split, whose patterns begin in `folder`."""
    found = {}
    for split, regexes in patterns.items():
        any_of = re.compile("|".join(regexes))
        inside = (len(folder) + 1) * bool(folder)
        chosen = tuple(name for name in files if any_of.fullmatch(name[inside:]))
        found[canonical_split(split)] = chosen
    return found


def _patterns(data_files: Any) -> dict[str, list[str]] | None:
    """Return the patterns of each split's files, as regular expressions; None if none are given."""
    if not data_files:
        return None
    if isinstance(data_files, Mapping):
        data_files = [{"split": split, "path": path} for split, path in data_files.items()]
    if isinstance(data_files, str) or not isinstance(data_files[0], Mapping):
        data_files = [{"split": "train", "path": data_files}]
    found: dict[str, list[str]] = defaultdict(list)
    for entry in data_files:
        paths = [entry["path"]] if isinstance(entry["path"], str) else entry["path"]
        found[str(entry.get("split", "train"))] += map(_regex, paths)
    return found


def _regex(pattern: str) -> str:
    """Return a pattern of paths, in which ** crosses folders, as a regular expression."""
    kinds = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", pattern.removeprefix("./"))
    return "".join(kinds.get(part, part if part[:1] == "[" else re.escape(part)) for part in parts)


def _by_words(files: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the files of each split by their names; without a word for a split, all are train."""
    numbered, worded, all_files = defaultdict(list), defaultdict(list), list(files)
    for name in all_files:
        if match := _NUMBERED.fullmatch(name):
            numbered[canonical_split(match[1])].append(name)
        for part in reversed(name.split("/")):
            words = re.split(r"[^a-z]+", part.lower())
            split = next((known for known, own in _WORDS.items() if set(own) & set(words)), None)
            if split is not None:
                worded[split].append(name)
                break
    chosen = numbered or worded or {"train": all_files}
    return {split: tuple(found) for split, found in chosen.items()}


def _converted(files: Iterable[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    configs: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in files:
        config, _, rest = name.partition("/")
        configs[config][canonical_split(rest.partition("/")[0])].append(name)
    return {
        config: {split: tuple(names) for split, names in splits.items()}
        for config, splits in configs.items()
    }


def _choose(name: HubName, configs: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    marked = [each for each in card.get("configs") or () if each.get("default")]
    if name.config is not None and name.config not in configs:
        raise InputError(
            f"{name} has no config {name.config!r}; {expected_names(name.config, configs)}"
        )
    chosen = name.config or (str(marked[0].get("config_name")) if marked else DEFAULT)
    if chosen in configs:
        return chosen
    if len(configs) > 1:
        listed = ", ".join(sorted(configs)[:20])
        raise InputError(
            f"{name} has the configs {listed}; expected one of them after a slash, such as "
            f"hf:{name.repository}/{min(configs)}"
        )
    return next(iter(configs))


def _features(card: Mapping[str, Any], config: str) -> dict[str, Any]:
    """Return the features in a card, in the form of those in parquet files."""
    described = card.get("dataset_info") or []
    described = [described] if isinstance(described, Mapping) else described
    entries = [each for each in described if each.get("config_name", DEFAULT) == config]
    features: dict[str, Any] = {}
    for feature in (entries or [{}])[0].get("features") or ():
        kind = feature.get("dtype")
        if kind == "image":
            features[feature["name"]] = {"_type": "Image"}
        elif isinstance(kind, Mapping) and "class_label" in kind:
            names = kind["class_label"].get("names") or {}
            if isinstance(names, Mapping):
                names = [names[key] for key in sorted(names, key=int)]
            features[feature["name"]] = {"_type": "ClassLabel", "names": list(map(str, names))}
    return features
