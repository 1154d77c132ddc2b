"""Text from outside, such as a file's name, in a form that every terminal can show."""

import os


def printable(text: str | os.PathLike[str], keep: str = "") -> str:
    r"""Write what is not printable as escapes: \n, \x1b, and \xff where a name is no UTF-8.

    Args:
      keep: characters that stay as they are, such as line breaks.
    """
    text = os.fspath(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    # Python reads a byte of a name that is no UTF-8 as U+DC80 to U+DCFF.
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
