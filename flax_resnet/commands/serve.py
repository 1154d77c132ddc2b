"""Classify images over HTTP: `python -m flax_resnet serve runs/photos`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flax_resnet.commands.networks import (
    add_network_arguments,
    add_threshold,
    add_train_size,
    named_predictor,
)
from flax_resnet.commands.reporting import Done
from flax_resnet.errors import InputError, install_extra

if TYPE_CHECKING:
    import uvicorn

EXAMPLE = "serve runs/photos --port 8000"
# Seconds that a stop waits for requests that are being answered.
_LAST_ANSWERS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_network_arguments(parser)
    add_train_size(parser)
    add_threshold(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1, only this machine)",
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="default: 8000; 0 takes any free port"
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="images at a time (default: 8)"
    )
    parser.add_argument(
        "--max-bytes", type=int, default=20 * 2**20, metavar="N", help="largest file (20 MiB)"
    )
    parser.add_argument(
        "--max-pixels", type=int, default=2**26, metavar="N", help="largest image (67 million)"
    )


def run(args: argparse.Namespace) -> Done:
    """Serve until SIGINT or SIGTERM, then finish pending requests."""
    try:
        import uvicorn

        from flax_resnet.serving.app import Limits, make_app
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "starlette", "uvicorn"):
            raise
        raise InputError(f"serve needs FastAPI: {install_extra('serve')}") from None
    with _listening(args.host, args.port) as listener:
        predictor = named_predictor(args)
        predictor.name = _without_folders(predictor.name, args.run)
        app = make_app(predictor, Limits(args.max_bytes, args.max_pixels))
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=_LAST_ANSWERS, access_log=False
        )
        # uvicorn raises the signal again after it stops; that would end the process.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        asyncio.run(_serve(uvicorn.Server(config), listener, args))
    print("stopped")
    return Done(None)


def _without_folders(name: str, source: str) -> str:
    """Return a network's name without the folders above its run or file, which are private."""
    path = Path(source)
    if not path.exists():  # published weights
        return name
    shown = path.resolve().name
    return shown if name == source else name.replace(f" of {path},", f" of {shown},")


async def _serve(server: uvicorn.Server, listener: socket.socket, args: argparse.Namespace) -> None:
    """Serve, and print the address once the network is compiled."""
    serving = asyncio.create_task(server.serve([listener]))
    while not serving.done() and not server.started:
        await asyncio.sleep(0.05)
    if not serving.done():
        name = f"[{args.host}]" if ":" in args.host else args.host
        address = f"http://{name}:{listener.getsockname()[1]}/"
        print(f"{address} (Ctrl-C stops)", flush=True)
        if args.json:
            # Printing it at the end, like other facts, would be too late.
            print(json.dumps({"address": address}), file=sys.__stdout__, flush=True)
    await serving


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"{host}:{port} cannot be listened on: {reason}. Choose another --host or --port"
            ) from None
        if not _is_loopback(listener.getsockname()[0]):
            print(
                f"warning: everyone who can reach {host} can use this; there is no login",
                file=sys.stderr,
            )
        yield listener


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
