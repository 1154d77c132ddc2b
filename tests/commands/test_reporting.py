"""What commands say on standard error."""

import warnings
from pathlib import Path

import pytest

import flax_resnet
from flax_resnet.commands.reporting import print_warnings_plainly


def test_only_warnings_of_this_package_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    print_warnings_plainly()
    ours = str(Path(flax_resnet.__file__).parent / "data" / "open.py")
    assert warnings.formatwarning(UserWarning("a\x1bb"), UserWarning, ours, 1) == (
        "warning: a\\x1bb\n"
    )
    for category, file in ((UserWarning, "/other/file.py"), (DeprecationWarning, ours)):
        assert f"{file}:1: {category.__name__}: a" in warnings.formatwarning(
            category("a"), category, file, 1, ""
        )
