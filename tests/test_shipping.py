"""What is shipped besides code: the metadata, the citation, the container and the workflows."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from flax_resnet.__main__ import make_parser
from flax_resnet.version import VERSION

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def workflow(name: str) -> dict[Any, Any]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())


def container() -> list[str]:
    """Return the instructions of the last stage of the Containerfile."""
    text = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    last = max(at for at, line in enumerate(lines) if line.startswith("FROM "))
    return lines[last:]


def test_the_citation_is_of_this_version_and_license() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == VERSION
    assert citation["license"] == PROJECT["license"]


def test_the_classifiers_name_the_pythons_that_are_tested() -> None:
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    steps = workflow("ci.yml")["jobs"]["run"]["steps"]
    (tested,) = (step["with"]["python-version"] for step in steps if "setup-python" in str(step))
    assert sorted(tested.split()) == versions
    assert PROJECT["requires-python"] == f">={versions[0]}"
    # The field `license` has it; a classifier beside it is an error of the index.
    assert not any(each.startswith("License") for each in PROJECT["classifiers"])


def test_the_container_serves_as_an_ordinary_user() -> None:
    lines = container()
    users = [line for line in lines if line.startswith("USER ")]
    assert users == ["USER 1000:1000"]
    assert not any(line.startswith("RUN") for line in lines[lines.index(users[0]) :])
    extras = re.findall(r"\.whl\)\[([\w,]+)\]", "\n".join(lines))
    assert set(extras[0].split(",")) <= PROJECT["optional-dependencies"].keys()


def test_the_command_of_the_container_is_understood() -> None:
    entry, words = (
        json.loads(next(line for line in container() if line.startswith(name))[len(name) :])
        for name in ("ENTRYPOINT ", "CMD ")
    )
    assert entry == list(PROJECT["scripts"])
    parsed = make_parser({"serve"}).parse_args(words)
    assert (parsed.command, parsed.host, parsed.port) == ("serve", "0.0.0.0", 8000)


def test_everything_that_the_container_copies_reaches_its_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert kept >= {"pyproject.toml", "constraints.txt", "flax_resnet", "configs"}
    assert kept >= {PROJECT["readme"], *PROJECT["license-files"]}
    assert all((ROOT / name).exists() for name in kept)


def test_the_workflows_run_what_has_to_pass_and_publish_without_a_token() -> None:
    tests, publishing = workflow("ci.yml"), workflow("publish.yml")
    for job in (tests["jobs"]["run"], publishing["jobs"]["build"]):
        assert {"run": ".ci/run"} in job["steps"]
    publish = publishing["jobs"]["publish"]
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"}
    for each in (tests, publishing):
        assert each["permissions"] == {"contents": "read"}
        assert "secrets." not in str(each)
