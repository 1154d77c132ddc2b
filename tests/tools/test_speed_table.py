"""The tables of speed in README.md and docs/speed.md agree with the committed results."""

import json

import pytest

from tools import speed_table
from tools.speed_table import BEGIN, END, block, load_results, main, page_with


def speed(value):
    return {"median": value, "spread": 0.1, "values": [value, value]}


def result(benchmark="train_step", date="2026-01-01", ratio=2.0, **more):
    entry = {
        "settings": {"model": "resnet50", "dtype": "float32", "batch_size": 16, "image_size": 224},
        "parts": {"jax-train": {"images_per_second": speed(10 * ratio)}},
        "ratios": {"train": {"torch-eager": speed(ratio), "best": speed(ratio)}},
    }
    packages = {"jax": "1.0", "torch": "2.0"}
    environment = {"date": date, "packages": packages}
    base = {"benchmark": benchmark, "device": "2 cores", "environment": environment}
    return base | {"cases": [entry]} | more


def test_the_pages_are_up_to_date():
    assert main(["--check"]) == 0, "not up to date: python -m tools.speed_table"


def test_the_newest_result_of_a_network_counts(tmp_path):
    for number, (date, ratio) in enumerate((("2026-02-01", 3.0), ("2026-01-01", 2.0))):
        text = json.dumps(result(date=date, ratio=ratio))
        (tmp_path / f"{number}.json").write_text(text)
    rows = [line for line in block(load_results(tmp_path)).splitlines() if "resnet50" in line]
    assert rows == [
        "| 2 cores | `resnet50`, float32, batch 16, 224 px | training | 30 | 3.00 (10%) |  |  |"
    ]


def test_other_benchmarks_have_a_line_each():
    figures = {
        "compile_time": {
            "cases": [{"settings": {"model": "m"}, "ratios": {"unrolled: cold / cached": 4.0}}]
        },
        "memory": {
            "cases": [{"model": "m"}],
            "ratios": [
                {"model": "m", "batch_size": size, "mode": "remat", "over": "plain", "kept": 0.25}
                for size in (8, 16)
            ],
        },
        "startup": {"ratios": {"import torch / import flax_resnet": speed(1.5)}},
        "scaling": {
            "cases": [
                {
                    "settings": {"model": "m"},
                    "norm": "global",
                    "devices": count,
                    "over_parameters": 1 + count / 100,
                }
                for count in (1, 8)
            ]
        },
    }
    text = block([result(name, **more) for name, more in figures.items()])
    assert "Not measured yet" in text
    assert "cold / cached 4.0 (`benchmarks.peers.compile_time`)" in text
    assert "batch 16; remat over plain: kept 0.25 (`benchmarks.peers.memory`)" in text
    assert "import flax_resnet: 1.50 (10%) (`benchmarks.trainer.startup`)" in text
    assert "8 devices sum a step, over the parameters', `m`, norm global: 1.080" in text


def test_only_the_text_between_the_markers_changes(tmp_path):
    page, results = tmp_path / "page.md", tmp_path / "results"
    results.mkdir()
    (results / "a.json").write_text(json.dumps(result()))
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    arguments = ["--page", str(page), "--results", str(results)]
    assert main([*arguments, "--check"]) == 1
    assert "old" in page.read_text()
    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| device |")
    assert text.endswith(f"{END}\nafter\n")


def test_a_page_without_markers_is_refused():
    with pytest.raises(SystemExit, match="the page has no"):
        page_with("nothing", "new")


def test_a_single_round_claims_no_spread():
    assert speed_table._ratio({"median": 0.684, "spread": 0.0, "values": [0.684]}) == "0.68"
