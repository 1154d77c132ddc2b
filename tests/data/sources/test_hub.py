"""Data sets of a hub on this machine, and clients in separate processes.

The hub's client reads its settings from the environment when it is imported.
"""

import io
import json
import re
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np
import pytest

from tests.local_hub import Hub, ask, commit_of

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

# Sources, and splits of them; the client prints what it finds, or the error's message.
FOUND = {
    "train": ("hf:someone/ants", "train"),
    "slice": ("hf:someone/ants", "train[:50%]"),
    "alias": ("hf:someone/ants", "val"),
    "both": ("hf:someone/ants", "train+validation"),
    "names": ("hf:someone/names", "test"),
    "numbers": ("hf:someone/numbers", "train"),
    "converted": ("hf:someone/folders", "train"),
    "column": ("hf:someone/columns:coarse", "train"),
    "tagged": ("hf:someone/ants/plain@v2", "train"),
}
ERRORS = {
    "no repository": ("hf:someone/none", "train"),
    "no revision": ("hf:someone/ants@v3", "train"),
    "no config": ("hf:someone/ants/x", "train"),
    "no split": ("hf:someone/ants", "test"),
    "columns": ("hf:someone/columns", "train"),
    "gated": ("hf:someone/gated", "train"),
    "new class": ("hf:someone/stranger", "test"),
}
CLIENT = """
import json, sys, time
import numpy as np
assert "tensorflow" not in sys.modules
from flax_resnet import InputError
from flax_resnet.data import DataConfig, open_source

time.sleep = lambda seconds: None  # the hub's client waits before it retries
answers = {}
for key, (source, split) in json.loads(sys.argv[1]).items():
    try:
        found = open_source(DataConfig(source=source), split)
        examples = [found[index] for index in range(len(found))]
        answers[key] = {
            "pixels": [int(np.asarray(each["image"]).flat[0]) for each in examples],
            "labels": [each["label"] for each in examples],
            "names": found.class_names, "named": found.named, "pinned": found.pinned,
        }
    except InputError as error:
        answers[key] = str(error)
assert "tensorflow" not in sys.modules
print(json.dumps(answers))
"""
CARD = {"configs": [{"config_name": "plain", "data_files": [
    {"split": "train", "path": "plain/train-*"}, {"split": "validation", "path": "plain/val-*"},
]}]}  # fmt: skip
CLASSES = {"label": {"_type": "ClassLabel", "names": ["ant", "bee", "cat"]}}


BOTH = CLASSES | {"coarse": {"_type": "ClassLabel", "names": ["insect", "mammal"]}}


def parquet(pixels: list[int], labels: list[Any], features: Any = None, **columns: Any) -> bytes:
    images = [np.full((4, 4, 1), value, np.uint8) for value in pixels]
    encoded = [{"bytes": cv2.imencode(".png", each)[1].tobytes(), "path": None} for each in images]
    table = pa.table({"image": encoded, "label": labels} | columns)
    if features:
        told = json.dumps({"info": {"features": {"image": {"_type": "Image"}} | features}})
        table = table.replace_schema_metadata({"huggingface": told})
    pq.write_table(table, buffer := io.BytesIO())
    return buffer.getvalue()


ANTS = {
    "README.md": b"",
    "plain/train-00000.parquet": parquet([0, 1, 2], [0, 1, 2], CLASSES),
    "plain/train-00001.parquet": parquet([3], [1], CLASSES),
    "plain/val-00000.parquet": parquet([4, 5], [2, 0], CLASSES),
}
LATER = ANTS | {"plain/train-00000.parquet": parquet([9, 9, 9], [0, 0, 0], CLASSES)}
REPOSITORIES = {
    "ants": {"main": ANTS, "v2": LATER},
    "names": {
        "main": {
            "train.parquet": parquet([0, 1], ["dog", "ant"]),
            "test.parquet": parquet([2], ["dog"]),
        }
    },
    "numbers": {"main": {"train.parquet": parquet([0, 1], [2, 0])}},
    "folders": {
        "main": {"train/ant/1.jpg": b""},
        "refs/convert/parquet": {"default/train/0000.parquet": parquet([7], [2], CLASSES)},
    },
    "gated": {"main": {"train.parquet": b""}},
    "columns": {"main": {"train.parquet": parquet([0, 1], [2, 1], BOTH, coarse=[0, 1])}},
    "stranger": {
        "main": {"train.parquet": parquet([0], ["a"]), "test.parquet": parquet([0], ["b"])}
    },
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """Return the answers of clients: online, after a change of the hub, and without it."""
    home = tmp_path_factory.mktemp("home")
    Hub.repositories = {f"datasets/someone/{name}": each for name, each in REPOSITORIES.items()}
    Hub.cards = {"datasets/someone/ants": CARD}
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        online = ask(CLIENT, FOUND | ERRORS, home, endpoint)
        Hub.repositories |= {"datasets/someone/ants": {"main": LATER}}
        pinned = online["train"]["pinned"]
        changed = ask(CLIENT, {"new": FOUND["train"], "pinned": (pinned, "train")}, home, endpoint)
        server.shutdown()
    calls = {**FOUND, "other": ("hf:someone/other", "train")}
    unreachable = ask(CLIENT, calls, home, endpoint)
    yield {"online": online, "changed": changed, "unreachable": unreachable}


def test_a_split_has_the_images_of_all_its_files_in_a_fixed_shuffled_order(answers: Any) -> None:
    train = answers["online"]["train"]
    pairs = set(zip(train["pixels"], train["labels"], strict=True))
    assert pairs == {(0, 0), (1, 1), (2, 2), (3, 1)}
    assert answers["online"]["slice"]["pixels"] == train["pixels"][:2]
    assert set(answers["online"]["alias"]["pixels"]) == {4, 5}
    both = train["pixels"] + answers["online"]["alias"]["pixels"]
    assert answers["online"]["both"]["pixels"] == both


@pytest.mark.parametrize(
    ("key", "names", "named", "labels"),
    [
        ("alias", ["ant", "bee", "cat"], True, {0, 2}),
        ("names", ["ant", "dog"], True, {1}),
        ("numbers", ["0", "1", "2"], False, {0, 2}),
        ("column", ["insect", "mammal"], True, {0, 1}),
        ("converted", ["ant", "bee", "cat"], True, {2}),
    ],
)
def test_classes_come_from_features_or_from_the_train_split(
    answers: Any, key: str, names: list[str], named: bool, labels: set[int]
) -> None:
    found = answers["online"][key]
    assert (found["names"], found["named"], set(found["labels"])) == (names, named, labels)


def test_the_commit_is_part_of_the_name(answers: Any) -> None:
    assert answers["online"]["train"]["pinned"] == f"hf:someone/ants/plain@{commit_of(ANTS)}"
    assert answers["online"]["tagged"]["pinned"] == f"hf:someone/ants/plain@{commit_of(LATER)}"
    converted = commit_of(REPOSITORIES["folders"]["refs/convert/parquet"])
    assert answers["online"]["converted"]["pinned"] == f"hf:someone/folders/default@{converted}"
    assert answers["changed"]["new"]["pinned"] == f"hf:someone/ants/plain@{commit_of(LATER)}"
    assert answers["changed"]["pinned"] == answers["online"]["train"]


def test_a_split_is_prepared_once_and_needs_no_network_from_then_on(answers: Any) -> None:
    assert "Preparing hf:someone/ants train (2 parquet files) in " in answers["online"]["stderr"]
    assert "Preparing hf:someone/ants train" not in answers["unreachable"]["stderr"]
    for key in FOUND.keys() - {"train", "slice", "alias", "both"}:
        assert answers["unreachable"][key] == answers["online"][key]
    assert answers["unreachable"]["train"] == answers["changed"]["new"]
    assert re.search(r"someone/other failed \(.*try again", answers["unreachable"]["other"])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "no repository",
            r"^the repository http\S+/datasets/someone/none does not exist, or",
        ),
        ("no revision", r"someone/ants has no revision 'v3': expected a branch, a tag or a commit"),
        ("no config", r"^hf:someone/ants/x has no config 'x'; expected one of plain"),
        ("no split", r"has no split 'test'; expected one of train, validation"),
        ("gated", r"datasets/someone/gated is gated: ask for access on that page, .*hf auth login"),
        ("columns", r"someone/columns train .* which label, coarse can be labels; expected one"),
        ("new class", r"hf:someone/stranger has the class 'b' outside of its train split"),
    ],
)
def test_what_cannot_be_read_is_a_clear_error(answers: Any, key: str, message: str) -> None:
    assert re.search(message, answers["online"][key]), answers["online"][key]
