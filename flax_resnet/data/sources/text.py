"""Tables and lists of files that other programs and systems wrote."""

import codecs
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_text(data: bytes) -> str:
    """Return the text in a file: UTF-8, or UTF-16 as Excel and PowerShell write, without a mark.

    Bytes that are not UTF-8, as in names of files, become surrogates.

    Raises:
      UnicodeError: UTF-16 ends within a character.
    """
    if data.startswith(_WIDE):
        return data.decode("utf-16")
    # Without a mark, the zero bytes of the first two letters show the order.
    for order, at in (("le", slice(1, 4, 2)), ("be", slice(0, 3, 2))):
        if data[at] == b"\0\0" and len(data) % 2 == 0:
            return data.decode(f"utf-16-{order}")
    return data.decode("utf-8-sig", "surrogateescape")


def listed_files(lines: Iterable[str]) -> Iterator[str]:
    """Yield the paths in a list, one a line, such as standard input, as they are in this system.

    Standard input is read as bytes, because its text may be of another encoding than expected.
    """
    for text in _lines(lines):
        if line := text.removeprefix("\ufeff").rstrip("\r\n"):
            yield local_path(line, Path())


def _lines(lines: Iterable[str]) -> Iterator[str]:
    stream = getattr(lines, "buffer", None)
    if stream is None:
        yield from lines
        return
    first = stream.readline()
    if first.startswith(_WIDE) or b"\0" in first[:4]:
        yield from decode_text(first + stream.read()).splitlines()
    else:  # line by line, since a list can be as long as a pipe
        yield from map(decode_text, itertools.chain([first], stream))


def local_path(text: str, folder: Path) -> str:
    r"""Return a path as this system writes it: `cat/é.jpg` for `cat\é.jpg` in any encoding.

    A backslash, or a byte that is not UTF-8, is part of a name where such a file exists.

    Args:
      folder: where the path begins.
    """
    if (text.isascii() and "\\" not in text) or os.path.lexists(folder / text):
        return text
    path = text if os.sep == "\\" else text.replace("\\", "/")
    other = from_windows(path)
    return other if os.path.lexists(folder / other) else path


def from_windows(text: str) -> str:
    """Return text of `decode_text` with bytes that are not UTF-8 as in Windows-1252.

    Excel saves tables in it, unless it is told to take UTF-8.
    """
    data = text.encode("utf-8", "surrogateescape")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")
