"""Weights from a hub: a local server, and clients in separate processes.

The hub's client reads its settings from the environment when it is imported.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import traverse_util

from flax_resnet import create_model, from_torch, to_torch
from flax_resnet.models import variable_shapes
from flax_resnet.weights import save_pretrained
from tests.local_hub import Hub, ask

SMALL: dict[str, Any] = {"stage_sizes": (1, 1, 1, 1), "widths": (4, 8, 8, 8)}
# Arguments of `load_pretrained`. The client prints a hash of the variables, or the error's message.
ONLINE: dict[str, tuple[str, dict[str, Any]]] = {
    "saved": ("hub:someone/digits", {}),
    "tagged": ("hub:someone/digits", {"revision": "v2"}),
    "published": ("timm/resnet18.tv_in1k", SMALL),
    "torch": ("hub:someone/old", {}),
    "no repository": ("hub:someone/none", {}),
    "misspelt": ("timm/resnet18.tv_in1", {}),
    "no revision": ("hub:someone/digits", {"revision": "v3"}),
    "gated": ("hub:someone/gated", {}),
    "no config": ("hub:someone/bare", {}),
    "no weights": ("hub:someone/empty", {}),
}
CACHED = {key: ONLINE[key] for key in ("saved", "tagged", "published")}
UNCACHED: dict[str, tuple[str, dict[str, Any]]] = {
    "repository": ("hub:someone/other", {}),
    "revision": ("hub:someone/digits", {"revision": "v4"}),
    "row": ("timm/resnet18.a1_in1k", {}),
}
CLIENT = """
import hashlib, json, sys, time
from flax.traverse_util import flatten_dict
from flax_resnet import InputError
from flax_resnet import load_pretrained

time.sleep = lambda seconds: None  # the hub's client waits before it retries
answers = {}
for key, (source, arguments) in json.loads(sys.argv[1]).items():
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
    try:
        leaves = sorted(flatten_dict(load_pretrained(source, **arguments)[1]).items())
        answers[key] = hashlib.sha256(b"".join(leaf.tobytes() for _, leaf in leaves)).hexdigest()
    except InputError as error:
        answers[key] = str(error)
print(json.dumps(answers))
"""
HAS_TORCH = importlib.util.find_spec("torch") is not None


def make_files(folder: Path, seed: int) -> tuple[dict[str, bytes], str]:
    """Return the files of a repository, and the expected answer of the client."""
    model = create_model("resnet18", num_classes=1000, image_size=32, **SMALL)
    rng = np.random.default_rng(seed)
    variables = jax.tree.map(
        lambda leaf: rng.uniform(0.1, 0.2, leaf.shape).astype(np.float32), variable_shapes(model)
    )
    save_pretrained(model, variables, folder, architecture="resnet18")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    if HAS_TORCH:
        import torch

        state_dict = {k: torch.from_numpy(v) for k, v in to_torch(model, variables).items()}
        torch.save(state_dict, buffer := io.BytesIO())
        files["pytorch_model.bin"] = buffer.getvalue()
    leaves = sorted(
        traverse_util.flatten_dict(from_torch(model, to_torch(model, variables))).items()
    )
    return files, hashlib.sha256(b"".join(leaf.tobytes() for _, leaf in leaves)).hexdigest()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """Return the answers of clients: online, set to work offline, and without the server."""
    first, expected = make_files(tmp_path_factory.mktemp("first"), 1)
    second, tagged = make_files(tmp_path_factory.mktemp("second"), 2)
    home = tmp_path_factory.mktemp("home")

    def only(*names: str) -> dict[str, dict[str, bytes]]:
        return {"main": {name: first[name] for name in names if name in first}}

    Hub.repositories = {
        "someone/digits": {"main": first, "v2": second},
        "someone/old": only("config.json", "pytorch_model.bin"),
        "someone/bare": only("model.safetensors"),
        "someone/empty": only("config.json"),
        "timm/resnet18.tv_in1k": only("model.safetensors"),
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        online = ask(CLIENT, ONLINE, home, endpoint)
        server.shutdown()
    calls = CACHED | UNCACHED
    yield {
        "expected": {"saved": expected, "tagged": tagged, "published": expected},
        "online": online,
        "offline": ask(CLIENT, calls, home, endpoint, HF_HUB_OFFLINE="1"),
        "unreachable": ask(CLIENT, calls, home, endpoint),
    }


@pytest.mark.parametrize("key", list(CACHED))
@pytest.mark.parametrize("state", ["online", "offline", "unreachable"])
def test_weights_are_downloaded_once_and_cached(answers: Any, state: str, key: str) -> None:
    assert answers[state][key] == answers["expected"][key]


@pytest.mark.skipif(HAS_TORCH, reason="torch is installed")
def test_weights_of_torch_need_torch(answers: Any) -> None:
    assert re.search(r"no model\.safetensors.*pip install torch", answers["online"]["torch"])


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_weights_of_torch_are_used_if_there_are_no_others(answers: Any) -> None:
    assert answers["online"]["torch"] == answers["expected"]["saved"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("no repository", r"^the repository http\S+/someone/none does not exist, or it is private"),
        ("misspelt", r"the repository \S+ does not exist.*Did you mean 'timm/resnet18\.tv_in1k'"),
        ("no revision", r"someone/digits has no revision 'v3': expected a branch, a tag or a"),
        ("gated", r"someone/gated is gated: ask for access on that page, .*hf auth login"),
        ("no config", r"someone/bare has no config\.json, .* pass the file, with model="),
        ("no weights", r"someone/empty has (no model\.safetensors|neither model\.safetensors)"),
    ],
)
def test_a_failed_download_is_a_clear_error(answers: Any, key: str, message: str) -> None:
    assert re.search(message, answers["online"][key]), answers["online"][key]


@pytest.mark.parametrize("key", list(UNCACHED))
@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (
            "offline",
            r"set to work offline, and this revision of \S+ is not in the cache .*HF_HUB_OFFLINE",
        ),
        (
            "unreachable",
            r"http\S+ cannot be reached, and this revision of \S+ is not in the cache .*connect to",
        ),
    ],
)
def test_a_missing_connection_is_a_clear_error(
    answers: Any, state: str, reason: str, key: str
) -> None:
    assert re.search(reason, answers[state][key]), answers[state][key]
