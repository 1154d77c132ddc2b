"""Write the table of compiled programs in docs/accelerators.md, between its marker comments.

    python -m tools.accelerator_table

A row is the newest result of `benchmarks.peers.aot` for a network, its settings and a target.
`--check` writes nothing and compares the page with the results.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, ROOT
from benchmarks.peers.aot import GB, bound_line, title
from tools.speed_table import load_results, markdown, page_with

PAGE = ROOT / "docs" / "accelerators.md"
MARKERS = ("<!-- programs: python -m tools.accelerator_table -->", "<!-- programs end -->")
HEADER = ("program", "kernels", "GB", "MB an image", "planned GB", "all-reduces", "bound")
Program = dict[str, Any]


def block(results: Sequence[dict[str, Any]]) -> str:
    """Return what is written between the markers."""
    rows = sorted(_rows(results))
    if not rows:
        return "Not compiled yet: `python -m benchmarks.peers.aot --suite gpu`."
    lines = [markdown(cells) for cells in (HEADER, ("---",) * len(HEADER), *rows)]
    packages = _packages(results)
    return "\n".join([*lines, "", f"Ours (Linen's in brackets). {packages}."])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table, or with `--check` return 1 if it is not up to date."""
    options = _parser().parse_args(arguments)
    text = options.page.read_text()
    new = page_with(text, block(load_results(options.results)), MARKERS)
    if options.check:
        print("up to date" if new == text else f"not up to date: {options.page.name}")
        return int(new != text)
    options.page.write_text(new)
    return 0


def _rows(results: Sequence[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    seen = set()
    for result in results:  # the newest first
        for entry in result["cases"] if result.get("benchmark") == "aot" else []:
            name, ours = title(entry), entry["programs"]["ours"]
            if name in seen or ours["status"] != "done":
                continue
            seen.add(name)
            linen = entry["programs"].get("linen", {})
            yield (name, *_cells(ours, linen), _sent(ours), _bound(entry, ours))


def _cells(ours: Program, linen: Program) -> Iterator[str]:
    for key, scale, digits in (
        ("kernels", 1.0, 0),
        ("bytes", GB, 2),
        ("bytes_per_image", 1e6, 1),
        ("planned", GB, 2),
    ):
        cell = f"{ours[key] / scale:,.{digits}f}"
        yield f"{cell} ({linen[key] / scale:,.{digits}f})" if key in linen else cell


def _sent(program: Program) -> str:
    found = program["collectives"].get("all-reduce")
    return f"{found['count']}, {found['bytes'] / 2**20:.1f} MiB" if found else ""


def _bound(entry: dict[str, Any], program: Program) -> str:
    cycles = program["estimated_cycles"]
    more = f"; {cycles['cycles'] / 1e6:.1f} M cycles by XLA" if cycles else ""
    return bound_line(entry, program) + more


def _packages(results: Sequence[dict[str, Any]]) -> str:
    newest = next(result for result in results if result.get("benchmark") == "aot")
    known = newest["environment"]["packages"]
    return ", ".join(f"{name} {version}" for name, version in known.items() if "jax" in name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.accelerator_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: docs/accelerators.md")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: benchmarks/results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
