"""The routes: /predict, /health, /docs, and a page at /."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from flax_resnet.data.images.decode import DecodeError, image_size
from flax_resnet.inference.explain import Explain, make_explain
from flax_resnet.inference.predictor import Predictor
from flax_resnet.serving.batching import Batcher
from flax_resnet.version import VERSION

_PAGE = Path(__file__).parent / "page"
# The page loads nothing from elsewhere; FastAPI's own /docs does.
_POLICY = "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'"
_BODY = {"requestBody": {"required": True, "content": {"image/*": {"schema": {"type": "string"}}}}}


@dataclass(frozen=True)
class Limits:
    """What a request may hold."""

    bytes: int = 20 * 2**20
    pixels: int = 2**26


def make_app(predictor: Predictor, limits: Limits) -> FastAPI:
    """Return the application around a network; it compiles when it starts."""
    batcher = Batcher(predictor.probabilities, predictor.batch_size)
    explain = make_explain(predictor)

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        side, channels = predictor.data.test_size, predictor.data.channels
        blank = np.zeros((side, side, channels), np.uint8)
        predictor.probabilities(blank[None])
        if explain is not None:
            explain(blank, 0)
        task = asyncio.create_task(batcher.run())
        yield
        task.cancel()

    app = FastAPI(title="flax_resnet", version=VERSION, description=predictor.name, lifespan=life)

    @app.middleware("http")
    async def headers(
        request: Request, following: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await following(request)
        response.headers["X-Content-Type-Options"] = "nosniff"
        if not request.url.path.startswith("/docs"):
            response.headers["Content-Security-Policy"] = _POLICY
        return response

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Say that the network is there, and which."""
        return {"status": "ok", "network": predictor.name, "classes": len(predictor.class_names)}

    @app.post("/predict", openapi_extra=_BODY)
    async def predict(
        request: Request, top: int = Query(5, ge=1), explained: bool = Query(False, alias="explain")
    ) -> dict[str, Any]:
        """Return the likeliest classes of the picture that is the body: JPEG, PNG, WebP, BMP, GIF.

        With `explain=true` also where the network looks for the first of them, as a data URI.
        """
        data = await _body(request, limits.bytes)
        pixels = await run_in_threadpool(_prepare, predictor, data, limits.pixels)
        chances = await batcher(pixels)
        order = (-chances).argsort(kind="stable")[:top].tolist()
        names = predictor.class_names
        found = [{"class": names[at], "score": float(chances[at])} for at in order]
        answer: dict[str, Any] = {"network": predictor.name, "classes": found}
        if explained:
            answer["explanation"] = await _explanation(batcher, explain, pixels, order[0])
        return answer

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=_PAGE))
    return app


async def _body(request: Request, limit: int) -> bytes:
    """Return the body, of which no more than `limit` is ever held."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise HTTPException(415, "this is a form; send the picture itself as the body")
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > limit:
            raise HTTPException(413, f"the picture has more than {limit} bytes")
    return bytes(data)


def _prepare(predictor: Predictor, data: bytes, limit: int) -> np.ndarray:
    try:
        height, width = image_size(data)
        if height * width > limit:
            raise HTTPException(413, f"{width} x {height} pixels are more than {limit}")
        return predictor.prepare(data)
    except DecodeError as error:
        raise HTTPException(422, f"this is no picture that can be read: {error}") from None


async def _explanation(
    batcher: Batcher, explain: Explain | None, pixels: np.ndarray, label: int
) -> str | None:
    if explain is None:
        return None
    png = await batcher.in_turn(explain, pixels, label)
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
