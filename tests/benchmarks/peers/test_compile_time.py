"""Compile time by depth: the quick mode, and the ratios of its figures."""

import json

import pytest

from benchmarks.peers import compile_time


@pytest.mark.exhaustive
def test_the_quick_mode_compiles_cold_and_from_the_cache(tmp_path, capsys):
    arguments = ["--quick", "--kinds", "unrolled", "--output", str(tmp_path)]
    assert compile_time.main(arguments) == 0
    (path,) = tmp_path.glob("quick-compile-time-cifar-resnet20_*.json")
    (entry,) = json.loads(path.read_text())["cases"]
    assert [turn["cache"] for turn in entry["turns"]] == ["cold", "cached"]
    assert set(entry["figures"]["unrolled, cold"]) == set(compile_time.FIGURES)
    assert set(entry["ratios"]) == {"unrolled: cold / cached"}
    assert "cifar_resnet20, unrolled, cached" in capsys.readouterr().out


def test_ratios_compare_first_steps():
    turns = [
        {"kind": kind, "cache": cache, "first_step_s": seconds}
        for kind, cache, seconds in (
            ("unrolled", "cold", 8.0),
            ("unrolled", "cached", 2.0),
            ("scanned", "cold", 4.0),
            ("torch.compile", "cold", 24.0),
        )
    ]
    assert compile_time.ratios(compile_time.figures(turns)) == {
        "unrolled: cold / cached": 4.0,
        "cold: unrolled / scanned": 2.0,
        "cold: torch.compile / unrolled": 3.0,
    }


def test_skipped_parts_are_reported(capsys):
    turn = {"kind": "torch.compile", "cache": "cold", "status": "skipped", "reason": "no torch"}
    assert compile_time.figures([turn]) == {}
    assert compile_time._said(turn) == "skipped: no torch"
