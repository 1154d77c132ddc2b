"""Compile our programs and a peer's for an accelerator that is not there, and compare what they do.

    python -m benchmarks.peers.aot --target h100 --devices 8 --model resnet50 --peer linen
    python -m benchmarks.peers.aot --suite gpu

Kernels, bytes by kind and by layer, planned memory, layouts and communication are read from the
optimized program. `linen` is the same network written with Flax's own layers. Nothing runs, so
nothing is timed: what bytes and products take at the maker's figures is a bound and not a speed,
and a TPU's cycles are XLA's own model, which lacks some operations. Algorithms of cuDNN are not
chosen, since that needs a device. `pip install '.[aot-gpu]'` or `'.[aot-tpu]'` installs the
compilers. Every program is compiled in its own process.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import flax_resnet
from benchmarks.case import Case
from benchmarks.measuring import (
    add_result_options,
    record_environment,
    shown,
    table,
    target_path,
    write_json,
)
from benchmarks.parts import case_settings, run_part
from benchmarks.targets import TARGETS, check_installed
from flax_resnet.errors import InputError

# The phase and the mode of a case.
PHASES = {
    "train": ("train", "jit"),
    "inference": ("inference", "jit"),
    "folded": ("inference", "folded"),
}
LIMIT_S = 1800.0
GB = 1e9
_DEEP = dict(model="cifar_resnet110", batch=128)
_SHALLOW = dict(model="resnet50", stage_sizes=(1, 1, 1, 1), batch=128)
# A full training step takes libtpu's compiler longer than anybody waits: one block a stage.
SUITES: dict[str, list[dict[str, Any]]] = {
    "gpu": [
        dict(model="resnet50", batch=256),
        dict(model="resnet50", batch=256, devices=8),
        dict(model="resnet50", batch=256, phase="inference"),
        dict(model="resnet50", batch=256, phase="folded"),
        dict(model="resnet50", batch=1, phase="folded"),
        dict(model="resnet50", batch=128, dtype="float32"),
        dict(model="resnet101", batch=256),
        dict(model="resnext50_32x4d", batch=256),
        dict(model="resnest50d", batch=128, peer=None),
        dict(model="densenet121", batch=128, peer=None),
        dict(model="unet_resnet34", batch=32, peer=None),
        dict(model="cifar_resnet20", batch=128),
        _DEEP,
        _DEEP | dict(scan_blocks=True, remat=True, peer=None),
    ],
    "tpu": [
        _SHALLOW,
        _SHALLOW | dict(devices=4),
        _SHALLOW | dict(devices=256),
        _SHALLOW | dict(phase="inference"),
        _SHALLOW | dict(phase="folded"),
        dict(model="cifar_resnet20", batch=128),
    ],
}
DEFAULT_TARGETS = {"gpu": "h100", "tpu": "v5e"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile each case, write the JSON, print tables; return 1 if one failed, else 0."""
    options = _parser().parse_args(arguments)
    try:
        rows = list(chosen_cases(options))
        for target in {case.target for case, _ in rows}:
            check_installed(str(target))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    entries: list[dict[str, Any]] = []
    result = {
        "benchmark": "aot",
        "environment": record_environment(options.note),
        "cases": entries,
    }
    first = rows[0][0]
    kind = f"aot {options.suite or f'{first.model} {options.phase}'}"
    devices = "" if options.suite else f" x {first.devices}"
    path = target_path(options, kind, f"{first.target}{devices}")
    for case, peer in rows:
        entry: dict[str, Any] = {"settings": _settings(case), "programs": {}}
        entries.append(entry)
        for name, mode in (("ours", case.mode), *([(peer, peer)] if peer else [])):
            outcome = _compiled(dataclasses.replace(case, mode=mode), options)
            entry["programs"][name] = outcome
            write_json(path, result)
            print(f"{title(entry)}, {name}: {_brief(outcome)}", flush=True)
        print(f"\n{summary(entry)}\n", flush=True)
    print(f"written to {shown(path)}")
    programs = [program for entry in entries for program in entry["programs"].values()]
    return int(any(program["status"] != "done" for program in programs))


def chosen_cases(options: argparse.Namespace) -> Iterator[tuple[Case, str | None]]:
    """Yield each case to compile and its peer: those of the suite, or the one of the options."""
    base = vars(options) | dict(peer=options.peer or ("linen" if options.suite else None))
    rows = SUITES[options.suite] if options.suite else [{}]
    for row in rows:
        chosen = base | row
        model = flax_resnet.create_model(chosen["model"])
        target = chosen["target"] or DEFAULT_TARGETS[options.suite or "gpu"]
        phase, mode = PHASES[chosen["phase"]]
        case = Case(
            phase,
            mode,
            platform="cpu",  # of the process
            model=chosen["model"],
            dtype=chosen["dtype"],
            batch_size=chosen["batch"] * chosen["devices"],
            image_size=chosen["image_size"] or model.image_size,
            num_classes=model.num_classes,
            stage_sizes=chosen["stage_sizes"],
            norm_group=chosen["norm_group"],
            scan_blocks=chosen["scan_blocks"],
            remat=chosen["remat"],
            target=target,
            devices=chosen["devices"],
            dump=chosen["dump"],
        )
        # Folded norms have no peer of their own: without folding is how it is written by hand.
        yield case, chosen["peer"]


def summary(entry: dict[str, Any]) -> str:
    """Return the figures of a case's programs side by side."""
    programs = {
        name: program for name, program in entry["programs"].items() if program["status"] == "done"
    }
    rows: list[tuple[str, ...]] = []

    def row(label: str, value: Any) -> None:
        rows.append((label, *(value(program) for program in programs.values())))

    row("kernels", lambda program: f"{program['kernels']:,}")
    row("GB", lambda program: f"{program['bytes'] / GB:,.3f}")
    row("MB an image", lambda program: f"{program['bytes_per_image'] / 1e6:,.1f}")
    row("planned GB", lambda program: f"{program['planned'] / GB:,.3f}")
    row("temporary GB", lambda program: f"{program['temporary'] / GB:,.3f}")
    for group in ("by_kind", "by_layer"):
        names = dict.fromkeys(name for program in programs.values() for name in program[group])
        for name in names:
            row(f"  {name}", lambda program, group=group, name=name: _part(program[group], name))
    row("float32 maps", lambda program: str(program["float32_maps"]["count"]))
    row("fused convolutions", lambda program: str(program["fused_convolutions"]))
    lines = [table((title(entry), *programs), rows)]
    for name, program in programs.items():
        lines += [
            f"{name}, convolutions: {_listed(program['convolutions'])}",
            f"{name}, collectives: {_sent(program['collectives'])}",
            f"{name}, bound, not a speed: {bound_line(entry, program)}",
        ]
        if program["estimated_cycles"]:
            lines += [f"{name}, XLA's own model: {cycles_line(program['estimated_cycles'])}"]
    return "\n".join(lines)


def bound_line(entry: dict[str, Any], program: dict[str, Any]) -> str:
    """Return the least time of a program at the maker's figures, and images per second at most."""
    settings, bound = entry["settings"], program["bound"]
    least = max(second for second in bound.values() if second is not None)
    images = settings["batch_size"] / settings["devices"] / least
    products = bound["products_s"]
    by_products = "" if products is None else f", products {1000 * products:.3g} ms"
    return f"bytes {1000 * bound['memory_s']:.3g} ms{by_products}: <= {images:,.0f} images/s"


def cycles_line(found: dict[str, int]) -> str:
    """Return the cycles in XLA's model of a TPU, and what is missing in it."""
    missing = found["kernels_without"]
    return f"{found['cycles'] / 1e6:.1f} M cycles, {missing} kernels have no estimate"


def title(entry: dict[str, Any]) -> str:
    """Return the name of a case."""
    settings = entry["settings"]
    depth = f" {'-'.join(map(str, sizes))}" if (sizes := settings["stage_sizes"]) else ""
    extras = [name for name in ("scan_blocks", "remat") if settings[name]]
    extras += [f"norm_group {settings['norm_group']}"] if settings["norm_group"] else []
    batch = settings["batch_size"] // settings["devices"]
    phase = "folded" if settings["mode"] == "folded" else settings["phase"]
    words = [f"{settings['model']}{depth}", phase, settings["dtype"], f"{batch} a device", *extras]
    return f"{settings['target']} x {settings['devices']}, {', '.join(words)}"


def _compiled(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    began = time.monotonic()
    outcome = run_part("benchmarks.peers.aot_side", case, options.limit)
    outcome.pop("started_at", None)
    return outcome | {"seconds": round(time.monotonic() - began, 1)}


def _settings(case: Case) -> dict[str, Any]:
    settings = case_settings(case) | {"phase": case.phase, "mode": case.mode}
    kept = (
        "target", "devices", "phase", "mode", "model", "dtype", "batch_size", "image_size",
        "stage_sizes", "norm_group", "scan_blocks", "remat",
    )  # fmt: skip
    return {name: settings[name] for name in kept}


def _brief(outcome: dict[str, Any]) -> str:
    if outcome["status"] != "done":
        return f"{outcome['status']}: {outcome['reason']}"
    return f"{outcome['kernels']:,} kernels, {outcome['bytes'] / GB:,.2f} GB"


def _part(group: dict[str, Any], name: str) -> str:
    if name not in group:
        return ""
    return f"{group[name]['kernels']:,} / {group[name]['bytes'] / GB:,.2f} GB"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _sent(collectives: dict[str, Any]) -> str:
    parts = [
        f"{found['count']} {name} ({found['asynchronous']} asynchronous), "
        f"{found['bytes'] / 2**20:.1f} MiB"
        for name, found in collectives.items()
    ]
    return "; ".join(parts) or "none"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.aot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--suite", choices=SUITES, help="the cases of the documents")
    parser.add_argument("--target", choices=TARGETS, help="default: h100, or v5e in suite tpu")
    parser.add_argument("--devices", type=int, default=1, help="that share the batch (default: 1)")
    parser.add_argument("--model", default="resnet50", help="default: resnet50")
    parser.add_argument("--batch", type=int, default=256, help="images a device (default: 256)")
    parser.add_argument("--phase", choices=PHASES, default="train", help="default: train")
    parser.add_argument("--dtype", default="bfloat16", help="default: bfloat16")
    parser.add_argument("--peer", choices=("linen",), help="compile the same network of Flax too")
    parser.add_argument("--image-size", type=int, help="default: the network's")
    parser.add_argument("--stage-sizes", type=int, nargs="+", help="blocks of each stage")
    parser.add_argument("--norm-group", type=int, help="images that batch norm takes together")
    parser.add_argument("--scan-blocks", action="store_true")
    parser.add_argument("--remat", action="store_true")
    parser.add_argument("--dump", help="a folder for the text of the programs")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds for a program")
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
