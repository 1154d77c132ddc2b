"""Untrusted names become text that any terminal can show."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_resnet.errors import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain.jpg", "plain.jpg"),
        ("Käfer 🐞.jpg".encode(), "Käfer 🐞.jpg"),
        (b"a\nb\t\x1b[31m", r"a\nb\t\x1b[31m"),
        (b"caf\xe9", r"caf\xe9"),
        ("left\u202eright".encode(), r"left\u202eright"),
    ],
)
def test_control_sequences_are_escaped(name: bytes, shown: str) -> None:
    assert printable(os.fsdecode(name)) == shown


def test_line_breaks_can_be_kept() -> None:
    assert printable("two\nlines\r", keep="\n") == "two\nlines\\r"


@given(st.binary())
def test_every_output_accepts_any_file_name(name: bytes) -> None:
    shown = printable(os.fsdecode(name))
    assert shown.isprintable()
    shown.encode("utf-8")
