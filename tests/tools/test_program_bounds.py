"""Detect changes that make compiled programs compute, read, move or store more.

No test in this file asserts a time.
"""

import json

import jax
import pytest

from tools import program_bounds
from tools.program_bounds import CASES, bounds_for, excesses, measure, read_bounds

# Each takes seconds to compile.
QUICK = {"bottleneck, folded inference"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in CASES],
)
def test_a_program_stays_under_its_bounds(name):
    bound = bounds_for(jax.__version__, read_bounds())[name]
    above = excesses(measure(CASES[name]), bound)
    assert not above, (
        f"{name}: {'; '.join(above)}. If this is intended, record new bounds: "
        "python -m tools.program_bounds"
    )


def test_every_version_has_bounds_for_every_case():
    for found in read_bounds().values():
        assert set(found) == set(CASES)


def test_bounds_are_those_of_the_nearest_version_before():
    bounds = {version: {"a": {"x": 1.0}} for version in ("0.9.0", "0.10.0", "0.10.2")}
    for version, used in (("0.10.1", "0.10.0"), ("0.12.0.1", "0.10.2"), ("0.8", "0.9.0")):
        assert bounds_for(version, bounds) is bounds[used]


def test_an_excess_beyond_the_margin_is_reported():
    bound = {"xla_flops": 100.0, "copies": 20.0}
    assert excesses({"xla_flops": 101.0, "copies": 23.0}, bound) == []
    (text,) = excesses({"xla_flops": 102.0, "copies": 1.0}, bound)
    assert text == "xla_flops is 102, expected at most 100"


def test_recording_keeps_the_bounds_of_other_versions(tmp_path, monkeypatch, capsys):
    path = tmp_path / "programs.json"
    path.write_text(json.dumps({"0.1.0": {"a": {"copies": 1.0}}}))
    monkeypatch.setattr(program_bounds, "measure", lambda case: {"copies": 2.0})
    assert program_bounds.main(["--output", str(path)]) == 0
    versions = json.loads(path.read_text())
    assert list(versions) == ["0.1.0", jax.__version__]
    assert versions[jax.__version__]["bottleneck, train"] == {"copies": 2.0}
    assert "copies" in capsys.readouterr().out
