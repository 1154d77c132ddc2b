"""A run on a hub: what is uploaded, what comes back, and what is refused. The hub is local."""

from __future__ import annotations

import base64
import json
import threading
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import chex
import huggingface_hub.constants
import jax
import pytest
import yaml

from flax_resnet import InputError, class_names, load_pretrained, push_to_hub, restore, train
from flax_resnet.report.publishing import _base as base_of
from flax_resnet.report.publishing import _license as license_of
from flax_resnet.report.publishing import write_repository
from flax_resnet.steps.mesh import data_mesh

OWN = "someone/digits"


class Hub(BaseHTTPRequestHandler):
    """Take commits as the hub does: make the repository, ask how to upload, commit."""

    requests: list[tuple[str, Any]]
    files: dict[str, bytes]
    status: int

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        lines = [json.loads(line) for line in text.splitlines() if line]
        self.requests.append((self.path, lines[0]))
        answer: dict[str, Any] = {}
        if self.status != 200:
            answer = {"error": "said by the hub"}
        elif self.path.endswith("/repos/create"):
            answer = {"url": f"http://{self.headers['Host']}/{OWN}"}
        elif "/preupload/" in self.path:
            names = [file["path"] for file in lines[0]["files"]]
            answer["files"] = [
                {"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names
            ]
        elif "/commit/" in self.path:
            for line in lines:
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            answer = {
                "commitUrl": f"http://{self.headers['Host']}/{OWN}/commit/1",
                "commitOid": "1",
            }
        content = json.dumps(answer).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """Return a hub on this machine that takes every upload; `status` lets it refuse them."""
    Hub.requests, Hub.files, Hub.status = [], {}, 200
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", "a token")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Hub
        server.shutdown()


@pytest.fixture
def run(tiny_config: Callable[..., Any], tmp_path: Path) -> Path:
    """Return the folder of a short run."""
    config = tiny_config(steps=4, eval_every_epochs=1e9)
    return train(config, tmp_path / "run", mesh=data_mesh(jax.devices()[:1])).workdir


def test_a_run_comes_back_from_the_hub_with_its_card(
    run: Path, hub: type[Hub], tmp_path: Path
) -> None:
    address = push_to_hub(run, OWN, license="apache-2.0", private=True)
    assert address.endswith(f"/{OWN}")
    path, made = hub.requests[0]
    assert path == "/api/repos/create"
    assert made["name"] == "digits"
    assert made["organization"] == "someone"
    assert made.get("private") or made.get("visibility") == "private"
    assert hub.files.keys() == {"README.md", "config.json", "curves.png", "model.safetensors"}

    for name, content in hub.files.items():
        (tmp_path / name).write_bytes(content)
    _, variables = load_pretrained(tmp_path)
    best = restore(run)
    chex.assert_trees_all_equal(variables, jax.device_get(best.variables))
    assert class_names(tmp_path) == best.class_names

    _, header, body = hub.files["README.md"].decode().split("---\n", 2)
    facts = yaml.safe_load(header)
    assert (facts["license"], facts["pipeline_tag"]) == ("apache-2.0", "image-classification")
    (result,) = facts["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(best.metrics["top1"], abs=1e-6)
    assert f"{best.metrics['loss']:.4f}" in body
    assert "| `schedule.learning_rate` | 0.2 |" in body
    assert f'load_pretrained("hub:{OWN}")' in body
    assert str(tmp_path) not in body


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "said by the hub.*hf auth login"),
        (403, "said by the hub.*a token that may write to someone/digits"),
        (400, "said by the hub.*check the name"),
    ],
)
def test_a_hub_that_refuses_is_quoted(
    hub: type[Hub], tmp_path: Path, status: int, message: str
) -> None:
    from flax_resnet.weights.hub import upload_folder

    hub.status = status
    with pytest.raises(InputError, match=message):
        upload_folder(tmp_path, OWN)


def test_an_upload_needs_a_name_a_run_and_a_license(run: Path, tmp_path: Path) -> None:
    def write(source: Path | str, repository: str, license: str | None = None) -> None:
        write_repository(source, repository, tmp_path / "out", license=license)

    with pytest.raises(InputError, match="repository is 'digits'; expected OWNER/NAME"):
        write(run, "digits")
    with pytest.raises(InputError, match=r"resnet18\.a1_in1k is not a run"):
        write("resnet18.a1_in1k", OWN)
    with pytest.raises(InputError, match="license is None; expected an identifier"):
        write(run, OWN)
    with pytest.raises(InputError, match="license is 'Apache 2'; expected an identifier"):
        write(run, OWN, "Apache 2")
    assert not (tmp_path / "out").exists()


def test_a_run_inherits_the_license_of_the_weights_that_it_started_from() -> None:
    assert license_of(None, base_of("timm/resnet18.a1_in1k")) == "apache-2.0"
    restricted = base_of("resnet18.fb_ssl_yfcc100m_ft_in1k")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert license_of(None, restricted) == "cc-by-nc-4.0"
    with pytest.warns(UserWarning, match="cc-by-nc-4.0 excludes commercial use"):
        assert license_of("mit", restricted) == "mit"
