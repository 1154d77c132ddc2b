"""The routes: /predict, /health, /docs, and a page at /."""

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
from flax_resnet.inference.stream import classes_to_json, top_classes
from flax_resnet.serving.batching import Batcher
from flax_resnet.serving.body import read_body
from flax_resnet.version import VERSION

_PAGE = Path(__file__).parent / "page"
# The page loads nothing from elsewhere; FastAPI's own /docs does.
_POLICY = "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'"
_BODY = {"requestBody": {"required": True, "content": {"image/*": {"schema": {"type": "string"}}}}}


@dataclass(frozen=True)
class Limits:
    """The largest request that is accepted."""

    bytes: int = 20 * 2**20
    pixels: int = 2**26


def _answer(predictor: Predictor, probabilities: np.ndarray, top: int | None) -> dict[str, Any]:
    """Return the JSON of a prediction."""
    least = predictor.threshold
    classes = classes_to_json(top_classes(probabilities, predictor.class_names, top, least))
    result = {"network": predictor.name, "classes": classes}
    return result | ({"threshold": least} if least else {})


def make_app(predictor: Predictor, limits: Limits) -> FastAPI:
    """Return the application that serves a network, which is compiled at startup."""
    batcher = Batcher(predictor.probabilities, predictor.batch_size)
    explain = make_explain(predictor)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        blank = np.zeros((predictor.data.test_size,) * 2 + (predictor.data.channels,), np.uint8)
        predictor.probabilities(blank[None])
        if explain is not None:
            explain(blank, 0)
        task = asyncio.create_task(batcher.run())
        yield
        task.cancel()

    name = predictor.name
    app = FastAPI(title="flax_resnet", version=VERSION, description=name, lifespan=lifespan)

    @app.middleware("http")
    async def headers(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await call_next(request)
        response.headers["X-Content-Type-Options"] = "nosniff"
        if not request.url.path.startswith("/docs"):
            response.headers["Content-Security-Policy"] = _POLICY
        return response

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Return the status and the name of the network."""
        return {"status": "ok", "network": predictor.name, "classes": len(predictor.class_names)}

    @app.post("/predict", openapi_extra=_BODY)
    async def predict(
        request: Request,
        top: int | None = Query(None, ge=1),
        explained: bool = Query(False, alias="explain"),
    ) -> dict[str, Any]:
        """Return the most probable classes of the image in the body, of a format that we decode.

        They are the first five, or, of a network that finds several classes in an image, all that
        reach the threshold; `top` is the most that are returned. With `explain=true` also the
        Grad-CAM of the most probable class, as the data URI of a PNG.
        """
        data = await read_body(request, limits.bytes)
        pixels = await run_in_threadpool(_prepare, predictor, data, limits.pixels)
        probabilities = await batcher(pixels)
        result = _answer(predictor, probabilities, top)
        if explained:
            best = int(probabilities.argmax())
            result["explanation"] = await _explanation(batcher, explain, pixels, best)
        return result

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_PAGE / "index.html")

    # FastAPI answers HEAD only where it is named; load balancers and `curl -I` ask with it.
    for path, answer in (("/health", health), ("/", page)):
        app.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False)
    app.mount("/page", StaticFiles(directory=_PAGE))
    return app


def _prepare(predictor: Predictor, data: bytes, limit: int) -> np.ndarray:
    try:
        height, width = image_size(data)
        if height * width > limit:
            raise HTTPException(413, f"{width} x {height} pixels are more than {limit}")
        return predictor.prepare(data)
    except DecodeError as error:
        raise HTTPException(422, f"this is not an image that can be read: {error}") from None


async def _explanation(
    batcher: Batcher, explain: Explain | None, pixels: np.ndarray, label: int
) -> str | None:
    if explain is None:
        return None
    png = await batcher.in_turn(explain, pixels, label)
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
