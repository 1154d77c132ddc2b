"""`python -m flax_resnet serve` as a process: under load, with invalid requests among the valid."""

import asyncio
import base64
import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from flax_resnet import train
from flax_resnet.inference.predictor import Predictor, open_predictor
from flax_resnet.training.parsing import parse

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

MOST = 100_000


class Service(NamedTuple):
    """A serving process, and the network that it serves."""

    process: subprocess.Popen[str]
    address: str
    run: Path
    predictor: Predictor


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("served")
    run = folder / "run"
    data = dict(source="synthetic:10", batch_size=16, image_size=28, train_split="train[:16]")
    train(parse({"steps": 1, "model": {"name": "mnist_resnet"}, "data": data}), run)
    limits = [f"--max-bytes={MOST}", "--max-pixels=1000000"]
    command = [sys.executable, "-m", "flax_resnet", "serve", str(run), "--port=0", *limits]
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        found = re.match(r"http://127\.0\.0\.1:\d+/", first)
        assert found, first
        yield Service(process, found[0], run, open_predictor(run))
    finally:
        process.kill()
        process.communicate()


def encoded(number: int, size: tuple[int, int] = (9, 12)) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def huge() -> bytes:
    """A small file whose header says 60,000 x 60,000 pixels."""
    data = bytearray(encoded(0))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    return bytes(data)


BAD = {
    "text": (b"hello", 422),
    "nothing": (b"", 422),
    "torn": (encoded(0)[:60], 422),
    "too many pixels": (huge(), 413),
    "too many bytes": (bytes(MOST + 1), 413),
}


def test_under_load_every_image_gets_its_own_classes_and_invalid_ones_an_error(
    service: Service,
) -> None:
    bodies = [(encoded(number), 200) for number in range(30)]
    for at, bad in enumerate(BAD.values()):
        bodies.insert(5 * at, bad)

    async def all_at_once() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=service.address, timeout=60) as client:
            asked = [client.post("predict", content=body) for body, _ in bodies]
            return list(await asyncio.gather(*asked))

    found = asyncio.run(all_at_once())
    assert [answer.status_code for answer in found] == [status for _, status in bodies]
    predictor = service.predictor
    images = [predictor.prepare(body) for body, status in bodies if status == 200]
    probabilities = iter(predictor.probabilities(np.stack(images)))
    for (_, status), answer in zip(bodies, found, strict=True):
        if status != 200:
            assert isinstance(answer.json()["detail"], str)
            continue
        expected = next(probabilities)
        classes = answer.json()["classes"]
        assert len(classes) == 5
        scores = {each["class"]: each["score"] for each in classes}
        for name, score in scores.items():
            assert score == pytest.approx(expected[predictor.class_names.index(name)], abs=1e-4)
        assert max(scores.values()) == pytest.approx(expected.max(), abs=1e-4)


def test_a_prediction_is_explained_on_request(service: Service) -> None:
    asked = {"explain": "true", "top": "2"}
    answer = httpx.post(f"{service.address}predict", params=asked, content=encoded(1), timeout=60)
    found = answer.json()
    assert len(found["classes"]) == 2
    kind, data = found["explanation"].split(",")
    assert kind == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (224, 224)


def test_invalid_requests_have_an_error(service: Service) -> None:
    form = httpx.post(f"{service.address}predict", files={"file": encoded(0)})
    assert (form.status_code, "body" in form.json()["detail"]) == (415, True)
    assert httpx.get(f"{service.address}predict").status_code == 405
    assert httpx.get(f"{service.address}nowhere").status_code == 404
    assert httpx.get(f"{service.address}../../pyproject.toml").status_code == 404
    asked = {"top": "0"}
    assert httpx.post(f"{service.address}predict", params=asked).status_code == 422


def compressed(service: Service, body: bytes, coding: str) -> httpx.Response:
    headers = {"Content-Encoding": coding}
    return httpx.post(f"{service.address}predict", content=body, headers=headers, timeout=60)


def test_a_compressed_image_gets_the_classes_of_the_image(service: Service) -> None:
    image = encoded(5)
    plain = httpx.post(f"{service.address}predict", content=image, timeout=60).json()
    for body, coding in (
        (gzip.compress(image), "gzip"),
        (gzip.compress(image[:50]) + gzip.compress(image[50:]), "GZIP"),
        (zlib.compress(image), "deflate"),
        (image, "identity"),
    ):
        answer = compressed(service, body, coding)
        assert answer.status_code == 200, answer.text
        assert answer.json()["classes"] == plain["classes"]


@pytest.mark.parametrize(
    ("body", "coding", "status"),
    [
        (gzip.compress(bytes(10 * MOST)), "gzip", 413),  # 1 kB that would become 1 MB
        (gzip.compress(encoded(5))[:-10], "gzip", 422),
        (encoded(5), "gzip", 422),
        (b"", "gzip", 422),
        (encoded(5), "br", 415),
        (encoded(5), "gzip, gzip", 415),
    ],
    ids=["too large", "torn", "not compressed", "empty", "unknown", "twice"],
)
def test_a_body_that_cannot_be_decompressed_has_an_error(
    service: Service, body: bytes, coding: str, status: int
) -> None:
    answer = compressed(service, body, coding)
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)
    assert answer.headers.get("accept-encoding") == ("gzip, deflate" if status == 415 else None)


@pytest.mark.parametrize("path", ["", "health", "page/page.js", "openapi.json", "docs"])
def test_head_is_answered_wherever_get_is(service: Service, path: str) -> None:
    asked = httpx.head(service.address + path)
    given = httpx.get(service.address + path)
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["content-length"] == str(len(given.content))


def test_the_folders_of_the_machine_are_not_told(service: Service) -> None:
    network = httpx.get(f"{service.address}health").json()["network"]
    assert network == "mnist_resnet of run, step 1"
    answer = httpx.post(f"{service.address}predict", content=encoded(1), timeout=60)
    assert answer.json()["network"] == network


def test_health_and_a_description_for_programs(service: Service) -> None:
    health = httpx.get(f"{service.address}health").json()
    assert (health["status"], health["classes"]) == ("ok", 10)
    paths = httpx.get(f"{service.address}openapi.json").json()["paths"]
    assert set(paths) == {"/health", "/predict"}


def test_the_page_loads_nothing_from_elsewhere(service: Service) -> None:
    page = httpx.get(service.address)
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.text):
        assert httpx.get(service.address + name).status_code == 200


def test_the_page_shows_the_classes_of_an_image(service: Service, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium here")
    (tmp_path / "photo.png").write_bytes(encoded(3))
    (tmp_path / "text.png").write_text("no picture")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page, told = opened.new_page(viewport={"width": 400, "height": 800}), []
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.goto(service.address)
        page.set_input_files("#file", tmp_path / "photo.png")
        page.wait_for_selector("#classes li")
        assert page.locator("#classes li").count() == 5
        assert page.evaluate("document.getElementById('cam').naturalWidth") == 224
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        tops = [page.locator(f"#{name}").bounding_box()["y"] for name in ("best", "classes", "cam")]
        assert tops == sorted(tops)
        assert tops[-1] < 800  # All on the first screen.
        assert told == []
        page.set_input_files("#file", tmp_path / "text.png")
        page.wait_for_selector("#status.bad")
        assert "not an image that can be read" in page.inner_text("#status")
        opened.close()


@pytest.mark.slow
def test_json_prints_only_the_address(service: Service) -> None:
    command = [sys.executable, "-m", "flax_resnet", "serve", service.run, "--port=0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        assert httpx.get(f"{address}health").json()["status"] == "ok"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""
    assert process.returncode == 0


@pytest.mark.slow
def test_a_port_in_use_is_one_error(service: Service) -> None:
    port = service.address.rstrip("/").rpartition(":")[2]
    command = [sys.executable, "-m", "flax_resnet", "serve", "runs/none", "--port", port]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 2
    assert finished.stderr.startswith(f"error: 127.0.0.1:{port} cannot be listened on")


def test_last_a_signal_ends_it_after_all_responses(service: Service) -> None:
    async def ask_and_stop() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=service.address, timeout=60) as client:
            asked = [
                asyncio.create_task(client.post("predict", content=encoded(number)))
                for number in range(16)
            ]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            service.process.send_signal(signal.SIGTERM)
            return list(await asyncio.gather(*asked))

    assert {answer.status_code for answer in asyncio.run(ask_and_stop())} == {200}
    assert service.process.wait(30) == 0
