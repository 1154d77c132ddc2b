"""Write the tables of speed in README.md and docs/speed.md, between their marker comments.

    python -m tools.speed_table

A row is the newest measurement of a network on a device by `steps` or `gpu`. The lines below it, in
docs/speed.md only, come from `compile_time`, `memory`, `startup` and `scaling`. `--check` writes
nothing and compares the pages with the results.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, ROOT

SHORT_PAGE = ROOT / "README.md"
FULL_PAGE = ROOT / "docs" / "speed.md"
BEGIN = "<!-- speed: python -m tools.speed_table -->"
END = "<!-- speed ends -->"
SPEEDS = ("train_step", "inference", "gpu")
WORDS = {"train": "training", "inference": "inference", "folded-inference": "norms folded"}
HEADER = ("device", "network", "", "images/s", "x torch eager", "x torch.compile", "x frozen")
PEERS = ("torch-eager", "torch-compile", "torch-frozen")
PACKAGES = ("jax", "torch", "timm")
Result = dict[str, Any]


def load_results(folder: Path = RESULTS) -> list[Result]:
    """Return the results in a folder, the newest first."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    dated = [result for result in results if "environment" in result]
    return sorted(dated, key=lambda result: str(result["environment"]["date"]), reverse=True)


def block(results: Sequence[Result], short: bool = False) -> str:
    """Return what is written between the markers; `short` has training and inference only."""
    rows = [
        row for row in _speed_rows(results) if not (short and row[2] == WORDS["folded-inference"])
    ]
    lines = []
    if rows:
        lines += [markdown(cells) for cells in (HEADER, ("---",) * len(HEADER), *rows)]
        lines += ["", _versions(results)]
    else:
        lines += ["Not measured yet: `python -m benchmarks.peers.steps train`, then `inference`."]
    more = [] if short else [f"- {line}" for line in _other_lines(results)]
    return "\n".join([*lines, *(["", *more] if more else [])])


def page_with(text: str, new: str, markers: tuple[str, str] = (BEGIN, END)) -> str:
    """Return a page with a new block between its markers.

    Raises:
      SystemExit: the page does not have both markers, in this order.
    """
    first, last = markers
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise SystemExit(f"the page has no {first} ... {last} to write between")
    return f"{before}{first}\n{new}\n{last}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables, or with `--check` return 1 if one is not up to date."""
    options = _parser().parse_args(arguments)
    results = load_results(options.results)
    pages = [options.page] if options.page else [SHORT_PAGE, FULL_PAGE]
    stale = []
    for page in pages:
        text = page.read_text()
        new = page_with(text, block(results, short=page == SHORT_PAGE))
        if new != text:
            stale.append(page.name)
            if not options.check:
                page.write_text(new)
    if options.check:
        print(f"not up to date: {', '.join(stale)}" if stale else "up to date")
    return int(options.check and bool(stale))


def _speed_rows(results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    """Yield the newest row that has a peer for each network, device and phase."""
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for result in results:
        if result.get("benchmark") not in SPEEDS:
            continue
        for entry in result.get("cases", [result]):
            for ours, against in entry.get("ratios", {}).items():
                network = _network(entry["settings"])
                key = (result["device"], network, WORDS[ours])
                speed = entry["parts"][f"jax-{ours}"]["images_per_second"]["median"]
                cells = [_ratio(against.get(peer)) for peer in PEERS]
                found.setdefault(
                    key, (*key, f"{speed:,.3g}" if speed < 100 else f"{speed:,.0f}", *cells)
                )
    yield from (found[key] for key in sorted(found))


def _other_lines(results: Sequence[Result]) -> Iterator[str]:
    """Yield a line with the newest result of each other benchmark and device."""
    makers = {
        "compile_time": ("peers", _compile_line),
        "memory": ("peers", _memory_line),
        "startup": ("trainer", _startup_line),
        "scaling": ("trainer", _scaling_line),
    }
    newest: dict[tuple[str, str], Result] = {}
    for result in results:
        if result.get("benchmark") in makers:
            newest.setdefault((result["benchmark"], result["device"]), result)
    for (name, device), result in sorted(newest.items()):
        room, make = makers[name]
        text = make(result)
        if text:
            yield f"{device}: {text} (`benchmarks.{room}.{name}`)"


def _compile_line(result: Result) -> str:
    entry = result["cases"][-1]
    parts = [f"{name} {value:.1f}" for name, value in entry.get("ratios", {}).items()]
    return f"seconds to the first step of `{entry['settings']['model']}`, {', '.join(parts)}"


def _memory_line(result: Result) -> str:
    """Return the ratios of the largest batch."""
    largest = max((ratio["batch_size"] for ratio in result["ratios"]), default=0)
    parts = []
    for ratio in result["ratios"]:
        figures = (
            f"{name} {ratio[name]:.2f}" for name in ("kept", "planned", "peak") if name in ratio
        )
        if ratio["batch_size"] == largest:
            parts.append(f"{ratio['mode']} over {ratio['over']}: {', '.join(figures)}")
    model = result["cases"][-1]["model"]
    return f"bytes of a step of `{model}`, batch {largest}; {'; '.join(parts)}" if parts else ""


def _startup_line(result: Result) -> str:
    parts = [f"{name}: {_ratio(ratio)}" for name, ratio in result["ratios"].items()]
    return f"seconds of a fresh process, {'; '.join(parts)}" if parts else ""


def _scaling_line(result: Result) -> str:
    most = max(entry["devices"] for entry in result["cases"])
    parts = [
        f"`{entry['settings']['model']}`, norm {entry['norm']}: {entry['over_parameters']:.3f}"
        for entry in result["cases"]
        if entry["devices"] == most
    ]
    return f"bytes that {most} devices sum a step, over the parameters', {'; '.join(parts)}"


def _versions(results: Sequence[Result]) -> str:
    newest = next(result for result in results if result.get("benchmark") in SPEEDS)
    packages = newest["environment"]["packages"]
    known = ", ".join(f"{name} {packages[name]}" for name in PACKAGES if name in packages)
    return f"Above 1 flax_resnet is faster; (spread over the rounds). {known}."


def _network(settings: dict[str, Any]) -> str:
    return (
        f"`{settings['model']}`, {settings['dtype']}, batch {settings['batch_size']}, "
        f"{settings['image_size']} px"
    )


def _ratio(ratio: dict[str, Any] | None) -> str:
    if not ratio:
        return ""
    # A single round has no spread.
    spread = "" if len(ratio["values"]) == 1 else f" ({ratio['spread']:.0%})"
    return f"{ratio['median']:.2f}{spread}"


def markdown(cells: Sequence[str]) -> str:
    """Return a row of a table; cells of dashes end its header."""
    return f"|{'|'.join(cells)}|" if cells[0] == "---" else f"| {' | '.join(cells)} |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.speed_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--page", type=Path, help="default: README.md and docs/speed.md")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: benchmarks/results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
