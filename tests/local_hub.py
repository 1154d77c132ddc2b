"""A hub on this machine, for the hub's client."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote

_RESOLVE = re.compile(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_LIST = re.compile(r"/api/(datasets/[^/?]+/[^/?]+)(?:/revision/([^/?]+))?(?:\?.*)?")


class Hub(BaseHTTPRequestHandler):
    """Answer `/OWNER/NAME/resolve/REVISION/FILE` as the hub does, and the lists of data sets."""

    # repository, or datasets/repository -> revision -> file -> content
    repositories: dict[str, dict[str, dict[str, bytes]]]
    # datasets/repository -> what its card says
    cards: dict[str, dict[str, Any]]

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.wfile.write(self.answer())

    def answer(self) -> bytes:
        listed = _LIST.fullmatch(self.path)
        match = listed or _RESOLVE.fullmatch(self.path)
        repository, revision = (match[1], unquote(match[2] or "main")) if match else ("", "")
        revisions = self.repositories.get(repository, {})
        if repository.endswith("someone/gated") and not listed:
            return self.fail(403, "GatedRepo")
        if not revisions:
            return self.fail(404, "RepoNotFound")
        by_commit = {commit_of(files): name for name, files in revisions.items()}
        revision = by_commit.get(revision, revision)
        if revision not in revisions:
            return self.fail(404, "RevisionNotFound")
        files, commit = revisions[revision], commit_of(revisions[revision])
        if listed:
            answer = {"id": repository.removeprefix("datasets/"), "sha": commit}
            answer |= {"siblings": [{"rfilename": name} for name in files]}
            answer |= {"cardData": self.cards.get(repository) if "README.md" in files else None}
            content = json.dumps(answer).encode()
            self.reply(200, {"Content-Type": "application/json"}, len(content))
            return content
        assert match is not None
        if match[3] not in files:
            return self.fail(404, "EntryNotFound", {"X-Repo-Commit": commit})
        content = files[match[3]]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        self.reply(200, {"X-Repo-Commit": commit, "ETag": etag}, len(content))
        return content

    def fail(self, status: int, code: str, headers: dict[str, str] | None = None) -> bytes:
        self.reply(status, {"X-Error-Code": code, **(headers or {})}, 0)
        return b""

    def reply(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def commit_of(files: dict[str, bytes]) -> str:
    """Return the name of a commit, which depends on the files."""
    named = [name.encode() + hashlib.sha256(data).digest() for name, data in sorted(files.items())]
    return hashlib.sha1(b"".join(named)).hexdigest()


def ask(client: str, calls: Any, home: Path, endpoint: str, **settings: str) -> dict[str, Any]:
    """Run a program that prints JSON as a client of the hub, and return that and its `stderr`.

    The hub's client reads its settings from the environment when it is imported.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1"}
    answer = subprocess.run(
        [sys.executable, "-c", client, json.dumps(calls)],
        env=environment | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} | settings,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    return {"stderr": answer.stderr, **json.loads(answer.stdout)}
