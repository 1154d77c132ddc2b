"""Read the body of a request within a limit, also one that is compressed."""

import zlib

from fastapi import HTTPException, Request

# zlib detects which of the two it is.
_COMPRESSED = ("gzip", "x-gzip", "deflate")
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body, decompressed; stop reading when it is longer than `limit` bytes.

    Raises:
      HTTPException: it is a form, too long, or compressed in an unknown or damaged way.
    """
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise HTTPException(415, "this is a form; send the image itself as the body")
    coding = request.headers.get("content-encoding", "").strip().lower() or "identity"
    if coding not in ("identity", *_COMPRESSED):
        raise HTTPException(
            415,
            f"the body's Content-Encoding is {coding!r}; expected gzip, deflate or none",
            {"Accept-Encoding": "gzip, deflate"},
        )
    inflate = _Inflate(limit) if coding in _COMPRESSED else None
    data = bytearray()
    async for part in request.stream():
        data += part if inflate is None else inflate(part, len(data))
        if len(data) > limit:
            raise HTTPException(413, f"the image has more than {limit} bytes")
    if inflate is not None and not inflate.complete:
        raise HTTPException(422, "the body is not complete gzip or deflate data")
    return bytes(data)


class _Inflate:
    """Decompress a stream, at most one byte beyond the limit: a few kB may stand for gigabytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)

    @property
    def complete(self) -> bool:
        """Return whether the end of the compressed data was read."""
        return self._stream.eof

    def __call__(self, part: bytes, before: int) -> bytes:
        """Return what a part holds, after `before` bytes of the parts before it."""
        found = bytearray()
        try:
            while part and before + len(found) <= self._limit:
                if self._stream.eof:  # gzip files may follow each other
                    self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
                found += self._stream.decompress(part, self._limit + 1 - before - len(found))
                part = self._stream.unconsumed_tail or self._stream.unused_data
        except zlib.error as error:
            raise HTTPException(422, f"the body cannot be decompressed: {error}") from None
        return bytes(found)
